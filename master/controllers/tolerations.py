"""Which taints a pod bears, and for how long; pure. Rules: Kubernetes' "Taints and Tolerations"."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

from protos import core_pb2

NO_SCHEDULE, NO_EXECUTE = "NoSchedule", "NoExecute"

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
MEMORY_PRESSURE = "node.kubernetes.io/memory-pressure"
DISK_PRESSURE = "node.kubernetes.io/disk-pressure"
PID_PRESSURE = "node.kubernetes.io/pid-pressure"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"


def tolerates(toleration: core_pb2.Toleration, taint: core_pb2.Taint) -> bool:
    """An empty effect stands for all effects, an empty key (with Exists) for all keys."""
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    if toleration.operator == "Exists":
        return True
    return bool(toleration.key) and toleration.value == taint.value


def untolerated(
    tolerations: Sequence[core_pb2.Toleration], taints: Iterable[core_pb2.Taint], effects: Collection[str]
) -> core_pb2.Taint | None:
    """The first taint with one of these effects that no toleration matches."""
    for taint in taints:
        if taint.effect in effects and not any(tolerates(toleration, taint) for toleration in tolerations):
            return taint
    return None


def borne_for(tolerations: Sequence[core_pb2.Toleration], taint: core_pb2.Taint) -> float:
    """Seconds a pod bears a NoExecute taint: 0 when it does not, inf when no matching toleration sets a time."""
    matching = [toleration for toleration in tolerations if tolerates(toleration, taint)]
    if not matching:
        return 0.0
    limits = [float(max(0, t.tolerationSeconds)) for t in matching if t.HasField("tolerationSeconds")]
    return min(limits, default=math.inf)
