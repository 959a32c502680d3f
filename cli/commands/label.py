"""`label` and `annotate`: texts on objects, set, changed and removed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from cli import marks
from cli.app import Settings, Verb, pass_settings


def _options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.argument("args", nargs=-1, required=True, metavar="KIND NAME... KEY=VALUE... KEY-..."),
        click.option("--overwrite", is_flag=True, help="Change a value that is set already."),
        click.option("-l", "--selector", "labels", default="", metavar="LABELS", help="On those with these labels."),
        click.option("--all", "every", is_flag=True, help="On every one of the kind in the namespace."),
        click.option("--list", "show", is_flag=True, help="Show what is there."),
    ):
        command = option(command)
    return command


@click.command(
    "label",
    cls=Verb,
    examples="""
    sampan label node node-1 disk=ssd
    sampan label pods web tier=front --overwrite
    sampan label pods --all tier-
    sampan label rc/web stage=test
    """,
)
@_options
@pass_settings
def label(settings: Settings, args: tuple[str, ...], overwrite: bool, labels: str, every: bool, show: bool) -> None:
    """Set labels (KEY=VALUE) or remove them (KEY-)."""
    _mark(settings, args, overwrite, labels, every, show, "labels", "labeled", "unlabeled")


@click.command(
    "annotate",
    cls=Verb,
    examples="""
    sampan annotate pod web note='kept for the audit'
    sampan annotate svc/web owner=ops --overwrite
    sampan annotate svc/web owner-
    """,
)
@_options
@pass_settings
def annotate(settings: Settings, args: tuple[str, ...], overwrite: bool, labels: str, every: bool, show: bool) -> None:
    """Set annotations (KEY=VALUE) or remove them (KEY-)."""
    _mark(settings, args, overwrite, labels, every, show, "annotations", "annotated", "annotated")


def _mark(
    settings: Settings,
    args: tuple[str, ...],
    overwrite: bool,
    labels: str,
    every: bool,
    show: bool,
    where: str,
    done: str,
    removed: str,
) -> None:
    from cli import failure
    from cli.picking import pick
    from cli.targets import shown
    from common.errors import BadRequest, SampanError

    try:
        what, change = marks.split(args)
    except ValueError as error:
        raise BadRequest(str(error)) from None
    if not change and not show:
        raise BadRequest(f"say which {where}: KEY=VALUE sets one, KEY- removes it")
    failed = False
    with settings.connect() as client:
        for kind, obj in pick(client, what, settings.namespace, labels=labels, every=every):
            name = shown(kind, obj.metadata.name)

            def write(wanted: Any) -> None:
                try:
                    change.carry_out(getattr(wanted.metadata, where), overwrite=overwrite)
                except ValueError as error:
                    raise BadRequest(str(error)) from None

            try:
                if change:
                    obj, changed = client.edit(kind, obj.metadata.namespace, obj.metadata.name, write)
                    click.echo(f"{name} {(done if change.values else removed) if changed else f'not {done}'}")
            except SampanError as error:
                failed = True
                failure.report(SampanError(f"{name}: {failure.message(error)}"))
                continue
            if show:
                for key, value in sorted(getattr(obj.metadata, where).items()):
                    click.echo(f"{key}={value}")
    if failed:
        raise failure.Failed
