"""`drain`: empties a node for its maintenance, pod by pod, as the disruption budgets allow."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from cli.app import DURATION, Settings, Verb, pass_settings
from cli.completing import nodes

if TYPE_CHECKING:
    from cli.client import Client
    from cli.draining import Allowed
    from protos.core_pb2 import Pod

_LOOK_SECONDS, _RETRY_SECONDS = 0.25, 1.0


@dataclass(frozen=True)
class _How:
    """What the flags say. `grace` in seconds or None for each pod's own; `until` in time.monotonic() seconds."""

    allowed: Allowed
    grace: int | None
    until: float | None
    timeout: float
    pod_labels: str
    evict: bool
    dry_run: str
    skip_going: float

    @property
    def remark(self) -> str:
        return {"none": "", "client": " (dry run)", "server": " (server dry run)"}[self.dry_run]


@click.command(
    "drain",
    cls=Verb,
    examples="""
    sampan drain node-1 --ignore-daemonsets
    sampan drain node-1 --ignore-daemonsets --delete-emptydir-data --timeout 5m
    sampan drain -l rack=3 --ignore-daemonsets
    sampan uncordon node-1
    """,
)
@click.argument("names", nargs=-1, metavar="NODE...", shell_complete=nodes)
@click.option("-l", "--selector", "labels", default="", metavar="LABELS", help="Nodes with these labels.")
@click.option("--force", is_flag=True, help="Also pods that no controller would make anew.")
@click.option("--ignore-daemonsets", is_flag=True, help="Leave pods of DaemonSets where they are.")
@click.option("--delete-emptydir-data", is_flag=True, help="Also pods with emptyDir volumes, whose data is lost.")
@click.option(
    "--grace-period", type=int, default=-1, metavar="SECONDS",
    help="How long a pod may take to stop (default: what its manifest says).",
)  # fmt: skip
@click.option("--timeout", type=DURATION, default=0.0, metavar="DURATION", help="Give up after this time (0: never).")
@click.option("--pod-selector", "pod_labels", default="", metavar="LABELS", help="Only pods with these labels.")
@click.option("--disable-eviction", is_flag=True, help="Delete pods without asking their disruption budgets.")
@click.option(
    "--skip-wait-for-delete-timeout", "skip_going", type=DURATION, default=0.0, metavar="DURATION",
    help="Do not wait for pods whose deletion was asked for longer ago than this (0: wait for all).",
)  # fmt: skip
@click.option("--dry-run", type=click.Choice(["none", "client", "server"]), default="none", show_default=True)
@pass_settings
def drain(
    settings: Settings,
    names: tuple[str, ...],
    labels: str,
    force: bool,
    ignore_daemonsets: bool,
    delete_emptydir_data: bool,
    grace_period: int,
    timeout: float,
    pod_labels: str,
    disable_eviction: bool,
    skip_going: float,
    dry_run: str,
) -> None:
    """Cordon a node and evict its pods, and wait until they are gone.

    A pod that a PodDisruptionBudget holds is tried again until the budget lets it go. `sampan uncordon` lets the
    node have pods again.
    """
    from cli import failure, waiting
    from cli.draining import Allowed
    from cli.picking import pick
    from common.errors import BadRequest, SampanError

    if not names and not labels:
        raise BadRequest("say which nodes: names, or -l LABELS")
    how = _How(
        Allowed(force, ignore_daemonsets, delete_emptydir_data),
        grace_period if grace_period >= 0 else None,
        waiting.deadline(timeout),
        timeout,
        pod_labels,
        not disable_eviction,
        dry_run,
        skip_going,
    )
    bare = [name.removeprefix("node/").removeprefix("nodes/") for name in names]
    pending = []
    with settings.connect() as client:
        found = [node for _, node in pick(client, ["nodes", *bare], "", labels=labels)]
        for node in found:
            _cordon(client, node.metadata.name, how)
        for node in found:
            try:
                _drain(client, node.metadata.name, how)
            except SampanError as error:
                pending.append(node.metadata.name)
                failure.report(SampanError(f'unable to drain node "{node.metadata.name}": {failure.message(error)}'))
    if pending:
        if len(found) > 1:
            click.echo(f"There are pending nodes to be drained: {', '.join(pending)}", err=True)
        raise failure.Failed


def _cordon(client: Client, name: str, how: _How) -> None:
    from common.kinds import NODE

    def change(node: Any) -> None:
        node.spec.unschedulable = True

    if how.dry_run == "client":
        changed = not client.get(NODE, "", name).spec.unschedulable
    else:
        _, changed = client.edit(NODE, "", name, change, dry_run=how.dry_run == "server")
    click.echo(f"node/{name} {'cordoned' if changed else 'already cordoned'}{how.remark}")


def _drain(client: Client, name: str, how: _How) -> None:
    from cli import failure
    from cli.draining import choose
    from common.errors import BadRequest
    from common.kinds import DAEMON_SET

    sets = {found.metadata.uid for found in client.list(DAEMON_SET, "").items}
    chosen = choose(_pods(client, name, how), how.allowed, sets)
    if chosen.problem():
        raise BadRequest(chosen.problem())
    for remark in chosen.remarks():
        failure.warn(remark)
    going = {pod.metadata.uid: pod for pod in chosen.going}
    if how.dry_run == "none":
        _empty(client, name, how, going)
    else:
        for pod in going.values():
            click.echo(f"evicting pod {pod.metadata.namespace}/{pod.metadata.name}{how.remark}")
            if how.dry_run == "server":
                _ask(client, pod, how, {})
    click.echo(f"node/{name} drained{how.remark}")


def _pods(client: Client, name: str, how: _How) -> list[Any]:
    from common.kinds import POD

    return client.list(POD, "", labels=how.pod_labels, fields=f"spec.nodeName={name}").items


def _empty(client: Client, name: str, how: _How, going: dict[str, Pod]) -> None:
    """Asks for each pod until it is granted, and returns when all are gone. Raises TimedOut."""
    from cli.waiting import TimedOut

    asked: set[str] = set()
    told: dict[str, str] = {}
    retry_at = 0.0
    while going:
        if time.monotonic() >= retry_at:
            for uid, pod in going.items():
                if uid in asked:
                    continue
                if uid not in told:
                    told[uid] = ""
                    click.echo(f"evicting pod {pod.metadata.namespace}/{pod.metadata.name}")
                if _ask(client, pod, how, told):
                    asked.add(uid)
            retry_at = time.monotonic() + _RETRY_SECONDS
        there = {pod.metadata.uid: pod for pod in _pods(client, name, how)}
        for uid in [uid for uid in going if uid not in there or _left_behind(there[uid], how)]:
            pod = going.pop(uid)
            click.echo(f"pod/{pod.metadata.name} {'evicted' if how.evict else 'deleted'}")
        if not going:
            return
        if how.until is not None and time.monotonic() >= how.until:
            left = ", ".join(sorted(f"{pod.metadata.namespace}/{pod.metadata.name}" for pod in going.values()))
            hint = _away(client, name)
            raise TimedOut(f"drain did not complete within {how.timeout:g}s: still there are {left}{hint}")
        time.sleep(_LOOK_SECONDS)


def _away(client: Client, name: str) -> str:
    """Why pods of a node that says nothing do not go; empty when it is Ready."""
    from common.kinds import NODE

    node = client.get(NODE, "", name)
    if any(one.type == "Ready" and one.status == "True" for one in node.status.conditions):
        return ""
    return (
        f" (the node is not ready: they are gone when it is back, or when it is removed: `sampan delete node {name}`)"
    )


def _ask(client: Client, pod: Pod, how: _How, told: dict[str, str]) -> bool:
    """Evicts or deletes one pod; False when a budget holds it, which is told when it is news."""
    from common.errors import BudgetExhausted, Conflict, NotFound
    from common.kinds import POD

    meta = pod.metadata
    try:
        if how.evict:
            client.evict(meta.namespace, meta.name, grace=how.grace, uid=meta.uid, dry_run=how.dry_run == "server")
        else:
            client.delete(
                POD, meta.namespace, meta.name, grace=how.grace, uid=meta.uid, dry_run=how.dry_run == "server"
            )
    except BudgetExhausted as error:
        if told.get(meta.uid) != str(error):
            told[meta.uid] = str(error)
            click.echo(f'error when evicting pods/"{meta.name}" -n "{meta.namespace}" (will retry): {error}', err=True)
        return False
    except (NotFound, Conflict):
        # Gone, or made anew under the same name: what is on the node then is looked at again.
        return True
    return True


def _left_behind(pod: Any, how: _How) -> bool:
    """Whether the pod has been on its way out for so long that it is not waited for."""
    if not how.skip_going or not pod.metadata.HasField("deletionTimestamp"):
        return False
    return bool(time.time() - pod.metadata.deletionTimestamp.seconds > how.skip_going)
