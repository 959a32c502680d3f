"""Evictions and budgets: one allowance is never taken twice, and a refusal names the budget and what it waits for."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from common.errors import BudgetExhausted, Conflict, NotFound
from master.api.eviction import evict
from master.api.resources import Resources
from master.store.store import clone
from protos import control_pb2, core_pb2, policy_pb2
from tests.master.api.conftest import Served
from tests.master.api.making import pod


async def running(resources: Resources, name: str, *, ready: bool = True, phase: str = "Running") -> core_pb2.Pod:
    made = await resources.create(pod(name))
    await resources.bind("default", name, made.metadata.uid, "n1")

    def change(newest: core_pb2.Pod) -> None:
        newest.status.phase = phase
        newest.status.conditions.add(type="Ready", status="True" if ready else "False")

    await resources.mutate("Pod", "default", name, change, status=True)
    stored: core_pb2.Pod = resources.get("Pod", "default", name)
    return stored


async def budget(
    resources: Resources, allowed: int, *, name: str = "web", healthy: int = 2, policy: str = ""
) -> policy_pb2.PodDisruptionBudget:
    pdb = policy_pb2.PodDisruptionBudget()
    pdb.metadata.name = name
    pdb.spec.selector.matchLabels["app"] = "web"
    pdb.spec.minAvailable.intVal = 2
    if policy:
        pdb.spec.unhealthyPodEvictionPolicy = policy
    made = clone(await resources.create(pdb))
    made.status.observedGeneration = made.metadata.generation
    made.status.disruptionsAllowed, made.status.currentHealthy, made.status.desiredHealthy = allowed, healthy, 2
    stored: policy_pb2.PodDisruptionBudget = await resources.update_status(made)
    return stored


def going(resources: Resources, *names: str) -> list[bool]:
    return [resources.get("Pod", "default", name).metadata.HasField("deletionTimestamp") for name in names]


async def test_without_a_budget_an_eviction_is_a_deletion(resources: Resources) -> None:
    made = await running(resources, "a")
    with pytest.raises(Conflict, match="nothing was evicted"):
        await evict(resources, "default", "a", uid="other")
    done = await evict(resources, "default", "a", uid=made.metadata.uid, grace_seconds=7)
    assert not done.gone and done.obj.metadata.deletionGracePeriodSeconds == 7
    why = {condition.type: condition.reason for condition in done.obj.status.conditions}
    assert why["DisruptionTarget"] == "EvictionByEvictionAPI"
    assert [event.reason for event in resources.list("Event")] == ["Evicted"]
    with pytest.raises(NotFound):
        await evict(resources, "default", "b")


async def test_what_a_budget_holds_back_is_told_and_counted(resources: Resources) -> None:
    await running(resources, "a")
    await budget(resources, 0)
    for _ in range(3):
        with pytest.raises(BudgetExhausted):
            await evict(resources, "default", "a")
    with pytest.raises(BudgetExhausted):
        await evict(resources, "default", "a", dry_run=True)
    (event,) = resources.list("Event")
    assert (event.type, event.reason, event.count, event.involvedObject.name) == ("Warning", "EvictionBlocked", 3, "a")
    assert "the disruption budget web" in event.message


async def test_one_allowance_is_one_eviction_however_many_ask_at_once(resources: Resources) -> None:
    names = [f"p{number}" for number in range(6)]
    for name in names:
        await running(resources, name)
    await budget(resources, 2, healthy=4)
    answers = await asyncio.gather(*(evict(resources, "default", name) for name in names), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, BudgetExhausted)]
    assert len(refused) == 4 and sum(going(resources, *names)) == 2
    assert "the disruption budget web needs 2 healthy pods and has 4 currently" in str(refused[0])
    stored = resources.get("PodDisruptionBudget", "default", "web")
    assert stored.status.disruptionsAllowed == 0 and len(stored.status.disruptedPods) == 2
    assert stored.status.conditions[0].status == "False"


async def test_a_dry_run_takes_nothing(resources: Resources) -> None:
    await running(resources, "a")
    await budget(resources, 1)
    revision = resources.store.revision
    await evict(resources, "default", "a", dry_run=True)
    assert resources.store.revision == revision
    await evict(resources, "default", "a")
    assert going(resources, "a") == [True]


async def test_pods_that_serve_nobody_cost_nothing(resources: Resources) -> None:
    await budget(resources, 0)
    await running(resources, "done", phase="Succeeded")
    await running(resources, "waiting", phase="Pending", ready=False)
    assert (await evict(resources, "default", "done")).gone
    await evict(resources, "default", "waiting")
    await running(resources, "gone")
    await resources.delete("Pod", "default", "gone")
    await evict(resources, "default", "gone", grace_seconds=1)


async def test_unhealthy_pods_go_while_the_budget_is_met_or_always_where_it_says_so(resources: Resources) -> None:
    await running(resources, "ill", ready=False)
    await budget(resources, 0, healthy=1)
    with pytest.raises(BudgetExhausted):
        await evict(resources, "default", "ill")
    await resources.delete("PodDisruptionBudget", "default", "web")
    await budget(resources, 0, healthy=2)
    await evict(resources, "default", "ill")
    assert going(resources, "ill") == [True]
    await resources.delete("PodDisruptionBudget", "default", "web")
    await running(resources, "worse", ready=False)
    await budget(resources, 0, healthy=0, policy="AlwaysAllow")
    await evict(resources, "default", "worse")
    assert going(resources, "worse") == [True]


async def test_two_budgets_and_one_not_yet_looked_at_allow_nothing(resources: Resources) -> None:
    await running(resources, "a")
    await budget(resources, 5)
    await budget(resources, 5, name="other")
    with pytest.raises(BudgetExhausted, match=r"more than one PodDisruptionBudget \(other, web\)"):
        await evict(resources, "default", "a")
    await resources.delete("PodDisruptionBudget", "default", "other")

    def change(newest: policy_pb2.PodDisruptionBudget) -> None:
        newest.spec.minAvailable.intVal = 1

    await resources.mutate("PodDisruptionBudget", "default", "web", change)
    with pytest.raises(BudgetExhausted, match="still being processed"):
        await evict(resources, "default", "a")


async def test_over_grpc(served: Served) -> None:
    await running(served.resources, "a")
    await budget(served.resources, 0)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await served.stub.Evict(control_pb2.EvictRequest(name="a"))
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "disruption budget web" in str(refused.value.details())
    await served.resources.delete("PodDisruptionBudget", "default", "web")
    answer = await served.stub.Evict(control_pb2.EvictRequest(name="a", grace_period_seconds=3))
    assert answer.pod.metadata.deletionGracePeriodSeconds == 3 and not answer.gone
