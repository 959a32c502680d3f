"""One pod on every node that a DaemonSet fits: from the set, its pods and the nodes to a Plan; pure.

Rules: Kubernetes' daemon controller. The rolling update is in daemon_update.py.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from master.controllers import daemon_update
from master.controllers.claiming import Claimer
from master.controllers.daemon_update import HASH_LABEL, Here
from master.controllers.index import selector_of
from master.controllers.members import new_pod as pod_of
from master.controllers.members import pod_claimer
from master.controllers.nodefit import allows, pin, pinned_to
from master.controllers.plan import Action, Change, Create, Delete, Note, Plan
from master.controllers.pods import FINISHED, is_available, is_ready, is_terminating, ready_since, seconds
from master.controllers.tolerations import (
    DISK_PRESSURE,
    MEMORY_PRESSURE,
    NO_EXECUTE,
    NO_SCHEDULE,
    NOT_READY,
    PID_PRESSURE,
    UNREACHABLE,
    UNSCHEDULABLE,
    untolerated,
)
from master.store.store import key_of
from protos import apps_pb2, core_pb2

KIND = "DaemonSet"
BURST = 250
"""Pods created or deleted in one pass, Kubernetes' burst limit for daemons."""
FIRST_RETRY, LONGEST_RETRY = 1.0, 900.0
"""Seconds until a failed pod of a node is replaced, doubled each time (Kubernetes' figures)."""
TOLERATIONS = (
    (NOT_READY, NO_EXECUTE),
    (UNREACHABLE, NO_EXECUTE),
    (DISK_PRESSURE, NO_SCHEDULE),
    (MEMORY_PRESSURE, NO_SCHEDULE),
    (PID_PRESSURE, NO_SCHEDULE),
    (UNSCHEDULABLE, NO_SCHEDULE),
)


@dataclass(frozen=True)
class Failures:
    """How often the pods of one node failed, and when (Unix seconds) the last of them was replaced."""

    count: int
    at: float


Memory = Mapping[str, Failures]
"""By node; what one pass hands to the next."""


def template_hash(template: core_pb2.PodTemplateSpec) -> str:
    """Ten hexadecimal digits that are the same for the same template."""
    return hashlib.sha256(template.SerializeToString(deterministic=True)).hexdigest()[:10]


def reconcile(
    ds: apps_pb2.DaemonSet,
    pods: Iterable[core_pb2.Pod],
    nodes: Sequence[core_pb2.Node],
    now: float,
    memory: Memory,
) -> tuple[Plan, Memory]:
    """Makes the pod where it is missing, takes it where it should not be, updates those of another template.

    `pods`: at least all of the namespace that match the selector or that the set owns; `now` in Unix seconds.
    """
    claimer = pod_claimer(ds, selector_of(ds))
    mine, adopt, release = claimer.claim(pods)
    claims = claimer.actions(adopt, release)
    revision = template_hash(ds.spec.template)
    spec = pod_spec(ds)
    where = _by_node(mine, nodes, spec, ds, revision, now)
    status, again = _status(ds, where, now)
    after: tuple[Action, ...] = () if status == ds.status else (_write_status(ds, status),)
    if is_terminating(ds):
        return Plan((), after, again), memory
    retry = _Retry(memory, now)
    actions: list[Action] = []
    for here in where:
        actions += _manage(claimer, here, revision, spec, retry)
    if not actions and not claims:
        actions += daemon_update.actions(ds, where, revision, lambda node: new_pod(claimer, node, revision, spec))
    remembered = {node: failures for node, failures in retry.kept.items() if any(here.name == node for here in where)}
    waits = [wait for wait in (again, retry.wait) if wait is not None]
    creates = [action for action in actions if isinstance(action, Create)][:BURST]
    others = [action for action in actions if not isinstance(action, Create)]
    plan = Plan((*claims, *creates, *others), after, min(waits, default=None), lambda errors: after)
    return plan, remembered


def pod_spec(ds: apps_pb2.DaemonSet) -> core_pb2.PodSpec:
    """The template's spec with what every daemon pod bears."""
    spec = core_pb2.PodSpec()
    spec.CopyFrom(ds.spec.template.spec)
    marks = [*TOLERATIONS, *([("node.kubernetes.io/network-unavailable", NO_SCHEDULE)] if spec.hostNetwork else [])]
    for key, effect in marks:
        wanted = core_pb2.Toleration(key=key, operator="Exists", effect=effect)
        if wanted not in spec.tolerations:
            spec.tolerations.append(wanted)
    return spec


def new_pod(claimer: Claimer, node: str, revision: str, spec: core_pb2.PodSpec) -> core_pb2.Pod:
    """The pod for one node."""
    pod = pod_of(claimer)
    pod.spec.CopyFrom(spec)
    pod.metadata.labels[HASH_LABEL] = revision
    pin(pod.spec, node)
    return pod


def fits(spec: core_pb2.PodSpec, node: core_pb2.Node) -> tuple[bool, bool]:
    """Whether the node should run the pod, and whether one that is there may stay."""
    if not allows(spec, node):
        return False, False
    taints = node.spec.taints
    if untolerated(spec.tolerations, taints, (NO_SCHEDULE, NO_EXECUTE)) is None:
        return True, True
    return False, untolerated(spec.tolerations, taints, (NO_EXECUTE,)) is None


class _Retry:
    """Holds back the replacement of failed pods, node by node."""

    def __init__(self, memory: Memory, now: float) -> None:
        self.kept = dict(memory)
        self.wait: float | None = None
        self._now = now

    def due(self, node: str) -> bool:
        """Whether the failed pod of this node may be replaced now; counts it when it may."""
        known = self.kept.get(node)
        if known is not None and self._now - known.at > 2 * LONGEST_RETRY:
            known = None
        delay = min(LONGEST_RETRY, FIRST_RETRY * 2 ** min(known.count - 1, 16)) if known else 0.0
        left = known.at + delay - self._now if known else 0.0
        if left > 0:
            self.wait = left if self.wait is None else min(self.wait, left)
            return False
        self.kept[node] = Failures((known.count if known else 0) + 1, self._now)
        return True


def _by_node(
    mine: Sequence[core_pb2.Pod],
    nodes: Sequence[core_pb2.Node],
    spec: core_pb2.PodSpec,
    ds: apps_pb2.DaemonSet,
    revision: str,
    now: float,
) -> list[Here]:
    """Every node with its pods, oldest first; pods of nodes that are gone are on a node that may not keep them."""
    found: dict[str, list[core_pb2.Pod]] = {node.metadata.name: [] for node in nodes}
    for pod in mine:
        found.setdefault(pinned_to(pod.spec), []).append(pod)
    rules = {node.metadata.name: fits(spec, node) for node in nodes}
    least = ds.spec.minReadySeconds
    return [
        Here(
            name,
            *rules.get(name, (False, False)),
            pods=tuple(sorted(pods, key=lambda p: (seconds(p.metadata.creationTimestamp), p.metadata.name))),
            revision=revision,
            least=least,
            now=now,
        )
        for name, pods in sorted(found.items())
    ]


def _manage(claimer: Claimer, here: Here, revision: str, spec: core_pb2.PodSpec, retry: _Retry) -> list[Action]:
    """What one node lacks or has too much, whatever the update strategy says."""
    ds = claimer.owner
    live = [pod for pod in here.pods if not is_terminating(pod)]
    if not here.stays:
        return [_delete(ds, pod) for pod in live]
    actions: list[Action] = []
    running: list[core_pb2.Pod] = []
    for pod in live:
        if pod.status.phase not in FINISHED:
            running.append(pod)
        elif retry.due(here.name):
            failed = pod.status.phase == "Failed"
            word = "failed" if failed else "succeeded"
            name = f"{ds.metadata.namespace}/{pod.metadata.name}"
            text = f"Found {word} daemon pod {name} on node {here.name}, will try to kill it"
            reason = "FailedDaemonPod" if failed else "SucceededDaemonPod"
            actions += [_delete(ds, pod), Note(ds, "Warning" if failed else "Normal", reason, text)]
    if here.wanted and not here.pods:
        # A pod on its way out still holds its ports and volumes; Kubernetes waits for it, too.
        actions.append(Create(new_pod(claimer, here.name, revision, spec), owner=ds))
    return actions + [_delete(ds, pod) for pod in _surplus(ds, here, running)]


def _surplus(ds: apps_pb2.DaemonSet, here: Here, running: list[core_pb2.Pod]) -> list[core_pb2.Pod]:
    """Of several pods on a node the one that is placed and oldest stays; while surging one of each template does."""
    if len(running) < 2:
        return []
    order = sorted(running, key=lambda pod: not pod.spec.nodeName)
    if daemon_update.limits(ds, 1).surge == 0:
        return order[1:]
    new = [pod for pod in order if here.is_new(pod)]
    old = [pod for pod in order if not here.is_new(pod)]
    return new[1:] + old[1:]


def _delete(ds: apps_pb2.DaemonSet, pod: core_pb2.Pod) -> Delete:
    return Delete(key_of(pod), pod.metadata.uid, owner=ds)


def _status(ds: apps_pb2.DaemonSet, where: Sequence[Here], now: float) -> tuple[apps_pb2.DaemonSetStatus, float | None]:
    """The status as things are, and the seconds until the next pod becomes available."""
    status = apps_pb2.DaemonSetStatus(observedGeneration=ds.metadata.generation, conditions=ds.status.conditions)
    least = ds.spec.minReadySeconds
    wait = math.inf
    for here in where:
        if not here.wanted:
            status.numberMisscheduled += bool(here.pods)
            continue
        status.desiredNumberScheduled += 1
        live = [pod for pod in here.pods if not is_terminating(pod) and pod.status.phase not in FINISHED]
        status.currentNumberScheduled += bool(here.pods)
        status.updatedNumberScheduled += any(here.is_new(pod) for pod in live)
        status.numberReady += any(is_ready(pod) for pod in live)
        status.numberAvailable += any(is_available(pod, least, now) for pod in live)
        for pod in live:
            since = ready_since(pod)
            if since is not None and since + least > now:
                wait = min(wait, since + least - now)
    status.numberUnavailable = status.desiredNumberScheduled - status.numberAvailable
    return status, wait if wait < math.inf else None


def _write_status(ds: apps_pb2.DaemonSet, status: apps_pb2.DaemonSetStatus) -> Change:
    def change(newest: apps_pb2.DaemonSet) -> None:
        newest.status.CopyFrom(status)

    return Change(key_of(ds), ds.metadata.uid, "status", change, status=True)
