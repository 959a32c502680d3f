"""Kubernetes' defaults for DaemonSets, and for PriorityClasses."""

from __future__ import annotations

from master.api.defaults.pod import default_pod_spec
from protos import apps_pb2, scheduling_pb2

REVISIONS = 10


def default_daemon_set(ds: apps_pb2.DaemonSet) -> None:
    spec = ds.spec
    strategy = spec.updateStrategy
    strategy.type = strategy.type or "RollingUpdate"
    if strategy.type == "RollingUpdate":
        if not strategy.rollingUpdate.HasField("maxUnavailable"):
            strategy.rollingUpdate.maxUnavailable.intVal = 1
        if not strategy.rollingUpdate.HasField("maxSurge"):
            strategy.rollingUpdate.maxSurge.SetInParent()
    if not spec.HasField("revisionHistoryLimit"):
        spec.revisionHistoryLimit = REVISIONS
    if not ds.metadata.labels:
        ds.metadata.labels.update(spec.template.metadata.labels)
    default_pod_spec(spec.template.spec)


def default_priority_class(found: scheduling_pb2.PriorityClass) -> None:
    if not found.HasField("preemptionPolicy"):
        found.preemptionPolicy = "PreemptLowerPriority"
