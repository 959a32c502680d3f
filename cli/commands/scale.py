"""`scale`: how many pods a controller keeps."""

from __future__ import annotations

from typing import Any

import click

from cli.app import Settings, Verb, pass_settings
from cli.completing import kinds_and_names


@click.command(
    "scale",
    cls=Verb,
    examples="""
    sampan scale rc/web --replicas=10
    sampan scale rc web db --replicas=0
    sampan scale rc/web --current-replicas=2 --replicas=3
    """,
)
@click.argument("what", nargs=-1, required=True, metavar="KIND/NAME... | KIND NAME...", shell_complete=kinds_and_names)
@click.option("--replicas", type=click.IntRange(min=0), required=True, help="How many pods there shall be.")
@click.option("--current-replicas", type=int, default=-1, help="Only if there are to be this many now.")
@click.option("-l", "--selector", "labels", default="", metavar="LABELS", help="Those with these labels.")
@click.option("--all", "every", is_flag=True, help="Every one of the kind in the namespace.")
@pass_settings
def scale(
    settings: Settings, what: tuple[str, ...], replicas: int, current_replicas: int, labels: str, every: bool
) -> None:
    """Set the number of replicas of a controller."""
    from cli.picking import pick
    from cli.targets import shown
    from common.errors import BadRequest, Conflict

    with settings.connect() as client:
        for kind, obj in pick(client, what, settings.namespace, labels=labels, every=every):
            name = obj.metadata.name
            if not hasattr(obj, "spec") or "replicas" not in obj.spec.DESCRIPTOR.fields_by_name:
                raise BadRequest(f"{kind.plural} have no replicas: only controllers such as rc/web can be scaled")

            def change(wanted: Any, name: str = name) -> None:
                if current_replicas >= 0 and wanted.spec.replicas != current_replicas:
                    raise Conflict(
                        f"{name} has {wanted.spec.replicas} replicas, not {current_replicas} "
                        "as --current-replicas expects: nothing was changed"
                    )
                wanted.spec.replicas = replicas

            client.edit(kind, obj.metadata.namespace, name, change)
            click.echo(f"{shown(kind, name)} scaled")
