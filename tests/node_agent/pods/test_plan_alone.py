"""Pods whose one container is its own sandbox: when they stand alone, and when they get a sandbox after all."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node_agent.pods.model import Memory, Trouble
from node_agent.pods.plan import Plan, make_plan, may_stand_alone
from node_agent.pods.steps import CreateSandbox, Remove, StartContainer, Terminate
from node_agent.runtime.seam import Seen, State
from tests.node_agent.pods.build import BOX, deleted, make_pod, seen

NOW = 1000.0
MEMORY = Memory(started_at=90.0)


def alone(state: State = State.RUNNING, **more: object) -> Seen:
    return seen("a", state, sandbox="", **more)  # type: ignore[arg-type]


def test_one_container_and_nothing_that_outlives_it() -> None:
    assert may_stand_alone(make_pod("a"))
    assert not may_stand_alone(make_pod("a", "b"))
    assert not may_stand_alone(make_pod("a", inits=("i",)))
    joined, memory, disk = make_pod("a"), make_pod("a"), make_pod("a")
    joined.spec.hostNetwork = True
    assert not may_stand_alone(joined)
    memory.spec.volumes.add(name="v").volumeSource.emptyDir.medium = "Memory"
    assert not may_stand_alone(memory)
    disk.spec.volumes.add(name="v").volumeSource.emptyDir.SetInParent()
    assert may_stand_alone(disk)


def test_it_starts_without_a_sandbox_and_runs() -> None:
    pod = make_pod("a")
    assert make_plan(pod, [], MEMORY, NOW).actions == (StartContainer("a", 0, 0),)
    assert make_plan(pod, [alone()], MEMORY, NOW) == Plan()
    under_way = dataclasses.replace(MEMORY, in_flight=frozenset({"start/a"}))
    assert make_plan(pod, [], under_way, NOW).actions == ()
    assert make_plan(pod, [alone(State.CREATED)], under_way, NOW).actions == ()


def test_one_left_half_made_is_removed() -> None:
    assert make_plan(make_pod("a"), [alone(State.CREATED)], MEMORY, NOW).actions == (Remove("a0"),)


def test_first_restart_is_at_once_and_alone() -> None:
    plan = make_plan(make_pod("a"), [alone(State.EXITED, code=1, end=NOW)], MEMORY, NOW)
    assert plan.actions == (StartContainer("a", 1, 1),)


def test_while_it_backs_off_a_sandbox_holds_its_address() -> None:
    pod = make_pod("a")
    crashed = alone(State.EXITED, code=1, attempt=1, crashes=1, start=NOW - 1, end=NOW)
    plan = make_plan(pod, [crashed], MEMORY, NOW)
    assert (plan.actions, plan.backing_off, plan.wake_at) == ((CreateSandbox(0),), {"a": 10.0}, NOW + 10)
    under_way = dataclasses.replace(MEMORY, in_flight=frozenset({"sandbox"}))
    plan = make_plan(pod, [crashed], under_way, NOW)
    assert (plan.actions, plan.backing_off) == ((), {"a": 10.0})
    plan = make_plan(pod, [BOX, crashed], MEMORY, NOW + 1)
    assert (plan.actions, plan.backing_off) == ((), {"a": 10.0})
    plan = make_plan(pod, [BOX, crashed], MEMORY, NOW + 10)
    assert plan.actions == (StartContainer("a", 2, 2, "box0", "10.0.0.2"),)
    again = seen("a", attempt=2, crashes=2)
    assert make_plan(pod, [BOX, crashed, again], MEMORY, NOW + 11).actions == ()


def test_a_sandbox_that_cannot_be_made_keeps_nobody_waiting() -> None:
    crashed = alone(State.EXITED, code=1, attempt=1, crashes=1, start=NOW - 1, end=NOW)
    memory = dataclasses.replace(MEMORY, trouble={"": Trouble("FailedCreatePodSandBox", "no", NOW, NOW + 300)})
    assert make_plan(make_pod("a"), [crashed], memory, NOW + 1).actions == ()
    assert make_plan(make_pod("a"), [crashed], memory, NOW + 10).actions == (StartContainer("a", 2, 2),)


def test_a_start_that_has_to_wait_gets_a_sandbox_too() -> None:
    ended = alone(State.EXITED, code=1, end=NOW)
    memory = dataclasses.replace(MEMORY, trouble={"a": Trouble("ErrImagePull", "no", NOW, NOW + 10)})
    assert make_plan(make_pod("a"), [ended], memory, NOW + 1).actions == (CreateSandbox(0),)
    # But not before it has ever run: nobody knows its address.
    assert make_plan(make_pod("a"), [], memory, NOW + 1).actions == ()
    assert make_plan(make_pod("a"), [], memory, NOW + 10).actions == (StartContainer("a", 0, 0),)


def test_a_new_image_is_pulled_while_a_sandbox_holds_the_address() -> None:
    pod = make_pod("a")
    pod.spec.containers[0].image = "app:2"
    plan = make_plan(pod, [alone()], MEMORY, NOW)
    assert plan.actions == (Terminate("a0", "a", "container a has a new image"),)
    ended = alone(State.EXITED, code=143, end=NOW)
    assert make_plan(pod, [ended], MEMORY, NOW).actions == (CreateSandbox(0),)
    assert make_plan(pod, [BOX, ended], MEMORY, NOW).actions == (StartContainer("a", 1, 1, "box0", "10.0.0.2"),)


@pytest.mark.parametrize(("code", "phase"), [(0, "Succeeded"), (3, "Failed")])
def test_one_that_ends_for_good(code: int, phase: str) -> None:
    plan = make_plan(make_pod("a", policy="Never"), [alone(State.EXITED, code=code)], MEMORY, NOW)
    assert plan.final is not None and plan.final.phase == phase
    assert plan.actions == ()


def test_deletion() -> None:
    pod = deleted(make_pod("a"), grace=30)
    assert [type(a) for a in make_plan(pod, [alone()], MEMORY, NOW).actions] == [Terminate]
    assert make_plan(pod, [alone(State.EXITED)], MEMORY, NOW).actions == (Remove("a0"),)


def test_a_pod_that_had_a_sandbox_gets_one_again() -> None:
    assert make_plan(make_pod("a"), [BOX, seen("a")], MEMORY, NOW) == Plan()
    ended = seen("a", State.EXITED, code=137, end=NOW)
    assert make_plan(make_pod("a"), [ended], MEMORY, NOW).actions == (CreateSandbox(0),)


@settings(deadline=None)
@given(
    state=st.sampled_from(list(State)),
    older=st.booleans(),
    box=st.sampled_from([None, *State]),
    crashes=st.integers(0, 3),
    policy=st.sampled_from(["Always", "OnFailure", "Never"]),
    code=st.sampled_from([0, 1]),
    flights=st.sets(st.sampled_from(["sandbox", "start/a"])),
    later=st.floats(0, 400),
)
def test_never_two_with_one_address(
    state: State,
    older: bool,
    box: State | None,
    crashes: int,
    policy: str,
    code: int,
    flights: set[str],
    later: float,
) -> None:
    one = alone(state, attempt=1, crashes=crashes, code=code, start=NOW - 5, end=NOW)
    world = [one, *([alone(State.EXITED)] if older else []), *([seen(state=box)] if box is not None else [])]
    memory = dataclasses.replace(MEMORY, in_flight=frozenset(flights))
    plan = make_plan(make_pod("a", policy=policy), world, memory, NOW + later)
    holders = [w for w in world if w.state is State.RUNNING]
    for action in plan.actions:
        if isinstance(action, CreateSandbox) or (isinstance(action, StartContainer) and not action.sandbox):
            assert not holders, "one address, one holder"
            assert not flights, "nor one under way"
        if isinstance(action, StartContainer) and action.sandbox:
            assert [one.id for one in holders] == [action.sandbox]
    assert sum(isinstance(action, CreateSandbox | StartContainer) for action in plan.actions) <= 1
