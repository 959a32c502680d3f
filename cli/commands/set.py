"""`set`: images, variables and resources of the containers of a workload."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from cli.app import Family, Settings, pass_settings
from cli.completing import kinds_and_names


@click.group("set", cls=Family, examples="sampan set image deployment/web app=web:2\nsampan set env rc/web LEVEL=debug")
def set_() -> None:
    """Change images, variables or resources of a workload's containers."""


def _choosing(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("-l", "--selector", "labels", default="", metavar="LABELS", help="On those with these labels."),
        click.option("--all", "every", is_flag=True, help="On every one of the kind in the namespace."),
        click.option(
            "--dry-run",
            type=click.Choice(["none", "server"]),
            default="none",
            show_default=True,
            help="Try it, store nothing.",
        ),
    ):
        command = option(command)
    return command


_ARGUMENTS = click.argument(
    "args", nargs=-1, required=True, metavar="KIND/NAME... | KIND NAME...", shell_complete=kinds_and_names
)
_CONTAINER = click.option(
    "-c", "--containers", "pattern", default="*", metavar="NAME", help="Only this container; * is any text."
)


@set_.command(
    "image",
    examples="""
    sampan set image deployment/web app=web:2
    sampan set image rc/web '*=web:2'
    sampan set image pod web app=web:2 log=log:3
    """,
)
@_ARGUMENTS
@_choosing
@pass_settings
def image(settings: Settings, args: tuple[str, ...], labels: str, every: bool, dry_run: str) -> None:
    """Set the image of containers, each as CONTAINER=IMAGE; * is every container."""
    from cli.templates import chosen
    from common.errors import BadRequest

    what, pairs = _split(args)
    if not pairs or any(value is None for _, value in pairs):
        raise BadRequest("say which images: CONTAINER=IMAGE, for instance app=web:2 or '*=web:2'")

    def change(spec: Any) -> None:
        for pattern, value in pairs:
            for container in chosen(spec, pattern, init=True):
                container.image = value or ""

    _edit(settings, what, labels, every, dry_run, change, "image updated")


@set_.command(
    "env",
    examples="""
    sampan set env rc/web LEVEL=debug OLD-
    sampan set env deployment/web --from=configmap/app
    sampan set env deployment/web --list
    """,
)
@_ARGUMENTS
@_CONTAINER
@click.option("--from", "source", metavar="KIND/NAME", help="A variable for every key of a ConfigMap or Secret.")
@click.option("--prefix", default="", help="Before the names that --from makes.")
@click.option("--list", "show", is_flag=True, help="Show what is set; change nothing.")
@_choosing
@pass_settings
def env(
    settings: Settings,
    args: tuple[str, ...],
    pattern: str,
    source: str | None,
    prefix: str,
    show: bool,
    labels: str,
    every: bool,
    dry_run: str,
) -> None:
    """Set variables (NAME=VALUE) or remove them (NAME-)."""
    from cli import variables
    from cli.picking import pick
    from cli.targets import shown
    from cli.templates import chosen, pod_spec
    from common.errors import BadRequest

    what, pairs = _split(args)
    with settings.connect() as client:
        if show:
            for kind, obj in pick(client, what, settings.namespace, labels=labels, every=every):
                for container in chosen(pod_spec(kind, obj), pattern):
                    click.echo(f"# {shown(kind, obj.metadata.name)}, container {container.name}")
                    click.echo("".join(f"{line}\n" for line in variables.lines(container)), nl=False)
            return
        made = variables.from_object(client, settings.namespace, source, prefix) if source else []
    if not pairs and not made:
        raise BadRequest("say which variables: NAME=VALUE sets one, NAME- removes it, --from takes them from an object")

    def change(spec: Any) -> None:
        for container in chosen(spec, pattern):
            variables.change(container, pairs, made)

    _edit(settings, what, labels, every, dry_run, change, "env updated")


@set_.command(
    "resources",
    examples="""
    sampan set resources rc/web --limits=cpu=500m,memory=256Mi
    sampan set resources deployment/web -c app --requests=cpu=100m
    """,
)
@_ARGUMENTS
@_CONTAINER
@click.option("--limits", default="", metavar="NAME=QUANTITY,...", help="The most they get; 0 removes a limit.")
@click.option("--requests", default="", metavar="NAME=QUANTITY,...", help="What is set aside; 0 removes a request.")
@_choosing
@pass_settings
def resources(
    settings: Settings,
    args: tuple[str, ...],
    pattern: str,
    limits: str,
    requests: str,
    labels: str,
    every: bool,
    dry_run: str,
) -> None:
    """Set what containers ask for and may use at most."""
    from cli import variables
    from cli.templates import chosen
    from common.errors import BadRequest

    what, pairs = _split(args)
    if pairs:
        raise BadRequest(f'"{pairs[0][0]}=...": quantities are given with --limits and --requests')
    most, least = variables.quantities("--limits", limits), variables.quantities("--requests", requests)
    if not most and not least:
        raise BadRequest("say what to set: --limits=cpu=1,memory=512Mi or --requests=cpu=100m")

    def change(spec: Any) -> None:
        for container in chosen(spec, pattern):
            variables.merge(container.resources.limits, most)
            variables.merge(container.resources.requests, least)

    _edit(settings, what, labels, every, dry_run, change, "resource requirements updated")


def _split(args: tuple[str, ...]) -> tuple[list[str], list[tuple[str, str | None]]]:
    """Objects, and NAME=VALUE or NAME- (None) behind them."""
    what: list[str] = []
    pairs: list[tuple[str, str | None]] = []
    for arg in args:
        if "=" in arg:
            name, _, value = arg.partition("=")
            pairs.append((name, value))
        elif arg.endswith("-") and what:
            pairs.append((arg[:-1], None))
        else:
            what.append(arg)
    return what, pairs


def _edit(
    settings: Settings,
    what: list[str],
    labels: str,
    every: bool,
    dry_run: str,
    change: Callable[[Any], None],
    done: str,
) -> None:
    from cli import failure
    from cli.picking import pick
    from cli.targets import shown
    from cli.templates import pod_spec
    from common.errors import SampanError

    failed = False
    with settings.connect() as client:
        for kind, obj in pick(client, what, settings.namespace, labels=labels, every=every):
            name = shown(kind, obj.metadata.name)
            try:
                _, changed = client.edit(
                    kind,
                    obj.metadata.namespace,
                    obj.metadata.name,
                    lambda wanted, kind=kind: change(pod_spec(kind, wanted)),  # type: ignore[misc]
                    dry_run=dry_run == "server",
                )
            except SampanError as error:
                failed = True
                failure.report(SampanError(f"{name}: {failure.message(error)}"))
                continue
            note = " (server dry run)" if dry_run == "server" else ""
            click.echo(f"{name} {done if changed else 'unchanged'}{note}")
    if failed:
        raise failure.Failed
