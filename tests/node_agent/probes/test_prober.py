"""The tasks of one pod's probes, against scripted containers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from node_agent.probes.handlers import Handlers
from node_agent.probes.health import Doom, Health
from node_agent.probes.prober import PodProber
from node_agent.runtime.script import Answer, Asked, Script
from node_agent.runtime.seam import ContainerSpec, Identity, SandboxSpec, Seen
from node_agent.runtime.simulated import SimulatedRuntime
from protos.core_pb2 import Container, Pod
from tests.node_agent.pods.build import deleted
from tests.node_agent.probes.build import asks, container

IP = "10.0.0.2"


@dataclass
class World:
    """A pod of scripted containers, all running, and its prober."""

    prober: PodProber
    pod: Pod
    seen: list[Seen]
    runtime: SimulatedRuntime
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    notes: list[tuple[str, str, str, str]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    starting: frozenset[str] = frozenset()

    def health(self) -> dict[str, Health]:
        """By container name."""
        found = self.prober.sync(self.pod, self.seen, IP, self.starting)
        return {one.name: found[one.id] for one in self.seen if one.id in found}

    async def until(self, check: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not check():
            assert time.monotonic() < deadline, (self.health(), self.asked, self.notes)
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def world(
    *containers: Container, kept: dict[str, Health] | None = None, age: float = 0.0
) -> AsyncIterator[World]:
    """`kept` is by container name; `age`: seconds for which the containers ran before the prober began."""
    made: World | None = None

    def answer(asked: Asked) -> Answer:
        assert made is not None
        made.asked.append(asked.detail)
        return made.answers.get(asked.detail, Answer())

    runtime = SimulatedRuntime("c", "n", Script(answer=answer), images=("app:1",))
    pod = Pod()
    pod.metadata.uid = "uid-1"
    box = Identity("c", "n", "default", "web", "uid-1", ip=IP)
    sandbox = await runtime.create_sandbox(SandboxSpec(box, "web", "net"))
    ids = {}
    for one in containers:
        pod.spec.containers.add().CopyFrom(one)
        identity = Identity("c", "n", "default", "web", "uid-1", one.name, ip=IP, sandbox=sandbox)
        ids[one.name] = await runtime.create_container(ContainerSpec(identity, one.image))
        await runtime.start(ids[one.name])
    prober = PodProber(
        "uid-1",
        Handlers(runtime),
        kept={ids[name]: health for name, health in (kept or {}).items()},
        note=lambda *note: made.notes.append(note) if made is not None else None,
        changed=lambda: made.changed.set() if made is not None else None,
        now=lambda: time.time() + age,
    )
    made = World(prober, pod, [one for one in await runtime.containers() if one.name], runtime)
    try:
        yield made
    finally:
        await prober.close()
        await runtime.close()


async def test_readiness_follows_the_answers() -> None:
    async with world(container(readiness=asks("ok", failureThreshold=1))) as it:
        it.answers["ok"] = Answer(code=1, output="not yet")
        assert it.health()["a"] == Health(started=True, ready=False)
        await it.until(lambda: bool(it.notes))
        assert it.notes[0] == ("Warning", "Unhealthy", "Readiness probe failed: not yet", "a")
        assert not it.health()["a"].ready
        it.answers["ok"] = Answer()
        await it.until(lambda: it.health()["a"].ready)
        assert it.changed.is_set()
        it.answers["ok"] = Answer(code=1)
        await it.until(lambda: not it.health()["a"].ready)
        assert it.health()["a"].doom is None


async def test_liveness_dooms_with_its_own_grace() -> None:
    probe = asks("alive", failureThreshold=2)
    probe.terminationGracePeriodSeconds = 7
    async with world(container(liveness=probe)) as it:
        it.answers["alive"] = Answer(code=1)
        assert it.health()["a"] == Health(True, True)
        await it.until(lambda: it.health()["a"].doom is not None)
        assert it.health()["a"].doom == Doom("Container a failed liveness probe, will be restarted", 7)
        assert it.asked[:2] == ["alive", "alive"]
        assert it.notes[0][2] == "Liveness probe failed: command exited with code 1"


async def test_others_wait_for_startup() -> None:
    one = container(startup=asks("up", failureThreshold=30), readiness=asks("ok"), liveness=asks("alive"))
    async with world(one) as it:
        it.answers["up"] = Answer(code=1)
        assert it.health()["a"] == Health(False, False)
        await it.until(lambda: it.asked.count("up") == 2)
        assert set(it.asked) == {"up"}
        it.answers["up"] = Answer()
        await it.until(lambda: it.health()["a"] == Health(True, True))
        assert {"ok", "alive"} <= set(it.asked)
        assert it.asked.count("up") == 3


async def test_one_that_hangs_keeps_nobody_waiting() -> None:
    hanging = container("a", liveness=asks("hang", timeoutSeconds=60), readiness=asks("ok"))
    async with world(hanging, container("b", readiness=asks("fine"))) as it:
        it.answers["hang"] = Answer(seconds=3600)
        await it.until(lambda: it.health() == {"a": Health(True, True), "b": Health(True, True)})


async def test_no_answer_in_time_is_a_failure() -> None:
    async with world(container(liveness=asks("hang", timeoutSeconds=1, failureThreshold=1))) as it:
        it.answers["hang"] = Answer(seconds=3600)
        await it.until(lambda: it.health()["a"].doom is not None)
        assert it.notes[0][2] == 'Liveness probe failed: command timed out: "hang" after 1s'


async def test_an_engine_that_is_down_is_no_answer() -> None:
    async with world(container(liveness=asks("alive", failureThreshold=1))) as it:
        it.runtime.script.down = True
        assert it.health()["a"].ready
        await it.until(lambda: len(it.notes) >= 2)
        assert it.notes[0][2] == "Liveness probe errored: the simulated engine is down"
        assert it.health()["a"] == Health(True, True)


async def test_adopted_containers_keep_what_was_reported() -> None:
    one = container("a", startup=asks("up", period=3600), readiness=asks("ok", period=3600))
    async with world(one, kept={"a": Health(True, True)}, age=60.0) as it:
        assert it.health()["a"] == Health(True, True)
        assert it.asked == []


async def test_a_pod_that_is_deleted_is_asked_for_readiness_only() -> None:
    one = container(liveness=asks("alive"), readiness=asks("ok"))
    async with world(one) as it:
        await it.until(lambda: it.health()["a"].ready)
        it.pod = deleted(it.pod)
        it.answers["alive"] = Answer(code=1)
        it.health()
        asked = it.asked.count("ok")
        await it.until(lambda: it.asked.count("ok") > asked + 1)
        assert it.health()["a"] == Health(True, True)


async def test_probes_end_with_their_container() -> None:
    async with world(container(liveness=asks("alive"))) as it:
        await it.until(lambda: bool(it.health() and it.asked))
        it.seen = []
        assert it.health() == {}
        await it.until(lambda: len(it.prober._tasks) == 0)


async def test_nothing_is_asked_while_the_hook_runs_and_a_doomed_one_stays_doomed() -> None:
    one = container(readiness=asks("ok"))
    one.lifecycle.postStart.sleep.seconds = 1
    async with world(one) as it:
        it.starting = frozenset({"a"})
        assert it.health() == {}
        it.prober.doom(it.seen[0].id, Doom("its hook failed"))
        assert it.changed.is_set()
        it.starting = frozenset()
        assert it.health()["a"].doom == Doom("its hook failed")
        await it.until(lambda: it.health()["a"].ready)
        assert it.health()["a"].doom == Doom("its hook failed")
