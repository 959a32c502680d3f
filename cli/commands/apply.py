"""`apply` and `create`: manifest files to the master."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cli.app import DURATION, Settings, Verb, pass_settings
from cli.options import FILES, RECURSIVE

if TYPE_CHECKING:
    from cli.client import Applied, Client
    from cli.manifests import Item

_DRY_RUN = click.option(
    "--dry-run",
    type=click.Choice(["none", "client", "server"]),
    default="none",
    show_default=True,
    help="client: only read and check the files; server: let the master try it, too; nothing is stored.",
)
_OUTPUT = click.option(
    "-o",
    "--output",
    type=click.Choice(["name", "yaml", "json"]),
    help="Print the objects instead of what was done.",
)


@click.command(
    "apply",
    cls=Verb,
    examples="""
    sampan apply -f web.yaml
    sampan apply -f examples/ -R
    cat web.yaml | sampan apply -f -
    sampan apply -f web.yaml --dry-run=server
    sampan apply -f web/ --prune -l app=web
    sampan apply -f web.yaml --wait --timeout=5m
    """,
)
@FILES
@RECURSIVE
@_DRY_RUN
@_OUTPUT
@click.option("--prune", is_flag=True, help="Delete what an earlier apply made and the files no longer hold.")
@click.option("-l", "--selector", "labels", default="", metavar="LABELS", help="Of --prune: only with these labels.")
@click.option("--all", "every", is_flag=True, help="Of --prune: whatever the labels.")
@click.option(
    "--prune-allowlist",
    "kinds",
    multiple=True,
    metavar="KIND",
    help="Of --prune: only this kind; may be given several times.",
)
@click.option("--wait", is_flag=True, help="Wait until every workload is rolled out; the exit code tells how it went.")
@click.option(
    "--timeout", type=DURATION, default="15m", show_default=True, metavar="DURATION",
    help="Of --wait: give up after this time (0: never).",
)  # fmt: skip
@pass_settings
def apply(
    settings: Settings,
    files: tuple[str, ...],
    recursive: bool,
    dry_run: str,
    output: str | None,
    prune: bool,
    labels: str,
    every: bool,
    kinds: tuple[str, ...],
    wait: bool,
    timeout: float,
) -> None:
    """Create or change objects as manifest files say.

    All files are read and checked first; when one has a fault, nothing is sent. Fields that were set by others
    stay, fields that were removed from the file since the last apply go, as with kubectl.

    With --wait the exit code is 0 when all is rolled out, 2 when a rollout was rolled back, 3 when one failed or the
    time was up; the reason is told in one line, with the last log lines of the container that failed.
    """
    from common.errors import BadRequest

    if (labels or every or kinds) and not prune:
        raise BadRequest("-l, --all and --prune-allowlist say what --prune may delete: add --prune")
    if prune and bool(labels) == every:
        raise BadRequest("--prune deletes objects: say which may go, with -l LABELS or with --all, one of them")
    if prune and dry_run == "client":
        raise BadRequest("--prune asks the master what is there: use --dry-run=server")
    done = _send(settings, files, recursive, dry_run, output, "apply")
    if prune:
        _prune(settings, [obj.metadata.uid for obj in done], labels, kinds, dry_run == "server")
    if wait and dry_run == "none":
        _wait(settings, done, timeout)


@click.command(
    "create",
    cls=Verb,
    examples="""
    sampan create -f pod.yaml
    sampan create -f job/ --dry-run=client
    """,
)
@FILES
@RECURSIVE
@_DRY_RUN
@_OUTPUT
@pass_settings
def create(settings: Settings, files: tuple[str, ...], recursive: bool, dry_run: str, output: str | None) -> None:
    """Create objects from manifest files; an object that exists is an error."""
    _send(settings, files, recursive, dry_run, output, "create")


def _send(
    settings: Settings, files: tuple[str, ...], recursive: bool, dry_run: str, output: str | None, verb: str
) -> list[Any]:
    """The objects as they are now. Raises Failed when one of them could not be sent."""
    from cli import failure, manifests
    from common.errors import SampanError, Unavailable

    items = manifests.load(files, recursive=recursive)
    if settings.namespace_given:
        manifests.check_namespaces(items, settings.namespace)
    printed: list[Any] = []
    sent: list[Any] = []
    failed = 0
    with settings.connect() as client:
        for item in items:
            try:
                done = _one(client, item, settings.namespace, verb, dry_run)
            except Unavailable:
                raise
            except SampanError as error:
                failed += 1
                failure.report(_at(item, error))
                continue
            sent.append(done.obj)
            _tell(item, done, dry_run, output, printed)
    _print(printed, output)
    if failed:
        raise failure.Failed
    return sent


def _wait(settings: Settings, done: list[Any], timeout: float) -> None:
    """Ends the command with the exit code of the worst rollout."""
    from cli import waitrollout
    from cli.rollouts.registry import ROLLOUTS
    from common import kinds

    workloads = [
        (kind, obj.metadata.namespace, obj.metadata.name) for obj in done if (kind := kinds.of(obj)).kind in ROLLOUTS
    ]
    with settings.connect() as client:
        code = waitrollout.wait_for_all(client, workloads, timeout)
    if code:
        raise click.exceptions.Exit(code)


def _prune(settings: Settings, kept: list[str], labels: str, names: tuple[str, ...], dry_run: bool) -> None:
    from cli.prune import allowed, superfluous
    from cli.targets import shown

    note = " (server dry run)" if dry_run else ""
    with settings.connect() as client:
        for kind in allowed(names):
            for obj in superfluous(client.list(kind, settings.namespace, labels=labels).items, kept):
                name = obj.metadata.name
                client.delete(kind, obj.metadata.namespace, name, uid=obj.metadata.uid, dry_run=dry_run)
                click.echo(f"{shown(kind, name)} pruned{note}")


def _one(client: Client, item: Item, namespace: str, verb: str, dry_run: str) -> Applied:
    from cli.client import Applied

    if dry_run == "client":
        if verb == "create":
            return Applied(item.message, "created", item.warnings)
        there = client.find(item.kind, item.namespace(namespace), item.name)
        return Applied(item.message, "created" if there is None else "configured", item.warnings)
    send = client.apply if verb == "apply" else client.create
    return send(item.text, item.namespace(namespace), dry_run=dry_run == "server")


def _at(item: Item, error: Exception) -> Exception:
    from cli import failure
    from common.errors import SampanError

    return SampanError(f"{item.source}: {failure.message(error)}")


def _tell(item: Item, done: Applied, dry_run: str, output: str | None, printed: list[Any]) -> None:
    from cli import failure
    from cli.targets import shown

    name = shown(item.kind, done.obj.metadata.name or item.name)
    for warning in done.warnings:
        failure.warn(f"{name}: {warning}")
    if output is None:
        note = {"client": " (dry run)", "server": " (server dry run)"}.get(dry_run, "")
        click.echo(f"{name} {done.outcome}{note}")
    elif output == "name":
        click.echo(name)
    else:
        printed.append(done.obj)


def _print(objects: list[Any], output: str | None) -> None:
    if output in (None, "name") or not objects:
        return
    from cli import output as text
    from common import manifest

    found = [manifest.to_manifest(obj) for obj in objects]
    whole = found[0] if len(found) == 1 else text.as_list(found)
    click.echo(text.to_yaml(whole) if output == "yaml" else text.to_json(whole), nl=False)
