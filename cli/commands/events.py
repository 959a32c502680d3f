"""`events`: what happened in a namespace or to one object."""

from __future__ import annotations

import time

import click

from cli.app import Settings, Verb, pass_settings


@click.command(
    "events",
    cls=Verb,
    examples="""
    sampan events
    sampan events --for pod/web -w
    sampan events -A --types=Warning
    """,
)
@click.option("--for", "about", default="", metavar="KIND/NAME", help="Only those about this object.")
@click.option("-A", "--all-namespaces", is_flag=True, help="In every namespace.")
@click.option("-w", "--watch", is_flag=True, help="Then go on and show new ones.")
@click.option("--types", default="", metavar="TYPE[,TYPE]", help="Only Normal, or only Warning.")
@click.option("--no-headers", is_flag=True, help="Only the rows of the table.")
@click.option("-o", "--output", type=click.Choice(["wide", "yaml", "json"]), help="Another form.")
@pass_settings
def events(
    settings: Settings,
    about: str,
    all_namespaces: bool,
    watch: bool,
    types: str,
    no_headers: bool,
    output: str | None,
) -> None:
    """Show what happened, oldest first."""
    from cli import follow, targets
    from cli import output as text
    from cli.columns.events import order
    from cli.columns.registry import columns
    from cli.screen import Table
    from common import kinds
    from common.errors import BadRequest
    from common.manifest import to_manifest

    fields = ""
    namespace = "" if all_namespaces else settings.namespace
    if about:
        kind, name = targets.one((about,))
        fields = f"involvedObject.kind={kind.kind},involvedObject.name={name}"
        if not kind.namespaced:
            # Events about nodes and namespaces live in the namespace "default".
            namespace = ""
    wanted = {word.strip().capitalize() for word in types.split(",") if word.strip()}
    if wanted - {"Normal", "Warning"}:
        raise BadRequest(f"--types={types}: there are Normal and Warning")
    with settings.connect() as client:
        start = client.list(kinds.EVENT, namespace, fields=fields)
        found = sorted((e for e in start.items if not wanted or e.type in wanted), key=order)
        if output in ("yaml", "json"):
            whole = text.as_list([to_manifest(event) for event in found])
            click.echo(text.to_yaml(whole) if output == "yaml" else text.to_json(whole), nl=False)
            return
        table = Table(columns("Event", wide=output == "wide", namespaces=all_namespaces), headings=not no_headers)
        if found:
            table.show(found, time.time())
        elif not watch:
            click.echo(f"No events found{f' in {namespace} namespace' if namespace else ''}.", err=True)
        if watch:
            for change in follow.changes(client, kinds.EVENT, namespace, start, fields=fields):
                if change.type != "DELETED" and (not wanted or change.obj.type in wanted):
                    table.show([change.obj], time.time())
