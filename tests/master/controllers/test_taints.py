"""A node's taints mirror it, taints of users stay, and NoExecute takes pods after the time they bear it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from master.controllers.plan import Delete, Note, Plan
from master.controllers.taints import OURS, reconcile, wanted
from master.controllers.tolerations import NO_EXECUTE, NO_SCHEDULE, NOT_READY, UNREACHABLE, UNSCHEDULABLE
from protos import core_pb2
from tests.master.controllers.builders import NOW, node, pod
from tests.master.controllers.planworld import PlanWorld


def settle(made: core_pb2.Node, pods: list[core_pb2.Pod], now: float = NOW) -> tuple[core_pb2.Node, Plan]:
    world = PlanWorld(made)
    for _ in range(3):
        found = world.objects[("Node", "", made.metadata.name)]
        plan = reconcile(found, pods, now)
        if any(isinstance(action, Delete) for action in plan.actions) or not plan:
            return found, plan
        world.apply(plan)
    raise AssertionError("taints do not settle")


def marks(made: core_pb2.Node) -> set[tuple[str, str]]:
    return {(taint.key, taint.effect) for taint in made.spec.taints}


@pytest.mark.parametrize(
    ("ready", "expected"),
    [
        ("True", set()),
        ("False", {(NOT_READY, NO_SCHEDULE), (NOT_READY, NO_EXECUTE)}),
        ("Unknown", {(UNREACHABLE, NO_SCHEDULE), (UNREACHABLE, NO_EXECUTE)}),
    ],
)
def test_readiness(ready: str, expected: set[tuple[str, str]]) -> None:
    made = node("n", ready=ready)
    made.spec.taints.add(key=UNREACHABLE, effect=NO_SCHEDULE)
    made.spec.taints.add(key="dedicated", value="db", effect=NO_SCHEDULE)
    found, _ = settle(made, [])
    assert marks(found) == expected | {("dedicated", NO_SCHEDULE)}
    assert all(t.HasField("timeAdded") == (t.effect == NO_EXECUTE) for t in found.spec.taints)


def test_pressure_and_cordon() -> None:
    made = node("n")
    made.spec.unschedulable = True
    for kind, status in (("MemoryPressure", "True"), ("DiskPressure", "False"), ("PIDPressure", "True")):
        made.status.conditions.add(type=kind, status=status)
    found, _ = settle(made, [])
    assert {key for key, _ in marks(found)} == {
        UNSCHEDULABLE,
        "node.kubernetes.io/memory-pressure",
        "node.kubernetes.io/pid-pressure",
    }
    assert {effect for _, effect in marks(found)} == {NO_SCHEDULE}
    found.spec.unschedulable = False
    assert UNSCHEDULABLE not in {key for key, _ in marks(settle(found, [])[0])}


def test_a_cordon_and_its_end_are_told_once() -> None:
    made = node("n")
    made.spec.unschedulable = True
    told = [note.reason for note in reconcile(made, [], NOW).after if isinstance(note, Note)]
    assert told == ["NodeNotSchedulable"]
    found, _ = settle(made, [])
    assert not reconcile(found, [], NOW)
    found.spec.unschedulable = False
    told = [note.reason for note in reconcile(found, [], NOW).after if isinstance(note, Note)]
    assert told == ["NodeSchedulable"]


def test_noexecute_takes_pods_when_their_time_is_over() -> None:
    made = node("n")
    made.spec.taints.add(key="broken", effect=NO_EXECUTE)
    plain, ten, ever = (pod(name, node="n") for name in ("plain", "ten", "ever"))
    ten.spec.tolerations.add(key="broken", operator="Exists", effect=NO_EXECUTE, tolerationSeconds=10)
    ever.spec.tolerations.add(key="broken", operator="Exists")
    going = pod("going", node="n", terminating=True)
    found, plan = settle(made, [plain, ten, ever, going])
    assert [action.key[2] for action in plan.actions if isinstance(action, Delete)] == ["plain"]
    assert [note.reason for note in plan.after if isinstance(note, Note)] == ["TaintManagerEviction"]
    assert plan.again == pytest.approx(10)
    assert not settle(found, [ten, ever], NOW + 9)[1]
    gone = settle(found, [ten, ever], NOW + 10)[1].actions
    assert [action.key[2] for action in gone if isinstance(action, Delete)] == ["ten"]


def test_the_two_clocks_of_silence_are_not_doubled() -> None:
    """Who leaves a silent node is for master/controllers/nodes.py."""
    found, plan = settle(node("n", ready="Unknown"), [pod("p", node="n")], NOW)
    assert (UNREACHABLE, NO_EXECUTE) in marks(found) and not plan


@settings(deadline=None)
@given(
    st.sampled_from(["True", "False", "Unknown"]),
    st.booleans(),
    st.lists(st.tuples(st.sampled_from([*sorted(OURS), "a", "b"]), st.sampled_from([NO_SCHEDULE, NO_EXECUTE])),
             unique=True),
)  # fmt: skip
def test_settles_in_one_step_and_keeps_what_users_set(
    ready: str, cordoned: bool, before: list[tuple[str, str]]
) -> None:
    made = node("n", ready=ready)
    made.spec.unschedulable = cordoned
    for key, effect in before:
        made.spec.taints.add(key=key, effect=effect)
    found, plan = settle(made, [])
    assert not plan
    assert marks(found) == {mark for mark in before if mark[0] not in OURS} | set(wanted(found))
    assert len(found.spec.taints) == len(marks(found))
    assert all(a != b for a, b in itertools.combinations(map(str, found.spec.taints), 2))
