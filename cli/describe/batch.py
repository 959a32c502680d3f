"""The pages of DaemonSets, Jobs, PodDisruptionBudgets and PriorityClasses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cli.ages import is_set, when
from cli.columns.batch import amount, duration
from cli.columns.table import pairs
from cli.columns.workloads import selector
from cli.describe import common
from cli.describe.page import NONE, Page
from cli.describe.template import phases, template

if TYPE_CHECKING:
    from protos.apps_pb2 import DaemonSet
    from protos.batch_pb2 import Job
    from protos.core_pb2 import Pod
    from protos.policy_pb2 import PodDisruptionBudget
    from protos.scheduling_pb2 import PriorityClass


def daemon_set(page: Page, obj: DaemonSet, pods: Sequence[Pod]) -> None:
    """On how many nodes it should run and does, how it is updated, and the template."""
    status = obj.status
    common.head(page, obj)
    page.field("Selector", selector(obj))
    page.field("Node-Selector", pairs(obj.spec.template.spec.nodeSelector))
    common.marks(page, obj)
    page.field("Desired Number of Nodes Scheduled", status.desiredNumberScheduled)
    page.field("Current Number of Nodes Scheduled", status.currentNumberScheduled)
    page.field("Number of Nodes Scheduled with Up-to-date Pods", status.updatedNumberScheduled)
    page.field("Number of Nodes Scheduled with Available Pods", status.numberAvailable)
    page.field("Number of Nodes Misscheduled", status.numberMisscheduled)
    page.field("Pods Status", phases(pods))
    strategy = obj.spec.updateStrategy
    page.field("Update Strategy", strategy.type)
    if strategy.type == "RollingUpdate":
        rolling = strategy.rollingUpdate
        text = f"{amount(rolling, 'maxUnavailable')} max unavailable, {amount(rolling, 'maxSurge')} max surge"
        page.field("RollingUpdateStrategy", text)
    template(page, obj.spec.template)
    common.conditions(page, obj)


def job(page: Page, obj: Job) -> None:
    """What is to be done, how far it is, and the template."""
    spec, status = obj.spec, obj.status
    common.head(page, obj)
    page.field("Selector", selector(obj))
    common.marks(page, obj)
    common.owner(page, obj)
    page.field("Parallelism", spec.parallelism)
    page.field("Completions", spec.completions if spec.HasField("completions") else "<unset>")
    page.field("Completion Mode", spec.completionMode)
    page.field("Suspend", str(spec.suspend).lower())
    page.field("Backoff Limit", spec.backoffLimit)
    if spec.HasField("ttlSecondsAfterFinished"):
        page.field("TTL Seconds After Finished", spec.ttlSecondsAfterFinished)
    if is_set(status.startTime):
        page.field("Start Time", when(status.startTime))
    if is_set(status.completionTime):
        page.field("Completed At", when(status.completionTime))
        page.field("Duration", duration(obj, 0))
    if spec.HasField("activeDeadlineSeconds"):
        page.field("Active Deadline Seconds", f"{spec.activeDeadlineSeconds}s")
    page.field(
        "Pods Statuses",
        f"{status.active} Active ({status.ready} Ready) / {status.succeeded} Succeeded / {status.failed} Failed",
    )
    if spec.completionMode == "Indexed":
        page.field("Completed Indexes", status.completedIndexes or NONE)
    template(page, spec.template)
    common.conditions(page, obj)


def budget(page: Page, obj: PodDisruptionBudget) -> None:
    """What must stay, and what may go now."""
    status = obj.status
    common.head(page, obj)
    common.marks(page, obj)
    for title, name in (("Min available", "minAvailable"), ("Max unavailable", "maxUnavailable")):
        if obj.spec.HasField(name):  # type: ignore[arg-type]
            page.field(title, amount(obj.spec, name))
    page.field("Selector", selector(obj) if obj.spec.HasField("selector") else NONE)
    if obj.spec.HasField("unhealthyPodEvictionPolicy"):
        page.field("Unhealthy Pod Eviction Policy", obj.spec.unhealthyPodEvictionPolicy)
    with page.section("Status"):
        page.field("Allowed disruptions", status.disruptionsAllowed)
        page.field("Current", status.currentHealthy)
        page.field("Desired", status.desiredHealthy)
        page.field("Total", status.expectedPods)
        if status.disruptedPods:
            page.field("Being evicted", ", ".join(sorted(status.disruptedPods)))
    common.conditions(page, obj)


def priority_class(page: Page, obj: PriorityClass) -> None:
    """The value, and whose it is without being named."""
    common.head(page, obj, namespaced=False)
    common.marks(page, obj)
    page.field("Value", obj.value)
    page.field("GlobalDefault", str(obj.globalDefault).lower())
    page.field("PreemptionPolicy", obj.preemptionPolicy or NONE)
    page.field("Description", obj.description or NONE)
