"""Rules about ReplicaSets and Deployments."""

from __future__ import annotations

from master.api.validation.faults import Faults
from master.api.validation.template import unchanged, validate_amount, validate_template
from master.controllers.amounts import scaled
from protos import apps_pb2

# A percentage rounds to the same zero for any number of replicas.
_ANY_REPLICAS = 100


def validate_replica_set(rs: apps_pb2.ReplicaSet, faults: Faults) -> None:
    faults.at_least("spec.replicas", rs.spec.replicas, 0)
    faults.at_least("spec.minReadySeconds", rs.spec.minReadySeconds, 0)
    _template("ReplicaSet", rs, faults)


def validate_replica_set_update(new: apps_pb2.ReplicaSet, old: apps_pb2.ReplicaSet, faults: Faults) -> None:
    unchanged("spec.selector", new.spec.selector, old.spec.selector, faults)


def validate_deployment(deployment: apps_pb2.Deployment, faults: Faults) -> None:
    spec = deployment.spec
    faults.at_least("spec.replicas", spec.replicas, 0)
    faults.at_least("spec.minReadySeconds", spec.minReadySeconds, 0)
    faults.at_least("spec.revisionHistoryLimit", spec.revisionHistoryLimit, 0)
    faults.at_least("spec.progressDeadlineSeconds", spec.progressDeadlineSeconds, 0)
    if spec.HasField("progressDeadlineSeconds") and spec.progressDeadlineSeconds <= spec.minReadySeconds:
        faults.add(
            "spec.progressDeadlineSeconds",
            f"must be greater than minReadySeconds ({spec.minReadySeconds}), got {spec.progressDeadlineSeconds}",
        )
    _template("Deployment", deployment, faults)
    strategy = spec.strategy
    faults.one_of("spec.strategy.type", strategy.type, ("RollingUpdate", "Recreate"))
    if strategy.type == "Recreate" and strategy.HasField("rollingUpdate"):
        faults.add(
            "spec.strategy.rollingUpdate", "must be left out where type is Recreate (null takes it off an older object)"
        )
    elif strategy.type == "RollingUpdate":
        _rolling(strategy.rollingUpdate, faults)


def _rolling(rolling: apps_pb2.RollingUpdateDeployment, faults: Faults) -> None:
    path = "spec.strategy.rollingUpdate"
    validate_amount(f"{path}.maxUnavailable", rolling.maxUnavailable, faults)
    validate_amount(f"{path}.maxSurge", rolling.maxSurge, faults, most=1_000_000)
    unavailable = scaled(rolling.maxUnavailable, _ANY_REPLICAS, up=True)
    surge = scaled(rolling.maxSurge, _ANY_REPLICAS, up=True)
    if not unavailable and not surge:
        faults.add(f"{path}.maxUnavailable", "must not be 0 where maxSurge is 0: no pod could ever be updated")


def validate_deployment_update(new: apps_pb2.Deployment, old: apps_pb2.Deployment, faults: Faults) -> None:
    unchanged("spec.selector", new.spec.selector, old.spec.selector, faults)


def _template(kind: str, obj: apps_pb2.ReplicaSet | apps_pb2.Deployment, faults: Faults) -> None:
    if not obj.spec.HasField("template"):
        faults.add("spec.template", "is required (the pod to make)")
        return
    validate_template(kind, obj.spec.selector, obj.spec.template, faults)
    if obj.spec.template.spec.HasField("activeDeadlineSeconds"):
        faults.add("spec.template.spec.activeDeadlineSeconds", f"must not be set in a {kind}")
