"""Evicts a pod: deletes it if its PodDisruptionBudget allows, which is asked and told by compare-and-swap.

Rules: Kubernetes' eviction subresource.
"""

from __future__ import annotations

from typing import Any

from common.errors import BudgetExhausted, Conflict, NotFound
from common.kinds import POD, POD_DISRUPTION_BUDGET
from common.selectors import from_message
from master.api.conditions import set_condition
from master.api.resources import ATTEMPTS, Deleted, Resources, pause
from master.api.times import stamp
from master.store.store import clone
from protos import core_pb2, policy_pb2

MOST_GRANTS = 2000
"""Evictions that may be open in one budget, so that its object stays small (Kubernetes' MaxDisruptedPodSize)."""
COMPONENT = "eviction"
TARGET = "DisruptionTarget"
_FREE = frozenset({"", "Pending", "Succeeded", "Failed"})
"""Phases in which a pod serves nobody, so that no budget protects it."""


async def evict(
    resources: Resources, namespace: str, name: str, *, grace_seconds: int | None = None, uid: str = "",
    dry_run: bool = False,
) -> Deleted:  # fmt: skip
    """Deletes the pod, or says what holds it.

    Raises NotFound, Conflict when its uid is another, BudgetExhausted when a budget does not allow it now.
    """
    for attempt in range(ATTEMPTS):
        pod: core_pb2.Pod = resources.get(POD.kind, namespace, name)
        if uid and pod.metadata.uid != uid:
            raise Conflict(f'pods "{name}" has uid {pod.metadata.uid}, not {uid}: nothing was evicted')
        try:
            if not _is_free(pod):
                await _grant(resources, pod, dry_run)
        except Conflict:
            # Another eviction, or the controller, was faster: look at the budget as it is now.
            await pause(attempt)
            continue
        except NotFound:
            continue
        except BudgetExhausted as error:
            if not dry_run:
                await resources.record(pod, "Warning", "EvictionBlocked", str(error), COMPONENT)
            raise
        if not dry_run:
            await _mark(resources, pod)
            if not pod.metadata.HasField("deletionTimestamp"):
                await resources.record(pod, "Normal", "Evicted", "Evicted as the eviction API was asked to", COMPONENT)
        return await resources.delete(
            POD.kind, namespace, name, grace_seconds=grace_seconds, uid=pod.metadata.uid, dry_run=dry_run
        )
    raise Conflict(f'the disruption budget of pods "{name}" is being changed by many at once: try again')


def budgets_of(resources: Resources, pod: core_pb2.Pod) -> list[policy_pb2.PodDisruptionBudget]:
    """The budgets that select the pod."""
    found = resources.store.list(POD_DISRUPTION_BUDGET.kind, pod.metadata.namespace)
    return [
        pdb
        for pdb in found
        if pdb.spec.HasField("selector") and from_message(pdb.spec.selector).matches(pod.metadata.labels)
    ]


async def _mark(resources: Resources, pod: core_pb2.Pod) -> None:
    """Says on the pod why it goes."""
    now = resources.clock()

    def change(newest: core_pb2.Pod) -> None:
        text = "Eviction API: evicting"
        set_condition(newest.status.conditions, TARGET, "True", reason="EvictionByEvictionAPI", message=text, now=now)

    await resources.mutate(
        POD.kind, pod.metadata.namespace, pod.metadata.name, change, status=True, uid=pod.metadata.uid
    )


def _is_free(pod: core_pb2.Pod) -> bool:
    return pod.status.phase in _FREE or pod.metadata.HasField("deletionTimestamp")


def _is_ready(pod: core_pb2.Pod) -> bool:
    return any(found.type == "Ready" and found.status == "True" for found in pod.status.conditions)


async def _grant(resources: Resources, pod: core_pb2.Pod, dry_run: bool) -> None:
    """Takes one disruption from the pod's budget. Raises BudgetExhausted, Conflict when the budget was changed."""
    budgets = budgets_of(resources, pod)
    if not budgets:
        return
    where = f"{pod.metadata.namespace}/{pod.metadata.name}"
    if len(budgets) > 1:
        names = ", ".join(pdb.metadata.name for pdb in budgets)
        raise BudgetExhausted(
            f"cannot evict pod {where}: it has more than one PodDisruptionBudget ({names}); leave it only one"
        )
    pdb = budgets[0]
    if not _is_ready(pod) and _spares_unhealthy(pdb):
        return
    if pod.metadata.name in pdb.status.disruptedPods:
        # Granted before, and the deletion then failed: the budget has paid for it already.
        return
    reason = refusal(pdb)
    if reason:
        raise BudgetExhausted(
            f"cannot evict pod {where} as it would violate the pod's disruption budget: "
            f"the disruption budget {pdb.metadata.name} {reason}"
        )
    changed: Any = clone(pdb)
    changed.status.disruptionsAllowed -= 1
    now = resources.clock()
    changed.status.disruptedPods[pod.metadata.name].CopyFrom(stamp(now))
    if not changed.status.disruptionsAllowed:
        set_condition(changed.status.conditions, "DisruptionAllowed", "False", reason="InsufficientPods", now=now)
    await resources.update_status(changed, dry_run=dry_run)


def _spares_unhealthy(pdb: policy_pb2.PodDisruptionBudget) -> bool:
    """Whether a pod that is not Ready may go without asking."""
    if pdb.spec.unhealthyPodEvictionPolicy == "AlwaysAllow":
        return True
    return 0 < pdb.status.desiredHealthy <= pdb.status.currentHealthy


def refusal(pdb: policy_pb2.PodDisruptionBudget) -> str:
    """What the budget waits for; empty when it allows a disruption."""
    status = pdb.status
    if status.observedGeneration < pdb.metadata.generation:
        return "is still being processed by the server"
    if len(status.disruptedPods) >= MOST_GRANTS:
        return f"has {len(status.disruptedPods)} evictions under way already"
    if status.disruptionsAllowed <= 0:
        return f"needs {status.desiredHealthy} healthy pods and has {status.currentHealthy} currently"
    return ""
