"""What a PodDisruptionBudget allows now: from the budget and its pods to its status; pure.

Rules: Kubernetes' disruption controller. But finished pods are not expected to be healthy, and pods of owners without
a number of replicas (DaemonSet, Job) or without an owner count as one wanted each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from master.api.conditions import set_condition
from master.controllers.amounts import percent_of, scaled
from master.controllers.plan import NOTHING, Change, Plan
from master.controllers.pods import FINISHED, controller_of, is_ready, is_terminating, seconds
from master.store.store import key_of
from protos import core_pb2, meta_pb2, policy_pb2

KIND = "PodDisruptionBudget"
ALLOWED = "DisruptionAllowed"
GRANT_SECONDS = 120.0
"""An eviction that was granted and not seen after this time did not happen (Kubernetes' DeletionTimeout)."""

Scale = Callable[[meta_pb2.OwnerReference, str], tuple[str, int] | None]
"""The uid of what holds the number of replicas behind an owner (a ReplicaSet's Deployment), and that number; seen from
a namespace. None: the owner has no such number, or is gone."""


def reconcile(pdb: policy_pb2.PodDisruptionBudget, pods: Iterable[core_pb2.Pod], scale: Scale, now: float) -> Plan:
    """Writes the status. `pods` are those of the namespace that the selector matches; `now` in Unix seconds.

    Nothing is written over a grant that was given meanwhile: that change marks the budget dirty again.
    """
    if is_terminating(pdb):
        return NOTHING
    status, again = assess(pdb, [pod for pod in pods if pod.status.phase not in FINISHED], scale, now)
    if status == pdb.status:
        return Plan(again=again)
    before = dict(pdb.status.disruptedPods)

    def change(newest: policy_pb2.PodDisruptionBudget) -> None:
        if dict(newest.status.disruptedPods) == before and newest.metadata.generation == pdb.metadata.generation:
            newest.status.CopyFrom(status)

    return Plan((Change(key_of(pdb), pdb.metadata.uid, "status", change, status=True),), again=again)


def assess(
    pdb: policy_pb2.PodDisruptionBudget, pods: Sequence[core_pb2.Pod], scale: Scale, now: float
) -> tuple[policy_pb2.PodDisruptionBudgetStatus, float | None]:
    """The status for these pods, and the seconds until a grant runs out (None: none is open)."""
    grants, again = open_grants(pdb.status.disruptedPods, pods, now)
    healthy = sum(is_ready(pod) and not is_terminating(pod) and pod.metadata.name not in grants for pod in pods)
    expected, desired = _wanted(pdb.spec, pods, scale)
    allowed = max(0, healthy - desired) if expected > 0 else 0
    status = policy_pb2.PodDisruptionBudgetStatus(
        observedGeneration=pdb.metadata.generation,
        disruptionsAllowed=allowed,
        currentHealthy=healthy,
        desiredHealthy=desired,
        expectedPods=expected,
        conditions=pdb.status.conditions,
    )
    for name, stamp in grants.items():
        status.disruptedPods[name].CopyFrom(stamp)
    reason = "SufficientPods" if allowed else "InsufficientPods"
    set_condition(status.conditions, ALLOWED, "True" if allowed else "False", reason=reason, now=now)
    for found in status.conditions:
        if found.type == ALLOWED:
            found.observedGeneration = pdb.metadata.generation
    return status, again


def open_grants(
    granted: Mapping[str, Timestamp], pods: Sequence[core_pb2.Pod], now: float
) -> tuple[dict[str, Timestamp], float | None]:
    """Grants whose pod is still there and not on its way out, and the seconds until the first of them runs out."""
    there = {pod.metadata.name for pod in pods if not is_terminating(pod)}
    found = {name: stamp for name, stamp in granted.items() if name in there and seconds(stamp) + GRANT_SECONDS > now}
    return found, min((seconds(stamp) + GRANT_SECONDS - now for stamp in found.values()), default=None)


def _wanted(spec: policy_pb2.PodDisruptionBudgetSpec, pods: Sequence[core_pb2.Pod], scale: Scale) -> tuple[int, int]:
    """How many pods there should be, and how many must be healthy."""
    if spec.HasField("maxUnavailable"):
        expected = _expected(pods, scale)
        return expected, max(0, expected - scaled(spec.maxUnavailable, expected, up=True))
    if percent_of(spec.minAvailable) is None:
        return len(pods), scaled(spec.minAvailable, 0, up=True)
    expected = _expected(pods, scale)
    return expected, scaled(spec.minAvailable, expected, up=True)


def _expected(pods: Sequence[core_pb2.Pod], scale: Scale) -> int:
    """The replicas of all owners together; pods without such an owner count as they are."""
    numbers: dict[str, int] = {}
    others = 0
    for pod in pods:
        owner = controller_of(pod)
        found = scale(owner, pod.metadata.namespace) if owner is not None else None
        if found is None:
            others += not is_terminating(pod)
        else:
            numbers[found[0]] = found[1]
    return sum(numbers.values()) + others


def replicas_of(owner: Any) -> int | None:
    """`spec.replicas` with its default of 1, or None of a kind that has no such field."""
    if "replicas" not in owner.spec.DESCRIPTOR.fields_by_name:
        return None
    return int(owner.spec.replicas) if owner.spec.HasField("replicas") else 1
