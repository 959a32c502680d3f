"""`rollout`: how a changed template reaches its pods: status, history, undo, pause, resume, restart."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from cli.app import DURATION, Family, Settings, pass_settings
from cli.completing import kinds_and_names

if TYPE_CHECKING:
    from cli.client import Client
    from cli.rollouts.revision import Revision
    from common.kinds import Kind

_WHAT = click.argument(
    "what", nargs=-1, required=True, metavar="KIND/NAME... | KIND NAME...", shell_complete=kinds_and_names
)
_LABELS = click.option("-l", "--selector", "labels", default="", metavar="LABELS", help="Those with these labels.")
RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"


@click.group(
    "rollout",
    cls=Family,
    examples="""
    sampan rollout status deployment/web
    sampan rollout undo deployment/web --to-revision=3
    sampan rollout restart deployment/web
    """,
)
def rollout() -> None:
    """Watch and steer rollouts of Deployments and DaemonSets."""


@rollout.command(
    "status",
    examples="""
    sampan rollout status deployment/web
    sampan rollout status deployment/web --timeout=2m
    sampan rollout status deployment/web --watch=false
    """,
)
@_WHAT
@_LABELS
@click.option("-w", "--watch/--no-watch", "watch", default=True, help="Wait until it is through (the default).")
@click.option("--timeout", type=DURATION, default="0s", metavar="DURATION", help="Give up after this time (0: never).")
@click.option("--revision", type=click.IntRange(min=0), default=0, help="Fail when another revision runs.")
@pass_settings
def status(settings: Settings, what: tuple[str, ...], labels: str, watch: bool, timeout: float, revision: int) -> None:
    """Show how far a rollout is, until its end.

    The exit code is 0 when it is through, 2 when it was rolled back, 3 when it failed or the time was up.
    """
    from cli import waitrollout

    until = time.monotonic() + timeout if timeout > 0 else None
    code = 0
    with settings.connect() as client:
        for kind, obj in _pick(client, what, settings.namespace, labels, managed=False):
            name = obj.metadata.name
            with waitrollout.Progress() as progress:
                waiter = waitrollout.RolloutWait(
                    client,
                    kind,
                    obj.metadata.namespace,
                    name,
                    until=until,
                    show=progress.show,
                    revision=revision,
                    give_up=False,
                )
                outcome = waiter.wait() if watch else waiter.once()
            waitrollout.tell(outcome, waitrollout.hint_for(kind, name) if outcome.code == 3 else "")
            code = max(code, outcome.code)
    if code:
        raise click.exceptions.Exit(code)


@rollout.command(
    "history",
    examples="""
    sampan rollout history deployment/web
    sampan rollout history deployment/web --revision=2
    """,
)
@_WHAT
@_LABELS
@click.option("--revision", type=click.IntRange(min=0), default=0, help="Show the pod template of this revision.")
@pass_settings
def history(settings: Settings, what: tuple[str, ...], labels: str, revision: int) -> None:
    """List the revisions of a Deployment or DaemonSet with what caused them (annotation kubernetes.io/change-cause)."""
    from cli import screen
    from cli.describe.page import Page
    from cli.describe.template import template
    from cli.rollouts.revision import pick
    from cli.targets import shown
    from common.errors import NotFound

    with settings.connect() as client:
        for kind, obj in _pick(client, what, settings.namespace, labels):
            mine = _revisions(client, kind, obj)
            if not revision:
                click.echo(shown(kind, obj.metadata.name))
                screen.rows(("REVISION", "CHANGE-CAUSE"), [(str(one.number), one.cause or "<none>") for one in mine])
                continue
            found = pick(mine, revision)
            if found is None:
                raise NotFound(f"{shown(kind, obj.metadata.name)} has no revision {revision}")
            click.echo(f"{shown(kind, obj.metadata.name)} with revision #{revision}")
            page = Page()
            template(page, found.template)
            click.echo(str(page), nl=False)


@rollout.command(
    "undo",
    examples="""
    sampan rollout undo deployment/web
    sampan rollout undo deployment/web --to-revision=3
    sampan rollout undo deployment/web --dry-run=server
    """,
)
@_WHAT
@_LABELS
@click.option("--to-revision", type=click.IntRange(min=0), default=0, help="The revision to go to (0: the one before).")
@click.option("--dry-run", type=click.Choice(["none", "client", "server"]), default="none", show_default=True)
@pass_settings
def undo(settings: Settings, what: tuple[str, ...], labels: str, to_revision: int, dry_run: str) -> None:
    """Go back to an earlier revision of a Deployment or DaemonSet; its pods are replaced by its own rules."""
    from cli.rollouts.deployment import bare
    from cli.rollouts.revision import pick
    from cli.targets import shown
    from common.errors import BadRequest, NotFound

    with settings.connect() as client:
        for kind, obj in _pick(client, what, settings.namespace, labels):
            name = shown(kind, obj.metadata.name)
            mine = _revisions(client, kind, obj)
            if getattr(obj.spec, "paused", False):
                raise BadRequest(f"{name} is paused: resume it first with `sampan rollout resume {name}`")
            chosen = pick(mine, to_revision)
            if chosen is None:
                wanted = f"no revision {to_revision}" if to_revision else "no earlier revision"
                raise NotFound(f"{name} has {wanted}: see `sampan rollout history {name}`")
            if bare(obj.spec.template) == chosen.template:
                click.echo(f"{name} skipped rollback (current template already matches revision {chosen.number})")
                continue
            note = {"none": "", "client": " (dry run)", "server": " (server dry run)"}[dry_run]
            if dry_run != "client":
                client.edit(
                    kind,
                    obj.metadata.namespace,
                    obj.metadata.name,
                    chosen.put_back,
                    dry_run=dry_run == "server",
                )
            click.echo(f"{name} rolled back{note}")


@rollout.command("pause", examples="sampan rollout pause deployment/web")
@_WHAT
@_LABELS
@pass_settings
def pause(settings: Settings, what: tuple[str, ...], labels: str) -> None:
    """Let changes of the template wait until `resume`; scaling goes on."""
    _set_paused(settings, what, labels, True)


@rollout.command("resume", examples="sampan rollout resume deployment/web")
@_WHAT
@_LABELS
@pass_settings
def resume(settings: Settings, what: tuple[str, ...], labels: str) -> None:
    """Let a paused Deployment go on."""
    _set_paused(settings, what, labels, False)


@rollout.command(
    "restart",
    examples="""
    sampan rollout restart deployment/web
    sampan rollout restart deployment -l tier=front
    """,
)
@_WHAT
@_LABELS
@pass_settings
def restart(settings: Settings, what: tuple[str, ...], labels: str) -> None:
    """Replace all pods by new ones, as a rollout of the same template."""
    from datetime import UTC, datetime

    from common.errors import BadRequest

    moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def change(obj: Any) -> None:
        if getattr(obj.spec, "paused", False):
            raise BadRequest(f"{obj.metadata.name} is paused: resume it first with `sampan rollout resume`")
        obj.spec.template.metadata.annotations[RESTARTED_AT] = moment

    _edit(settings, what, labels, change, "restarted")


def _set_paused(settings: Settings, what: tuple[str, ...], labels: str, paused: bool) -> None:
    from common.errors import BadRequest
    from protos import apps_pb2

    word = "paused" if paused else "resumed"

    def change(obj: Any) -> None:
        if not isinstance(obj, apps_pb2.Deployment):
            raise BadRequest(f"{obj.metadata.name}: only Deployments can be {word}")
        if obj.spec.paused == paused:
            raise BadRequest(f"{obj.metadata.name} is {'already paused' if paused else 'not paused'}")
        obj.spec.paused = paused

    _edit(settings, what, labels, change, word)


def _edit(settings: Settings, what: tuple[str, ...], labels: str, change: Callable[[Any], None], word: str) -> None:
    from cli.targets import shown

    with settings.connect() as client:
        for kind, obj in _pick(client, what, settings.namespace, labels):
            client.edit(kind, obj.metadata.namespace, obj.metadata.name, change)
            click.echo(f"{shown(kind, obj.metadata.name)} {word}")


def _pick(
    client: Client, what: tuple[str, ...], namespace: str, labels: str, *, managed: bool = True
) -> list[tuple[Kind, Any]]:
    """The objects meant. Without names all of the kind, as with kubectl. Raises BadRequest for other kinds."""
    from cli import targets
    from cli.picking import pick
    from cli.rollouts.registry import ROLLOUTS
    from common.errors import BadRequest

    for target in targets.parse(what):
        known = ROLLOUTS.get(target.kind.kind)
        if known is None or (managed and not known.managed):
            can = ", ".join(name for name, one in ROLLOUTS.items() if one.managed or not managed)
            raise BadRequest(f"{target.kind.plural} have no rollouts: name one of {can}")
    every = not labels and not any(target.names for target in targets.parse(what))
    return pick(client, what, namespace, labels=labels, every=every)


def _revisions(client: Client, kind: Kind, obj: Any) -> list[Revision]:
    """Those of a Deployment or DaemonSet, oldest first. Raises BadRequest for kinds that keep none."""
    from cli.rollouts import daemonset, deployment
    from cli.rollouts.registry import pods_selector
    from common import kinds
    from common.errors import BadRequest

    if kind is kinds.DAEMON_SET:
        kept = client.list(kinds.CONTROLLER_REVISION, obj.metadata.namespace, labels=pods_selector(obj)).items
        return daemonset.revisions(obj, kept)
    if kind is not kinds.DEPLOYMENT:
        raise BadRequest(f"{kind.plural} keep no revisions: apply the earlier manifest instead")
    sets = client.list(kinds.REPLICA_SET, obj.metadata.namespace, labels=pods_selector(obj)).items
    return deployment.revisions(obj, sets)
