"""`api-resources`: the kinds and how they may be called."""

from __future__ import annotations

import click

from cli.app import Settings, Verb, pass_settings


@click.command(
    "api-resources",
    cls=Verb,
    examples="""
    sampan api-resources
    sampan api-resources -o name
    """,
)
@click.option("--namespaced/--no-namespaced", default=None, help="Only kinds inside, or outside, namespaces.")
@click.option("--no-headers", is_flag=True, help="Only the rows of the table.")
@click.option("-o", "--output", type=click.Choice(["name"]), help="Names only.")
@pass_settings
def api_resources(settings: Settings, namespaced: bool | None, no_headers: bool, output: str | None) -> None:
    """List the kinds this command knows; asks no master."""
    from cli import screen
    from common import kinds

    found = [kind for kind in kinds.KINDS if namespaced is None or kind.namespaced == namespaced]
    found.sort(key=lambda kind: kind.plural)
    if output == "name":
        for kind in found:
            click.echo(kind.resource)
        return
    screen.rows(
        ("NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND"),
        [
            (kind.plural, ",".join(kind.short_names), kind.api_version, str(kind.namespaced).lower(), kind.kind)
            for kind in found
        ],
        show_headings=not no_headers,
    )
