"""The pages of ReplicaSets and Deployments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from cli.ages import when
from cli.columns.workloads import selector
from cli.describe import common
from cli.describe.page import NONE, Page
from cli.describe.template import phases, template
from cli.rollouts.deployment import newest_set, owned

if TYPE_CHECKING:
    from protos.apps_pb2 import Deployment, ReplicaSet, RollingUpdateDeployment
    from protos.core_pb2 import Pod
    from protos.meta_pb2 import IntOrString


def replica_set(page: Page, obj: ReplicaSet, pods: Sequence[Pod]) -> None:
    """Wanted and present replicas, and the template. `pods` are those the selector matches."""
    common.head(page, obj)
    page.field("Selector", selector(obj))
    common.marks(page, obj)
    common.owner(page, obj)
    page.field("Replicas", f"{obj.status.replicas} current / {obj.spec.replicas} desired")
    page.field("Pods Status", phases(pods))
    template(page, obj.spec.template)
    common.conditions(page, obj)


def deployment(page: Page, obj: Deployment, sets: Sequence[ReplicaSet]) -> None:
    """How far the rollout is, by which rules, and which ReplicaSets hold the pods."""
    common.head(page, obj)
    page.field("CreationTimestamp", when(obj.metadata.creationTimestamp))
    common.marks(page, obj)
    page.field("Selector", selector(obj))
    status = obj.status
    page.field(
        "Replicas",
        f"{obj.spec.replicas} desired | {status.updatedReplicas} updated | {status.replicas} total | "
        f"{status.availableReplicas} available | {status.unavailableReplicas} unavailable",
    )
    page.field("StrategyType", obj.spec.strategy.type)
    page.field("MinReadySeconds", obj.spec.minReadySeconds)
    if obj.spec.paused:
        page.field("Paused", "true (`sampan rollout resume` lets a changed template go on)")
    if obj.spec.strategy.HasField("rollingUpdate"):
        page.field("RollingUpdateStrategy", _rolling(obj.spec.strategy.rollingUpdate))
    template(page, obj.spec.template)
    common.conditions(page, obj)
    mine = owned(obj, sets)
    new = newest_set(obj, mine)
    page.field("OldReplicaSets", _sets(one for one in mine if one is not new and one.spec.replicas))
    page.field("NewReplicaSet", _sets([new] if new is not None else []))


def _sets(sets: Iterable[ReplicaSet]) -> str:
    return (
        ", ".join(f"{rs.metadata.name} ({rs.status.replicas}/{rs.spec.replicas} replicas created)" for rs in sets)
        or NONE
    )


def _rolling(rolling: RollingUpdateDeployment) -> str:
    return f"{_amount(rolling.maxUnavailable)} max unavailable, {_amount(rolling.maxSurge)} max surge"


def _amount(value: IntOrString) -> str:
    return value.strVal if value.type == 1 else str(value.intVal)
