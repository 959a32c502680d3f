"""`taint`: keeps pods that do not tolerate something away from nodes."""

from __future__ import annotations

from typing import Any

import click

from cli.app import Settings, Verb, pass_settings
from cli.completing import nodes


@click.command(
    "taint",
    cls=Verb,
    examples="""
    sampan taint node-1 dedicated=db:NoSchedule
    sampan taint node-1 dedicated=web:NoSchedule --overwrite
    sampan taint node-1 dedicated:NoSchedule-
    sampan taint node-1 dedicated-
    sampan taint -l rack=3 broken:NoExecute
    """,
)
@click.argument("args", nargs=-1, required=True, metavar="NODE... KEY=VALUE:EFFECT... KEY:EFFECT- KEY-",
                shell_complete=nodes)  # fmt: skip
@click.option("-l", "--selector", "labels", default="", metavar="LABELS", help="Nodes with these labels.")
@click.option("--all", "every", is_flag=True, help="Every node.")
@click.option("--overwrite", is_flag=True, help="Change the value of a taint that is there already.")
@pass_settings
def taint(settings: Settings, args: tuple[str, ...], labels: str, every: bool, overwrite: bool) -> None:
    """Set taints (KEY=VALUE:EFFECT) or remove them (KEY:EFFECT-, or KEY- for every effect).

    Effects are NoSchedule (no new pods), PreferNoSchedule (rather not) and NoExecute (those that are there go, too).
    """
    from cli import failure, taints
    from cli.picking import pick
    from common.errors import BadRequest, SampanError
    from common.kinds import NODE

    try:
        names, wish = taints.split(args)
    except ValueError as error:
        raise BadRequest(str(error)) from None
    if not wish.marks and not wish.removals:
        raise BadRequest("say which taint: KEY=VALUE:EFFECT sets one, KEY:EFFECT- or KEY- removes it")
    # "taint nodes NODE ..." is kubectl's way to write it.
    if names and names[0] in ("node", "nodes", "no"):
        names = names[1:]
    bare = [name.removeprefix("node/").removeprefix("nodes/") for name in names]
    failed = False

    def change(node: Any) -> None:
        try:
            wish.carry_out(node, overwrite=overwrite)
        except ValueError as error:
            raise BadRequest(str(error)) from None

    with settings.connect() as client:
        for _, node in pick(client, ["nodes", *bare], "", labels=labels, every=every):
            name = node.metadata.name
            try:
                _, changed = client.edit(NODE, "", name, change)
                word = "tainted" if wish.marks else "untainted"
                click.echo(f"node/{name} {word if changed else f'not changed: it is {word} already'}")
            except SampanError as error:
                failed = True
                failure.report(error)
    if failed:
        raise failure.Failed
