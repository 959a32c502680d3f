"""Kubernetes' defaults for ReplicaSets and Deployments; the source of each is the API reference of apps/v1."""

from __future__ import annotations

from master.api.defaults.pod import default_pod_spec
from protos import apps_pb2

REVISIONS = 10
PROGRESS_SECONDS = 600
STEP = "25%"


def default_replica_set(rs: apps_pb2.ReplicaSet) -> None:
    if not rs.spec.HasField("replicas"):
        rs.spec.replicas = 1
    if rs.spec.HasField("template"):
        default_pod_spec(rs.spec.template.spec)


def default_deployment(deployment: apps_pb2.Deployment) -> None:
    spec = deployment.spec
    if not spec.HasField("replicas"):
        spec.replicas = 1
    spec.strategy.type = spec.strategy.type or "RollingUpdate"
    if spec.strategy.type == "RollingUpdate":
        rolling = spec.strategy.rollingUpdate
        if not rolling.HasField("maxUnavailable"):
            rolling.maxUnavailable.type, rolling.maxUnavailable.strVal = 1, STEP
        if not rolling.HasField("maxSurge"):
            rolling.maxSurge.type, rolling.maxSurge.strVal = 1, STEP
    if not spec.HasField("revisionHistoryLimit"):
        spec.revisionHistoryLimit = REVISIONS
    if not spec.HasField("progressDeadlineSeconds"):
        spec.progressDeadlineSeconds = PROGRESS_SECONDS
    if spec.HasField("template"):
        default_pod_spec(spec.template.spec)
