"""What a budget allows: numbers and percentages, owners' replicas, grants that are open, never below what it wants."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from master.controllers.disruption import GRANT_SECONDS, assess, reconcile, replicas_of
from master.controllers.plan import Change
from protos import apps_pb2, core_pb2, meta_pb2, policy_pb2
from tests.master.controllers.builders import NOW, pod, rc


def budget(**amounts: int | str) -> policy_pb2.PodDisruptionBudget:
    pdb = policy_pb2.PodDisruptionBudget()
    pdb.metadata.name, pdb.metadata.namespace, pdb.metadata.uid, pdb.metadata.generation = "b", "default", "u", 1
    pdb.spec.selector.matchLabels["app"] = "web"
    for name, value in amounts.items():
        field = getattr(pdb.spec, name)
        if isinstance(value, int):
            field.intVal = value
            field.SetInParent()
        else:
            field.type, field.strVal = 1, value
    return pdb


def scale(reference: meta_pb2.OwnerReference, namespace: str) -> tuple[str, int] | None:
    return (reference.uid, 10) if reference.name == "web" else None


def pods(ready: int, unready: int = 0, *, owned: bool = True) -> list[core_pb2.Pod]:
    owner = rc("web", 10) if owned else None
    return [pod(f"p{i}", node="n", ready=i < ready, owner=owner) for i in range(ready + unready)]


@pytest.mark.parametrize(
    ("amounts", "ready", "unready", "wanted"),
    [
        ({"minAvailable": 3}, 5, 0, (5, 3, 2)),
        ({"minAvailable": 3}, 2, 1, (3, 3, 0)),
        ({"minAvailable": 0}, 5, 0, (5, 0, 5)),
        ({"minAvailable": "55%"}, 8, 2, (10, 6, 2)),
        ({"minAvailable": "100%"}, 10, 0, (10, 10, 0)),
        ({"maxUnavailable": 1}, 10, 0, (10, 9, 1)),
        ({"maxUnavailable": 1}, 9, 0, (10, 9, 0)),
        ({"maxUnavailable": "25%"}, 10, 0, (10, 7, 3)),
        ({"maxUnavailable": 20}, 4, 0, (10, 0, 4)),
        ({"minAvailable": 1}, 0, 0, (0, 1, 0)),
    ],
)
def test_what_is_wanted_and_allowed(
    amounts: dict[str, int | str], ready: int, unready: int, wanted: tuple[int, int, int]
) -> None:
    status, _ = assess(budget(**amounts), pods(ready, unready), scale, NOW)
    assert (status.expectedPods, status.desiredHealthy, status.disruptionsAllowed) == wanted
    assert status.currentHealthy == ready and status.observedGeneration == 1
    (condition,) = status.conditions
    assert (condition.type, condition.status) == ("DisruptionAllowed", "True" if wanted[2] else "False")


def test_pods_without_a_scaled_owner_count_as_one_each() -> None:
    status, _ = assess(budget(maxUnavailable=1), pods(3, owned=False), scale, NOW)
    assert (status.expectedPods, status.desiredHealthy, status.disruptionsAllowed) == (3, 2, 1)


def test_going_and_granted_pods_are_not_healthy_and_grants_run_out() -> None:
    pdb = budget(minAvailable=1)
    found = pods(4)
    found[0].metadata.deletionTimestamp.FromSeconds(int(NOW))
    pdb.status.disruptedPods["p0"].FromSeconds(int(NOW))
    pdb.status.disruptedPods["p1"].FromSeconds(int(NOW) - 20)
    pdb.status.disruptedPods["gone"].FromSeconds(int(NOW))
    status, again = assess(pdb, found, scale, NOW)
    assert set(status.disruptedPods) == {"p1"} and status.currentHealthy == 2 and status.disruptionsAllowed == 1
    assert again == pytest.approx(GRANT_SECONDS - 20)
    status, again = assess(pdb, found, scale, NOW + GRANT_SECONDS)
    assert not status.disruptedPods and status.currentHealthy == 3 and again is None


def test_finished_pods_are_nobodys_loss_and_an_equal_status_writes_nothing() -> None:
    pdb = budget(minAvailable=1)
    found = [*pods(2), pod("done", node="n", phase="Succeeded")]
    plan = reconcile(pdb, found, scale, NOW)
    (change,) = plan.actions
    assert isinstance(change, Change)
    change.change(pdb)
    assert pdb.status.expectedPods == 2
    assert not reconcile(pdb, found, scale, NOW)


def test_a_grant_that_came_meanwhile_is_not_written_over() -> None:
    pdb = budget(minAvailable=1)
    (change,) = reconcile(pdb, pods(3), scale, NOW).actions
    assert isinstance(change, Change)
    newest = policy_pb2.PodDisruptionBudget()
    newest.CopyFrom(pdb)
    newest.status.disruptedPods["p0"].FromSeconds(int(NOW))
    before = newest.SerializeToString(deterministic=True)
    change.change(newest)
    assert newest.SerializeToString(deterministic=True) == before


def test_replicas() -> None:
    assert replicas_of(rc("web", 4)) == 4
    assert replicas_of(apps_pb2.Deployment()) == 1
    assert replicas_of(apps_pb2.DaemonSet()) is None


@settings(deadline=None)
@given(st.integers(0, 12), st.integers(0, 5), st.sampled_from(["minAvailable", "maxUnavailable"]), st.integers(0, 12))
def test_what_is_allowed_never_leaves_too_few(ready: int, unready: int, name: str, number: int) -> None:
    """Granting everything that is allowed leaves the wanted number; granting takes one from the next allowance."""
    pdb = budget(**{name: number})
    found = pods(ready, unready, owned=False)
    status, _ = assess(pdb, found, scale, NOW)
    granted = 0
    while status.disruptionsAllowed:
        pdb.status.CopyFrom(status)
        pdb.status.disruptedPods[f"p{granted}"].FromSeconds(int(NOW))
        granted += 1
        before = status.disruptionsAllowed
        status, _ = assess(pdb, found, scale, NOW)
        assert status.disruptionsAllowed == before - 1
    assert status.currentHealthy == ready - granted
    assert granted == 0 or status.currentHealthy >= status.desiredHealthy
