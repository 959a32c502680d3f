"""What a pod's plan does about sidecars, hooks and containers whose probes fail."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_agent.pods.model import Memory
from node_agent.pods.plan import Plan, is_initialized, make_plan
from node_agent.pods.status import pod_status
from node_agent.pods.steps import Kill, StartContainer, Terminate
from node_agent.probes.health import Doom, Health
from node_agent.runtime.seam import Seen, State
from protos.core_pb2 import Pod, PodStatus
from tests.node_agent.pods.build import BOX, deleted, make_pod, seen

NOW = 1000.0
MEMORY = Memory(started_at=90.0)
UP, DOWN = Health(True, True), Health(False, False)


def beside(*mains: str, sidecars: tuple[str, ...] = ("s", "t"), policy: str = "Always") -> Pod:
    pod = make_pod(*mains, policy=policy, inits=sidecars)
    for container in pod.spec.initContainers:
        container.restartPolicy = "Always"
    return pod


def memory(**changes: object) -> Memory:
    return dataclasses.replace(MEMORY, **changes)  # type: ignore[arg-type]


def starts(plan: Plan) -> list[str]:
    return [action.name for action in plan.actions if isinstance(action, StartContainer)]


def ends(plan: Plan) -> list[str]:
    return [action.name for action in plan.actions if isinstance(action, Terminate)]


def test_the_next_one_waits_until_a_sidecar_has_started() -> None:
    pod = beside("a")
    assert starts(make_plan(pod, [BOX], MEMORY, NOW)) == ["s"]
    assert starts(make_plan(pod, [BOX, seen("s")], memory(health={"s0": DOWN}), NOW)) == []
    assert starts(make_plan(pod, [BOX, seen("s")], MEMORY, NOW)) == ["t"]
    assert starts(make_plan(pod, [BOX, seen("s"), seen("t")], MEMORY, NOW)) == ["a"]
    pod.spec.initContainers[0].lifecycle.postStart.sleep.seconds = 1
    hooked = memory(in_flight=frozenset({"start/s"}))
    assert starts(make_plan(pod, [BOX, seen("s")], hooked, NOW)) == []


def test_sidecars_come_back_whatever_they_ended_with() -> None:
    pod = beside("a", policy="Never")
    ended = seen("s", State.EXITED, code=0, end=NOW)
    assert starts(make_plan(pod, [BOX, ended], MEMORY, NOW)) == ["s"]
    assert starts(make_plan(pod, [BOX, ended, seen("t"), seen("a")], MEMORY, NOW)) == ["s"]
    crashed = seen("s", State.EXITED, attempt=1, crashes=1, start=NOW - 1, end=NOW)
    plan = make_plan(pod, [BOX, crashed, seen("t"), seen("a")], MEMORY, NOW)
    assert (starts(plan), plan.backing_off) == ([], {"s": 10.0})
    assert plan.final is None


def test_a_pod_that_is_running_stays_initialized_without_its_sidecar() -> None:
    pod = beside("a")
    assert not is_initialized(pod, [BOX], MEMORY)
    assert is_initialized(pod, [BOX, seen("s", State.EXITED), seen("a")], MEMORY)


def test_the_last_sidecar_ends_first_and_all_after_the_main_ones() -> None:
    pod = deleted(beside("a", "b"))
    everyone = [BOX, seen("a"), seen("b"), seen("s"), seen("t")]
    plan = make_plan(pod, everyone, MEMORY, NOW)
    assert ends(plan) == ["a", "b"] and plan.ending
    told = memory(terminated={"a0": NOW, "b0": NOW}, ending_since=NOW)
    one_left = [BOX, seen("a", State.EXITED), seen("b"), seen("s"), seen("t")]
    assert ends(make_plan(pod, one_left, told, NOW + 5)) == []
    alone = [BOX, seen("a", State.EXITED), seen("b", State.EXITED), seen("s"), seen("t")]
    plan = make_plan(pod, alone, told, NOW + 10)
    assert plan.actions == (Terminate("t0", "t", "the pod is deleted", 20.0),)
    last = [BOX, seen("s"), seen("t", State.EXITED)]
    plan = make_plan(pod, last, dataclasses.replace(told, terminated={"t0": NOW + 10}), NOW + 29.5)
    assert plan.actions == (Terminate("s0", "s", "the pod is deleted", 2.0),)


def test_sidecars_share_one_grace_but_have_two_seconds_each() -> None:
    pod = deleted(beside("a"))
    told = memory(terminated={"t0": NOW + 40}, ending_since=NOW)
    world = [BOX, seen("s"), seen("t")]
    assert make_plan(pod, world, told, NOW + 41).actions == ()
    assert make_plan(pod, world, told, NOW + 42).actions == (Kill("t0", "t"),)
    pod = deleted(beside("a"), grace=0)
    plan = make_plan(pod, [BOX, seen("a"), seen("s"), seen("t")], MEMORY, NOW)
    assert plan.actions == (Kill("a0", "a"), Kill("s0", "s"), Kill("t0", "t"))


@pytest.mark.parametrize(("code", "phase"), [(0, "Succeeded"), (1, "Failed")])
def test_only_the_main_ones_say_how_a_pod_ended(code: int, phase: str) -> None:
    pod = beside("a", sidecars=("s",), policy="Never")
    world = [BOX, seen("s"), seen("a", State.EXITED, code=code)]
    plan = make_plan(pod, world, MEMORY, NOW)
    assert plan.final is not None and plan.final.phase == phase
    assert ends(plan) == ["s"]
    during = status(pod, world, memory(final=plan.final))
    assert during.phase == "Running"
    after = [seen("s", State.EXITED, code=137), seen("a", State.EXITED, code=code)]
    assert status(pod, after, memory(final=plan.final)).phase == phase


def test_a_sidecar_that_fails_does_not_fail_the_pod() -> None:
    pod = beside("a", sidecars=("s",), policy="Never")
    plan = make_plan(pod, [BOX, seen("s", State.EXITED, code=1, end=NOW)], MEMORY, NOW)
    assert plan.final is None and starts(plan) == ["s"]


def test_a_doomed_container_ends_within_its_own_grace() -> None:
    doom = Doom("Container a failed liveness probe, will be restarted", 7)
    sick = memory(health={"a0": Health(True, False, doom)})
    plan = make_plan(make_pod("a", "b"), [BOX, seen("a"), seen("b")], sick, NOW)
    assert plan.actions == (Terminate("a0", "a", doom.message, 7.0, whole=True),)
    told = dataclasses.replace(sick, terminated={"a0": NOW})
    plan = make_plan(make_pod("a"), [BOX, seen("a")], told, NOW + 6)
    assert (plan.actions, plan.wake_at) == ((), NOW + 7)
    assert make_plan(make_pod("a"), [BOX, seen("a")], told, NOW + 7).actions == (Kill("a0", "a"),)
    dead = [BOX, seen("a", State.EXITED, code=137, end=NOW)]
    assert starts(make_plan(make_pod("a"), dead, told, NOW + 7)) == ["a"]
    never = make_plan(make_pod("a", policy="Never"), dead, told, NOW + 7)
    assert never.final is not None and never.final.phase == "Failed"


def test_a_hook_counts_against_the_grace_but_leaves_two_seconds() -> None:
    pod = deleted(make_pod("a"), grace=10)
    pod.spec.containers[0].lifecycle.preStop.sleep.seconds = 10
    world, asked = [BOX, seen("a")], {"a0": NOW}
    assert make_plan(pod, world, MEMORY, NOW).actions == (Terminate("a0", "a", "the pod is deleted", 10.0),)
    running = memory(terminated=asked, in_flight=frozenset({"terminate/a0"}))
    assert make_plan(pod, world, running, NOW + 11).actions == ()
    assert make_plan(pod, world, running, NOW + 12).actions == (Kill("a0", "a"),)
    quick = memory(terminated=asked, signalled={"a0": NOW + 1})
    assert make_plan(pod, world, quick, NOW + 9.9).actions == ()
    assert make_plan(pod, world, quick, NOW + 10).actions == (Kill("a0", "a"),)
    slow = memory(terminated=asked, signalled={"a0": NOW + 10})
    assert make_plan(pod, world, slow, NOW + 11).wake_at == NOW + 12


def status(pod: Pod, world: list[Seen], remembered: Memory = MEMORY, before: PodStatus | None = None) -> PodStatus:
    plan = make_plan(pod, world, remembered, NOW)
    was = before or PodStatus()
    return pod_status(pod, world, remembered, plan, was, node_ip="10.0.0.1", pod_ip="10.0.0.2", now=NOW)


def test_conditions_count_sidecars() -> None:
    pod = beside("a", sidecars=("s",))
    pod.spec.initContainers[0].readinessProbe.periodSeconds = 1
    waiting = status(pod, [BOX])
    found = {one.type: (one.status, one.message) for one in waiting.conditions}
    assert found["Initialized"] == ("False", "containers with incomplete status: [s]")
    running = status(pod, [BOX, seen("s"), seen("a")])
    found = {one.type: (one.status, one.message) for one in running.conditions}
    assert found["Initialized"][0] == "True"
    assert found["Ready"] == found["ContainersReady"] == ("False", "containers with unready status: [s]")
    healthy = status(pod, [BOX, seen("s"), seen("a")], memory(health={"s0": UP}))
    assert all(one.status == "True" for one in healthy.conditions)


def test_while_its_hook_runs_a_container_is_being_created() -> None:
    pod = make_pod("a")
    pod.spec.containers[0].lifecycle.postStart.sleep.seconds = 1
    found = status(pod, [BOX, seen("a")], memory(in_flight=frozenset({"start/a"})))
    (one,) = found.containerStatuses
    assert (one.state.waiting.reason, one.started, one.ready) == ("ContainerCreating", False, False)
    assert found.phase == "Pending"
    assert status(pod, [BOX, seen("a")]).phase == "Running"


def test_messages_are_shown() -> None:
    dead = dataclasses.replace(seen("a", State.EXITED, code=1), message="out of luck")
    found = status(make_pod("a", policy="Never"), [BOX, dead])
    assert found.containerStatuses[0].state.terminated.message == "out of luck"


names = st.sampled_from(["s", "t", "a", "b"])


@given(
    st.dictionaries(names, st.sampled_from([State.RUNNING, State.EXITED])),
    st.dictionaries(names, st.booleans()),
    st.floats(0, 100),
)
def test_order_of_the_end_holds_in_every_world(
    states: Mapping[str, State], asked: Mapping[str, bool], later: float
) -> None:
    """Nobody is told to end before what started after it has ended (but for a grace of 0)."""
    pod = deleted(beside("a", "b"))
    world = [BOX, *(seen(name, state) for name, state in states.items())]
    told = {f"{name}0": NOW for name, yes in asked.items() if yes}
    plan = make_plan(pod, world, memory(terminated=told, ending_since=NOW), NOW + later)
    live = {name for name, state in states.items() if state is State.RUNNING}
    for name in ends(plan):
        if name in ("s", "t"):
            assert not live & {"a", "b"}
        if name == "s":
            assert "t" not in live
