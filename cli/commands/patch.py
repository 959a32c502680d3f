"""`patch`: changes part of an object."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from cli.app import Settings, Verb, pass_settings
from cli.completing import kinds_and_names

_TYPES = {"strategic": "STRATEGIC", "merge": "MERGE", "json": "JSON"}


@click.command(
    "patch",
    cls=Verb,
    examples="""
    sampan patch rc/web -p '{"spec": {"replicas": 4}}'
    sampan patch pod web -p 'spec: {containers: [{name: app, image: "app:2"}]}'
    sampan patch cm/app --type=json -p '[{"op": "remove", "path": "/data/old"}]'
    sampan patch svc/web --type=merge --patch-file=change.yaml
    """,
)
@click.argument("what", nargs=-1, required=True, metavar="KIND/NAME | KIND NAME", shell_complete=kinds_and_names)
@click.option("-p", "--patch", "text", metavar="TEXT", help="The change, as YAML or JSON.")
@click.option(
    "--patch-file", "file", metavar="FILE|-", type=click.Path(allow_dash=True), help="Read the change from a file."
)
@click.option(
    "--type",
    "how",
    type=click.Choice(list(_TYPES)),
    default="strategic",
    show_default=True,
    help="strategic: lists merge by their keys; merge: lists are replaced (RFC 7386); json: operations (RFC 6902).",
)
@click.option("--subresource", type=click.Choice(["status"]), help="Change the status instead.")
@click.option(
    "--dry-run", type=click.Choice(["none", "server"]), default="none", show_default=True, help="Try it, store nothing."
)
@click.option("-o", "--output", type=click.Choice(["name", "yaml", "json"]), help="Print the object instead.")
@pass_settings
def patch(
    settings: Settings,
    what: tuple[str, ...],
    text: str | None,
    file: str | None,
    how: str,
    subresource: str | None,
    dry_run: str,
    output: str | None,
) -> None:
    """Change part of an object, whatever else is changed at the same time."""
    from cli import failure
    from cli import output as texts
    from cli.targets import one, shown
    from common import manifest
    from common.errors import BadRequest

    if (text is None) == (file is None):
        raise BadRequest("say what to change, with -p TEXT or with --patch-file FILE")
    if file is not None:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    kind, name = one(what)
    with settings.connect() as client:
        before = client.get(kind, settings.namespace, name)
        obj, warnings = client.patch(
            kind,
            settings.namespace,
            name,
            text or "",
            _TYPES[how],
            status=subresource is not None,
            dry_run=dry_run == "server",
        )
    for warning in warnings:
        failure.warn(f"{shown(kind, name)}: {warning}")
    if output == "name":
        click.echo(shown(kind, name))
    elif output is not None:
        document = manifest.to_manifest(obj)
        click.echo(texts.to_yaml(document) if output == "yaml" else texts.to_json(document), nl=False)
    else:
        done = "patched" if obj != before else "patched (no change)"
        click.echo(f"{shown(kind, name)} {done}{' (server dry run)' if dry_run == 'server' else ''}")
