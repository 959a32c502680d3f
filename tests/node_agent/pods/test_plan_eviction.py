"""How a pod that is evicted ends: with less grace than its own, and where disk is short without remains."""

from __future__ import annotations

from node_agent.pods.model import Final, Memory
from node_agent.pods.plan import make_plan
from node_agent.pods.steps import CleanUp, Kill, Remove, Terminate
from node_agent.runtime.seam import State
from tests.node_agent.pods.build import BOX, deleted, make_pod, seen

RUNS = [BOX, seen("main")]
DEAD = [seen("main", State.EXITED, code=137)]


def memory(grace: int | None, *, discard: bool = False, **more: object) -> Memory:
    return Memory(100.0, final=Final("Failed", "Evicted", "short", grace, discard), **more)  # type: ignore[arg-type]


def test_a_hard_threshold_leaves_no_grace() -> None:
    plan = make_plan(make_pod("main"), RUNS, memory(0), 200.0)
    assert [type(action) for action in plan.actions] == [Kill] and plan.ending
    # Also when the master has it deleted meanwhile.
    assert [type(action) for action in make_plan(deleted(make_pod("main")), RUNS, memory(0), 200.0).actions] == [Kill]


def test_a_soft_one_leaves_the_pods_own_or_less() -> None:
    for grace, seconds in ((None, 30.0), (10, 10.0), (90, 30.0)):
        (action,) = make_plan(make_pod("main"), RUNS, memory(grace), 200.0).actions
        assert isinstance(action, Terminate) and action.seconds == seconds


def test_nothing_begins_anew() -> None:
    plan = make_plan(make_pod("main"), DEAD, memory(0), 200.0)
    assert plan.actions == () and plan.final is not None and plan.final.reason == "Evicted"


def test_its_room_on_disk_is_given_back() -> None:
    pod = make_pod("main")
    plan = make_plan(pod, DEAD, memory(0, discard=True), 200.0)
    assert plan.actions == (Remove("main0"),)
    assert make_plan(pod, [], memory(0, discard=True), 200.0).actions == (CleanUp(),)
    assert make_plan(pod, [], memory(0, discard=True, cleaned=True), 200.0).actions == ()
    # And when it is deleted there is nothing left to do.
    assert make_plan(deleted(pod), [], memory(0, discard=True, cleaned=True), 200.0).gone
