"""Whatever happens in whatever order: bounds hold at every instant, and in the end the template runs."""

from __future__ import annotations

import math

from hypothesis import example, given, settings
from hypothesis import strategies as st

from master.controllers.pods import is_active, is_available, is_terminating
from protos import core_pb2
from tests.master.controllers.deployment.world import World, deployment

# Passes come often, but any of them may be lost: a lost trigger is a step that is not there.
OFTEN = ["deploy"] * 4 + ["keep"] * 4 + ["ready"] * 4 + ["template"] * 2 + ["tick", "gone"]
SELDOM = ["scale", "pause", "resume", "unready", "fail", "lose", "evict"]
STEP = st.one_of(
    *[st.tuples(st.sampled_from(OFTEN), st.integers(0, 11))] * 4, st.tuples(st.sampled_from(SELDOM), st.integers(0, 11))
)
STEPS = st.lists(STEP, min_size=5, max_size=40)


def take(world: World, step: str, number: int) -> int:
    """One step of the world or its users; how many available pods it cost."""
    names = sorted(world.pods)
    chosen = world.pods[names[number % len(names)]] if names else None
    before = world.available()
    match step:
        case "tick":
            world.now += number
        case "template":
            world.template(f"web:{number % 4}")
        case "scale":
            world.scale(number)
        case "pause" | "resume":
            world.pause(step == "pause")
        case "gone":
            world.leave()
        case "ready" if chosen is not None and is_active(chosen) and not is_available(chosen, 0, world.now):
            world.ready(chosen)
        case "unready" if chosen is not None and is_active(chosen):
            world.ready(chosen, False)
        case "fail" if chosen is not None:
            chosen.status.phase = "Failed"
        case "lose" if chosen is not None:
            del world.pods[chosen.metadata.name]
        case "evict" if chosen is not None:
            chosen.metadata.deletionTimestamp.FromSeconds(int(world.now))
    return max(0, before - world.available())


def converges(world: World) -> None:
    world.pause(False)
    # One by one, each for minReadySeconds.
    world.settle(rounds=120)
    wanted = world.deployment.spec.template.spec.containers[0].image
    assert world.images() == [wanted] * world.deployment.spec.replicas
    assert world.condition("Progressing")[1] == "NewReplicaSetAvailable" or not world.deployment.spec.replicas
    assert not world.plan(), world.plan().summary()


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 8), st.integers(0, 4), st.integers(0, 4), st.sampled_from([0, 0, 3]), STEPS)
# Scaled down while the new set has pods still to make, and the old one pods still to delete.
@example(2, 1, 0, 0, [("deploy", 0), ("deploy", 0), ("scale", 1), ("deploy", 0), ("keep", 1)])
def test_bounds_hold_and_it_converges(
    replicas: int, surge: int, unavailable: int, min_ready: int, steps: list[tuple[str, int]]
) -> None:
    found = deployment(replicas=replicas, surge=surge, unavailable=unavailable, min_ready=min_ready)
    world = World(found)
    world.settle()
    world.template("web:9")
    (most, least), cost = world.limits(), 0
    for step, number in steps:
        pods, available = len(world.active()), world.available()
        if step == "deploy":
            settled, floor = not world.unsettled(), least
            most, least = world.limits()
            if settled:
                cost = 0
            else:
                # What was decided for a smaller number may still be carried out.
                least = min(least, floor)
            world.deploy()
        elif step == "keep" and world.sets:
            world.keep(sorted(world.sets)[number % len(world.sets)])
        else:
            cost += take(world, step, number)
            continue
        assert len(world.active()) <= max(pods, most)
        assert world.available() >= min(available, least - cost)
    converges(world)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 3), STEPS)
def test_recreate_never_mixes_templates(replicas: int, steps: list[tuple[str, int]]) -> None:
    world = World(deployment(replicas=replicas, recreate=True))
    for step, number in steps:
        if step == "deploy":
            world.deploy()
        elif step == "keep" and world.sets:
            world.keep(sorted(world.sets)[number % len(world.sets)])
        else:
            take(world, step, number)
        assert world.live_templates() <= 1
    converges(world)


@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_one_pod_with_a_host_port_never_meets_the_next(steps: list[tuple[str, int]]) -> None:
    world = World(deployment(replicas=1, surge=1, host_port=8080))
    for step, number in steps:
        if step == "deploy":
            world.deploy()
        elif step == "keep" and world.sets:
            world.keep(sorted(world.sets)[number % len(world.sets)])
        elif step not in ("scale", "evict"):
            take(world, step, number)
        assert world.live_templates() <= 1
        assert sum(is_terminating(pod) or is_active(pod) for pod in world.pods.values()) <= 1
    converges(world)


class Crashing:
    """Pods whose containers end within a second of each start: Ready for an instant, again and again."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.ready_at: dict[str, float] = {}

    def start(self, pod: core_pb2.Pod) -> None:
        self.world.ready(pod)
        self.ready_at[pod.metadata.name] = self.world.now

    def crash(self, pod: core_pb2.Pod) -> None:
        restarts = sum(one.restartCount for one in pod.status.containerStatuses)
        self.world.ready(pod, False)
        del pod.status.containerStatuses[:]
        pod.status.containerStatuses.add(name="app", restartCount=restarts + 1)
        self.ready_at.pop(pod.metadata.name, None)

    def passes(self, seconds: float) -> None:
        """Time goes on, and nobody is up for longer than a second of it."""
        for pod in list(self.world.pods.values()):
            if self.ready_at.get(pod.metadata.name, math.inf) + 1 < self.world.now + seconds:
                self.crash(pod)
        self.world.now += seconds


FLAPS = st.lists(
    st.tuples(st.sampled_from(["deploy", "keep", "start", "start", "crash", "tick", "gone"]), st.integers(0, 11)),
    min_size=10,
    max_size=80,
)


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 8), st.integers(0, 4), st.integers(0, 4), FLAPS)
def test_a_crashing_container_that_nobody_asks_costs_no_old_pod(
    replicas: int, surge: int, unavailable: int, steps: list[tuple[str, int]]
) -> None:
    world = World(deployment(replicas=replicas, surge=surge, unavailable=unavailable))
    world.settle()
    assert world.condition("Progressing")[1] == "NewReplicaSetAvailable"
    (good,) = world.sets
    world.template("web:bad")
    crashing, (_, least) = Crashing(world), world.limits()
    for step, number in steps * 2:
        bad = [pod for pod in world.active() if pod.spec.containers[0].image == "web:bad"]
        chosen = bad[number % len(bad)] if bad else None
        match step:
            case "deploy":
                world.deploy()
            case "keep":
                world.keep(sorted(world.sets)[number % len(world.sets)])
            case "start" if chosen is not None and chosen.metadata.name not in crashing.ready_at:
                crashing.start(chosen)
            case "crash" if chosen is not None:
                crashing.crash(chosen)
            case "tick":
                crashing.passes(number * 0.25)
            case "gone":
                world.leave()
        old = [pod for pod in world.pods_of(world.sets[good]) if is_active(pod)]
        assert len(old) >= least and world.sets[good].spec.replicas >= least
    assert world.condition("Progressing")[1] != "NewReplicaSetAvailable" or len(world.sets) == 1
