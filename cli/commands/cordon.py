"""`cordon` and `uncordon`: whether a node gets new pods."""

from __future__ import annotations

from typing import Any

import click

from cli.app import Settings, Verb, pass_settings
from cli.completing import nodes


@click.command(
    "cordon",
    cls=Verb,
    examples="""
    sampan cordon node-1
    sampan cordon -l disk=hdd
    """,
)
@click.argument("names", nargs=-1, metavar="NODE...", shell_complete=nodes)
@click.option("-l", "--selector", "labels", default="", metavar="LABELS", help="Nodes with these labels.")
@pass_settings
def cordon(settings: Settings, names: tuple[str, ...], labels: str) -> None:
    """Put no new pods on nodes; what runs there stays."""
    _set(settings, names, labels, True)


@click.command(
    "uncordon",
    cls=Verb,
    examples="""
    sampan uncordon node-1
    """,
)
@click.argument("names", nargs=-1, metavar="NODE...", shell_complete=nodes)
@click.option("-l", "--selector", "labels", default="", metavar="LABELS", help="Nodes with these labels.")
@pass_settings
def uncordon(settings: Settings, names: tuple[str, ...], labels: str) -> None:
    """Let nodes have new pods again."""
    _set(settings, names, labels, False)


def _set(settings: Settings, names: tuple[str, ...], labels: str, unschedulable: bool) -> None:
    from cli import failure
    from cli.picking import pick
    from common.errors import NotFound

    def change(node: Any) -> None:
        node.spec.unschedulable = unschedulable

    failed = False
    word = "cordoned" if unschedulable else "uncordoned"
    with settings.connect() as client:
        # One at a time: a name that is wrong does not keep the others from being done.
        bare = [name.removeprefix("node/").removeprefix("nodes/") for name in names]
        for what in [["nodes", name] for name in bare] or [["nodes"]]:
            try:
                for kind, node in pick(client, what, "", labels=labels):
                    _, changed = client.edit(kind, "", node.metadata.name, change)
                    click.echo(f"node/{node.metadata.name} {word if changed else f'already {word}'}")
            except NotFound as error:
                failed = True
                failure.report(error)
    if failed:
        raise failure.Failed
