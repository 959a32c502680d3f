"""`explain`: what a field of a manifest is, or why a pod is where it is."""

from __future__ import annotations

import json

import click

from cli.app import Settings, Verb, pass_settings
from cli.completing import kinds_and_names


@click.command(
    "explain",
    cls=Verb,
    examples="""
    sampan explain pods
    sampan explain deployment.spec.strategy
    sampan explain rc.spec --recursive
    sampan explain pod/web
    """,
)
@click.argument("what", nargs=-1, required=True, metavar="KIND[.FIELD...] | pod/NAME", shell_complete=kinds_and_names)
@click.option("--recursive", is_flag=True, help="Only names and types, of all fields below.")
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="Of a pod: the whole answer.")
@pass_settings
def explain(settings: Settings, what: tuple[str, ...], recursive: bool, output: str | None) -> None:
    """Show what a kind or a field of it is, and what Sampan does with it; asks no master.

    Of a pod (pod/NAME or pod NAME): for every node why the pod does not fit there, or how many points it gets.
    """
    from cli import fielddoc
    from common.errors import BadRequest

    if len(what) == 2 or "/" in what[0]:
        _pod(settings, what, output)
        return
    if output is not None:
        raise BadRequest("-o is for pods: name one, like pod/web")
    if len(what) != 1:
        raise BadRequest(f"name one kind or field, like pods.spec.containers, got {' '.join(what)}")
    click.echo(fielddoc.page(what[0], recursive=recursive), nl=False)


def _pod(settings: Settings, what: tuple[str, ...], output: str | None) -> None:
    from cli import placement, targets
    from common import kinds
    from common.errors import BadRequest

    kind, name = targets.one(what)
    if kind is not kinds.POD:
        raise BadRequest(f"the scheduler places pods: name one, like pod/web, got {' '.join(what)}")
    with settings.connect() as client:
        answer = client.explain_pod(settings.namespace, name)
    if output is None:
        placement.page(name, answer)
        return
    document = placement.document(name, settings.namespace, answer)
    if output == "json":
        click.echo(json.dumps(document, indent=2))
        return
    import yaml

    click.echo(yaml.safe_dump(document, sort_keys=False), nl=False)
