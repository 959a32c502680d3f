"""What a pod's plan does, and what it must never do."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node_agent.pods.model import Memory, Trouble
from node_agent.pods.plan import Plan, crash_delay, make_plan, newest
from node_agent.pods.steps import CleanUp, CreateSandbox, Kill, Remove, StartContainer, Terminate
from node_agent.runtime.seam import Seen, State
from protos.core_pb2 import Pod
from tests.node_agent.pods.build import BOX, deleted, make_pod, seen

NOW = 1000.0
MEMORY = Memory(started_at=90.0)


def starts(plan: Plan) -> list[tuple[str, int]]:
    return [(a.name, a.attempt) for a in plan.actions if isinstance(a, StartContainer)]


def test_first_a_sandbox_then_all_containers() -> None:
    pod = make_pod("a", "b")
    assert make_plan(pod, [], MEMORY, NOW).actions == (CreateSandbox(0),)
    plan = make_plan(pod, [BOX], MEMORY, NOW)
    assert starts(plan) == [("a", 0), ("b", 0)]
    assert all(a.sandbox == "box0" and a.ip == "10.0.0.2" for a in plan.actions if isinstance(a, StartContainer))


def test_running_pod_needs_nothing() -> None:
    plan = make_plan(make_pod("a"), [BOX, seen("a")], MEMORY, NOW)
    assert plan == Plan()
    assert plan.summary() == "nothing"


def test_what_is_in_flight_is_not_begun_again() -> None:
    memory = dataclasses.replace(MEMORY, in_flight=frozenset({"start/a"}))
    assert starts(make_plan(make_pod("a", "b"), [BOX], memory, NOW)) == [("b", 0)]
    memory = dataclasses.replace(MEMORY, in_flight=frozenset({"sandbox"}))
    assert make_plan(make_pod("a"), [], memory, NOW).actions == ()


def test_init_containers_one_after_the_other() -> None:
    pod = make_pod("a", inits=("i", "j"))
    assert starts(make_plan(pod, [BOX], MEMORY, NOW)) == [("i", 0)]
    assert starts(make_plan(pod, [BOX, seen("i")], MEMORY, NOW)) == []
    done = seen("i", State.EXITED)
    assert starts(make_plan(pod, [BOX, done], MEMORY, NOW)) == [("j", 0)]
    assert starts(make_plan(pod, [BOX, done, seen("j", State.EXITED)], MEMORY, NOW)) == [("a", 0)]


def test_init_containers_run_again_in_a_new_sandbox() -> None:
    pod = make_pod("a", inits=("i",))
    box = seen(attempt=1)
    assert starts(make_plan(pod, [box, seen("i", State.EXITED)], MEMORY, NOW)) == [("i", 1)]


def test_failed_init_container() -> None:
    failed = seen("i", State.EXITED, code=1)
    assert starts(make_plan(make_pod("a", inits=("i",)), [BOX, failed], MEMORY, NOW)) == [("i", 1)]
    plan = make_plan(make_pod("a", inits=("i",), policy="Never"), [BOX, failed], MEMORY, NOW)
    assert plan.final is not None and plan.final.phase == "Failed"
    assert plan.actions == (Remove("box0"),)


@pytest.mark.parametrize(
    ("crashes", "seconds"), [(0, 0), (1, 10), (2, 20), (3, 40), (4, 80), (5, 160), (6, 300), (60, 300)]
)
def test_crash_delay(crashes: int, seconds: float) -> None:
    assert crash_delay(crashes) == seconds


def test_first_restart_is_at_once_and_the_second_waits() -> None:
    pod = make_pod("a")
    assert starts(make_plan(pod, [BOX, seen("a", State.EXITED, code=1, end=NOW)], MEMORY, NOW)) == [("a", 1)]
    again = seen("a", State.EXITED, code=1, attempt=1, crashes=1, start=NOW - 1, end=NOW)
    plan = make_plan(pod, [BOX, again], MEMORY, NOW)
    assert starts(plan) == []
    assert plan.backing_off == {"a": 10.0}
    assert plan.wake_at == NOW + 10
    assert starts(make_plan(pod, [BOX, again], MEMORY, NOW + 10)) == [("a", 2)]


def test_end_of_the_sandbox_is_no_crash() -> None:
    ended = seen("a", State.EXITED, code=137, attempt=4, crashes=4, start=NOW - 1, end=NOW, sandbox="box0")
    plan = make_plan(make_pod("a"), [seen(attempt=1), ended], MEMORY, NOW)
    assert [(a.attempt, a.crashes) for a in plan.actions if isinstance(a, StartContainer)] == [(5, 4)]


def test_backoff_is_forgotten_after_ten_minutes_of_running() -> None:
    long = seen("a", State.EXITED, code=1, attempt=7, crashes=7, start=NOW - 600, end=NOW)
    plan = make_plan(make_pod("a"), [BOX, long], MEMORY, NOW)
    assert [a.crashes for a in plan.actions if isinstance(a, StartContainer)] == [1]


@pytest.mark.parametrize(
    ("policy", "code", "restarts", "phase"),
    [
        ("Always", 0, True, None),
        ("Always", 1, True, None),
        ("OnFailure", 1, True, None),
        ("OnFailure", 0, False, "Succeeded"),
        ("Never", 0, False, "Succeeded"),
        ("Never", 1, False, "Failed"),
    ],
)
def test_restart_policy(policy: str, code: int, restarts: bool, phase: str | None) -> None:
    plan = make_plan(make_pod("a", policy=policy), [BOX, seen("a", State.EXITED, code=code)], MEMORY, NOW)
    assert bool(starts(plan)) == restarts
    assert (plan.final.phase if plan.final else None) == phase


def test_ended_pod_gives_its_sandbox_up_and_keeps_its_last_containers() -> None:
    pod = make_pod("a", policy="Never")
    plan = make_plan(pod, [BOX, seen("a", State.EXITED)], MEMORY, NOW)
    assert plan.actions == (Remove("box0"),)
    assert make_plan(pod, [seen("a", State.EXITED)], MEMORY, NOW).actions == ()


def test_attempts_count_on_after_the_containers_are_gone() -> None:
    memory = dataclasses.replace(MEMORY, attempts={"": 3, "a": 4})
    assert make_plan(make_pod("a", "b"), [], memory, NOW).actions == (CreateSandbox(4),)
    assert starts(make_plan(make_pod("a"), [BOX], memory, NOW)) == [("a", 5)]
    assert starts(make_plan(make_pod("a"), [], memory, NOW)) == [("a", 5)]


def test_lost_sandbox_ends_the_containers_then_begins_anew() -> None:
    pod = make_pod("a")
    dead = seen(state=State.EXITED, code=137)
    plan = make_plan(pod, [dead, seen("a")], MEMORY, NOW)
    assert [type(a) for a in plan.actions] == [Terminate]
    stopped = seen("a", State.EXITED, code=143)
    assert make_plan(pod, [dead, stopped], MEMORY, NOW).actions == (Remove("box0"),)
    memory = dataclasses.replace(MEMORY, attempts={"": 0, "a": 0})
    assert make_plan(pod, [stopped], memory, NOW).actions == (CreateSandbox(1),)


def test_pod_that_never_restarts_gets_no_second_sandbox() -> None:
    pod = make_pod("a", policy="Never")
    dead = seen(state=State.EXITED, code=137)
    plan = make_plan(pod, [dead, seen("a", State.EXITED, code=143)], MEMORY, NOW)
    assert plan.final is not None and plan.final.phase == "Failed"
    assert plan.actions == (Remove("box0"),)


def test_container_left_half_made_is_removed() -> None:
    made = seen("a", State.CREATED)
    assert make_plan(make_pod("a"), [BOX, made], MEMORY, NOW).actions == (Remove("a0"),)
    memory = dataclasses.replace(MEMORY, in_flight=frozenset({"start/a"}))
    assert make_plan(make_pod("a"), [BOX, made], memory, NOW).actions == ()


def test_new_image_replaces_the_container() -> None:
    pod = make_pod("a")
    pod.spec.containers[0].image = "app:2"
    plan = make_plan(pod, [BOX, seen("a")], MEMORY, NOW)
    assert plan.actions == (Terminate("a0", "a", "container a has a new image"),)


def test_trouble_is_waited_out() -> None:
    memory = dataclasses.replace(MEMORY, trouble={"a": Trouble("ErrImagePull", "no", NOW - 5, NOW + 5)})
    plan = make_plan(make_pod("a", "b"), [BOX], memory, NOW)
    assert starts(plan) == [("b", 0)]
    assert plan.wake_at == NOW + 5
    assert starts(make_plan(make_pod("a"), [BOX], memory, NOW + 5)) == [("a", 0)]


def test_active_deadline() -> None:
    pod = make_pod("a")
    pod.spec.activeDeadlineSeconds = 20
    assert make_plan(pod, [BOX, seen("a")], MEMORY, 100.0).wake_at == 110.0
    plan = make_plan(pod, [BOX, seen("a")], MEMORY, 110.0)
    assert plan.final is not None and plan.final.reason == "DeadlineExceeded"
    assert [type(a) for a in plan.actions] == [Terminate]


def test_deletion_step_by_step() -> None:
    pod = deleted(make_pod("a"), grace=30)
    plan = make_plan(pod, [BOX, seen("a")], MEMORY, NOW)
    assert [type(a) for a in plan.actions] == [Terminate] and plan.stop_starting
    asked = dataclasses.replace(MEMORY, terminated={"a0": NOW})
    plan = make_plan(pod, [BOX, seen("a")], asked, NOW + 29)
    assert plan.actions == () and plan.wake_at == NOW + 30
    assert make_plan(pod, [BOX, seen("a")], asked, NOW + 30).actions == (Kill("a0", "a"),)
    killed = dataclasses.replace(asked, killed={"a0": NOW + 30})
    assert make_plan(pod, [BOX, seen("a")], killed, NOW + 31).actions == ()
    assert make_plan(pod, [BOX, seen("a")], killed, NOW + 35).actions == (Kill("a0", "a"),)
    ended = [BOX, seen("a", State.EXITED, code=137)]
    assert make_plan(pod, ended, killed, NOW + 36).actions == (Remove("box0"), Remove("a0"))
    assert make_plan(pod, [], killed, NOW + 37).actions == (CleanUp(),)
    assert make_plan(pod, [], dataclasses.replace(killed, cleaned=True), NOW + 38).gone


def test_deletion_without_grace_kills_at_once() -> None:
    plan = make_plan(deleted(make_pod("a"), grace=0), [BOX, seen("a")], MEMORY, NOW)
    assert plan.actions == (Kill("a0", "a"),)


def test_shortened_grace_counts_from_the_signal() -> None:
    asked = dataclasses.replace(MEMORY, terminated={"a0": NOW})
    plan = make_plan(deleted(make_pod("a"), grace=1), [BOX, seen("a")], asked, NOW + 2)
    assert plan.actions == (Kill("a0", "a"),)


def test_a_deleted_pod_that_is_held_runs_on_until_it_is_released_or_its_time_is_over() -> None:
    pod, box = deleted(make_pod("a"), grace=30), [BOX, seen("a")]
    held = dataclasses.replace(MEMORY, held_until=NOW + 8)
    plan = make_plan(pod, box, held, NOW)
    assert (plan.actions, plan.wake_at, plan.stop_starting) == ((), NOW + 8, True)
    assert make_plan(pod, box, held, NOW + 8).actions == (Terminate("a0", "a", "the pod is deleted"),)
    assert make_plan(pod, box, MEMORY, NOW).actions == (Terminate("a0", "a", "the pod is deleted"),)
    # To be killed at once, or ended by itself: nothing to wait for.
    assert make_plan(deleted(make_pod("a"), grace=0), box, held, NOW).actions == (Kill("a0", "a"),)
    ended = make_plan(pod, [BOX, seen("a", State.EXITED)], held, NOW)
    assert {type(action) for action in ended.actions} == {Remove}


def test_deletion_waits_for_a_start_in_flight() -> None:
    memory = dataclasses.replace(MEMORY, in_flight=frozenset({"start/a"}), cleaned=True)
    plan = make_plan(deleted(make_pod("a")), [BOX], memory, NOW)
    assert plan.actions == () and plan.stop_starting and not plan.gone


def test_last_dead_container_is_kept_beside_a_living_one() -> None:
    history = [seen("a", State.EXITED, attempt=n) for n in range(3)]
    plan = make_plan(make_pod("a"), [BOX, *history, seen("a", attempt=3)], MEMORY, NOW)
    assert set(plan.actions) == {Remove("a0"), Remove("a1")}


STATES = st.sampled_from(list(State))


@st.composite
def situations(draw: st.DrawFn) -> tuple[Pod, list[Seen], Memory]:
    names = ("a", "b")
    pod = make_pod(*names, policy=draw(st.sampled_from(["Always", "OnFailure", "Never"])), inits=("i",))
    boxes = [seen(state=draw(STATES), attempt=n) for n in range(draw(st.integers(0, 2)))]
    containers = [
        seen(
            name,
            draw(STATES),
            attempt=n,
            code=draw(st.sampled_from([0, 1, 137])),
            crashes=draw(st.integers(0, 3)),
            sandbox=draw(st.sampled_from(["box0", "box1"])),
            start=draw(st.floats(100, 990)),
        )
        for name in ("i", *names)
        for n in range(draw(st.integers(0, 2)))
    ]
    flights = draw(st.sets(st.sampled_from(["sandbox", "start/a", "start/b", "start/i"])))
    if draw(st.booleans()):
        pod = deleted(pod, draw(st.integers(0, 5)))
    return pod, boxes + containers, dataclasses.replace(MEMORY, in_flight=frozenset(flights))


@settings(deadline=None)
@given(situations())
def test_safety(situation: tuple[Pod, list[Seen], Memory]) -> None:
    pod, containers, memory = situation
    plan = make_plan(pod, containers, memory, NOW)
    keys = [action.key for action in plan.actions]
    assert len(keys) == len(set(keys)), "nothing is asked for twice"
    assert not memory.in_flight & set(keys)
    states = {one.id: one for one in containers}
    for action in plan.actions:
        if isinstance(action, StartContainer):
            last = newest(containers, action.name)
            assert last is None or last.state is State.EXITED, "never two of one container"
            assert last is None or action.attempt > last.attempt
            assert states[action.sandbox].state is State.RUNNING
            assert not pod.metadata.HasField("deletionTimestamp")
            assert plan.final is None
        if isinstance(action, Remove) and states[action.id].name:
            assert states[action.id].state is not State.RUNNING, "a living container is asked first"
        if isinstance(action, CreateSandbox):
            assert not any(one.state is State.RUNNING for one in containers), "never two sandboxes"
            assert not any(not one.name for one in containers)
        if isinstance(action, CleanUp):
            assert not containers
    assert not plan.gone or not containers


@pytest.mark.parametrize("policy", ["Always", "OnFailure", "Never"])
@settings(deadline=None)
@given(codes=st.lists(st.sampled_from([0, 1]), min_size=30, max_size=30))
def test_every_pod_comes_to_rest(policy: str, codes: list[int]) -> None:
    """Carrying out plan after plan, a pod runs or ends, and deleted it goes away."""
    world: dict[str, Seen] = {}
    pod, memory, now = make_pod("a", "b", policy=policy, inits=("i",)), MEMORY, NOW
    exits = iter(codes)
    for _ in range(40):
        plan = make_plan(pod, list(world.values()), memory, now)
        for action in plan.actions:
            memory = _carry_out(action, world, memory, now, next(exits, 0))
        now += 400
    assert plan.final is not None or any(one.name == "a" for one in world.values()) or 1 in codes
    pod = deleted(pod, 0)
    for _ in range(10):
        plan = make_plan(pod, list(world.values()), memory, now)
        for action in plan.actions:
            memory = _carry_out(action, world, memory, now, 0)
        now += 1
    assert plan.gone


def _carry_out(action: object, world: dict[str, Seen], memory: Memory, now: float, code: int) -> Memory:
    if isinstance(action, CreateSandbox):
        box = seen(attempt=action.attempt)
        world[box.id] = box
        return dataclasses.replace(memory, attempts={**memory.attempts, "": action.attempt})
    if isinstance(action, StartContainer):
        one = seen(
            action.name, State.EXITED if action.name == "i" else State.RUNNING,
            attempt=action.attempt, code=code if action.name == "i" else 0, start=now, sandbox=action.sandbox,
            crashes=action.crashes,
        )  # fmt: skip
        world[one.id] = one
    elif isinstance(action, Kill | Terminate):
        world[action.id] = dataclasses.replace(world[action.id], state=State.EXITED, exit_code=137, finished_at=now)
    elif isinstance(action, Remove):
        del world[action.id]
    elif isinstance(action, CleanUp):
        return dataclasses.replace(memory, cleaned=True)
    return memory
