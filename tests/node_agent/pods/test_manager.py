"""The manager's shell on a simulated engine: faults, hanging calls, cancelled pulls, volumes that follow."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from common.errors import Conflict
from node_agent.pods.manager import Assignments, NodeContext, PodManager
from node_agent.pods.plan import spec_hash
from node_agent.runtime.seam import ContainerSpec, Identity, LogOptions, Refused, SandboxSpec, Seen, State
from node_agent.runtime.simulated import Behaviour, Script, SimulatedRuntime
from node_agent.storage import MemoryStorage
from protos.agent_pb2 import AgentEvent, LogsCommand, PodReport
from protos.core_pb2 import ConfigMap, ContainerStatus, Pod
from tests.node_agent.pods.build import deleted, make_pod
from tests.node_agent.pods.network import NETWORK


class Agent:
    """A manager on a simulated engine."""

    def __init__(self, runtime: SimulatedRuntime, data: Path, now: Callable[[], float] = time.time) -> None:
        self.runtime = runtime
        self.reports: dict[str, PodReport] = {}
        self.events: list[AgentEvent] = []
        context = NodeContext("c", "node", str(data), "192.0.2.1", NETWORK, relist_seconds=0.2)
        self.manager = PodManager(runtime, context, self._report, self.events.append, MemoryStorage(), now)

    def _report(self, report: PodReport) -> None:
        self.reports[report.uid] = report

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.manager.run())
            try:
                yield
            finally:
                task.cancel()

    def phase(self, uid: str) -> str:
        return self.reports[uid].status.phase if uid in self.reports else ""

    def waiting(self, uid: str) -> str:
        if uid not in self.reports:
            return ""
        return str(self.reports[uid].status.containerStatuses[0].state.waiting.reason)


class Watched(SimulatedRuntime):
    """Notes in which order pods are looked for and made."""

    def __init__(self) -> None:
        super().__init__("c", "node")
        self.asked: list[str] = []

    async def containers(self, uid: str = "") -> list[Seen]:
        if uid:
            self.asked.append(f"look {uid}")
        return await super().containers(uid)

    async def create_container(self, spec: ContainerSpec) -> str:
        self.asked.append(f"make {spec.identity.uid}")
        return await super().create_container(spec)


def pods(*names: str) -> dict[str, Pod]:
    found = {}
    for name in names:
        pod = make_pod("a")
        pod.metadata.name = pod.metadata.uid = name
        found[name] = pod
    return found


async def until(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not check():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)


async def test_many_pods(tmp_path: Path) -> None:
    agent = Agent(SimulatedRuntime("c", "node"), tmp_path)
    wanted = pods(*(f"p{n}" for n in range(50)))
    async with agent.running():
        agent.manager.assign(Assignments(wanted))
        await until(lambda: all(agent.phase(uid) == "Running" for uid in wanted))
        assert len({report.status.podIP for report in agent.reports.values()}) == 50
        agent.manager.assign(Assignments())
        await until(lambda: all(report.gone for report in agent.reports.values()))
        await until(lambda: agent.manager.statuses() == [])
        assert await agent.runtime.containers() == []


async def test_only_what_may_be_there_is_looked_for_before_it_is_made(tmp_path: Path) -> None:
    runtime = Watched()
    agent = Agent(runtime, tmp_path)
    async with agent.running():
        agent.manager.assign(Assignments(pods("old")))
        await until(lambda: agent.phase("old") == "Running")
        agent.manager.assign(Assignments(pods("old", "new")))
        await until(lambda: agent.phase("new") == "Running")
    first, then = runtime.asked.index("look old"), runtime.asked.index("make old")
    assert first < then, "an earlier agent may have begun it"
    first, then = runtime.asked.index("make new"), runtime.asked.index("look new")
    assert first < then


async def test_a_new_pod_of_which_something_is_there_all_the_same(tmp_path: Path) -> None:
    runtime = Watched()
    agent = Agent(runtime, tmp_path)
    async with agent.running():
        agent.manager.assign(Assignments(pods("old")))
        await until(lambda: agent.phase("old") == "Running")
        (made,) = await runtime.containers("old")
        # An engine that finished what a dead agent had asked for.
        late = dataclasses.replace(made.identity, uid="late", pod="late", ip="10.244.1.99")
        place = SandboxSpec(late, "late", NETWORK.name)
        id = await runtime.create_container(ContainerSpec(late, "app:1", alone=place))
        agent.manager.assign(Assignments(pods("old", "late")))
        await until(lambda: agent.phase("late") == "Running")
        (one,) = await runtime.containers("late")
        assert one.id != id and one.state is State.RUNNING


async def test_engine_that_is_down_is_no_pod_failure(tmp_path: Path) -> None:
    agent = Agent(SimulatedRuntime("c", "node"), tmp_path)
    async with agent.running():
        agent.manager.assign(Assignments(pods("one")))
        await until(lambda: agent.phase("one") == "Running")
        agent.runtime.script.down = True
        measured = await agent.manager.measure()
        ready = next(one for one in measured.conditions if one.type == "Ready")
        assert (ready.status, ready.reason) == ("False", "EngineUnavailable")
        agent.manager.assign(Assignments(pods("one", "two")))
        await asyncio.sleep(0)
        assert agent.phase("one") == "Running"
        agent.runtime.script.down = False
        await until(lambda: agent.phase("two") == "Running")
        assert agent.reports["one"].status.containerStatuses[0].restartCount == 0
        measured = await agent.manager.measure()
        assert {one.type: one.status for one in measured.conditions}["Ready"] == "True"


async def test_engine_that_is_down_at_the_start_is_waited_for(tmp_path: Path) -> None:
    agent = Agent(SimulatedRuntime("c", "node", Script(down=True)), tmp_path)
    async with agent.running():
        agent.manager.assign(Assignments(pods("one")))
        await asyncio.sleep(0)
        agent.runtime.script.down = False
        await until(lambda: agent.phase("one") == "Running")


async def test_one_hanging_container_keeps_no_other_pod_waiting(tmp_path: Path) -> None:
    class Hanging(SimulatedRuntime):
        async def start(self, id: str) -> None:
            seen = next(one for one in await self.containers() if one.id == id)
            if seen.identity.pod == "stuck" and seen.name:
                await asyncio.Event().wait()
            await super().start(id)

    agent = Agent(Hanging("c", "node"), tmp_path)
    async with agent.running():
        agent.manager.assign(Assignments(pods("stuck", "fine")))
        await until(lambda: agent.phase("fine") == "Running")
        assert agent.waiting("stuck") == "ContainerCreating"
        agent.manager.assign(Assignments(pods("fine")))
        await until(lambda: agent.reports["stuck"].gone)


async def test_a_held_pod_is_stopped_when_it_is_released_and_not_held_again(tmp_path: Path) -> None:
    agent = Agent(SimulatedRuntime("c", "node"), tmp_path)
    agent.runtime.script.behave = lambda spec: Behaviour(ignores_term=True)
    one = pods("one")
    async with agent.running():
        agent.manager.assign(Assignments(one))
        await until(lambda: agent.phase("one") == "Running")
        going = {"one": deleted(one["one"], 1)}
        agent.manager.assign(Assignments(going, held=frozenset({"one"})))
        worker = agent.manager._workers["one"]
        await until(lambda: worker.memory.held_until is not None)
        assert worker.memory.terminated == {}
        agent.manager.assign(Assignments(going))
        await until(lambda: len(worker.memory.terminated) == 1)
        # A master that was started again asks the proxies anew; the signal is sent all the same.
        agent.manager.assign(Assignments(going, held=frozenset({"one"})))
        await until(lambda: agent.reports["one"].gone)
        assert worker.memory.held_until is None


async def test_pod_deleted_during_its_pull(tmp_path: Path) -> None:
    agent = Agent(SimulatedRuntime("c", "node", Script(pull_seconds=3600)), tmp_path)
    async with agent.running():
        (pod,) = pods("one").values()
        agent.manager.assign(Assignments({"one": pod}))
        await until(lambda: any(event.reason == "Pulling" for event in agent.events))
        agent.manager.assign(Assignments({"one": deleted(pod)}))
        await until(lambda: agent.reports["one"].gone)


async def test_missed_events_are_made_up_for(tmp_path: Path) -> None:
    class Silent(SimulatedRuntime):
        def _hint(self, box: object, what: str) -> None:
            """Every event is lost."""

    agent = Agent(Silent("c", "node"), tmp_path)
    async with agent.running():
        agent.manager.assign(Assignments(pods("one")))
        await until(lambda: agent.phase("one") == "Running")
        (main,) = [one for one in await agent.runtime.containers() if one.name]
        agent.runtime.crash(main.id)
        await until(lambda: agent.reports["one"].status.containerStatuses[0].restartCount == 1)


async def test_configmap_files_follow(tmp_path: Path) -> None:
    agent = Agent(SimulatedRuntime("c", "node"), tmp_path)
    (pod,) = pods("one").values()
    volume = pod.spec.volumes.add(name="v")
    volume.volumeSource.configMap.localObjectReference.name = "cm"
    file = tmp_path / "pods" / "one" / "volumes" / "configMap" / "v" / "key"

    def known(text: str) -> Assignments:
        return Assignments({"one": pod}, {("default", "cm"): ConfigMap(data={"key": text})})

    async with agent.running():
        agent.manager.assign(Assignments({"one": pod}))
        await until(lambda: any(event.reason == "FailedMount" for event in agent.events))
        await until(lambda: "configmap" in agent.reports["one"].status.containerStatuses[0].state.waiting.message)
        agent.manager.assign(known("1"))
        await until(lambda: agent.phase("one") == "Running")
        assert file.read_text() == "1"
        agent.manager.assign(known("2"))
        await until(lambda: file.read_text() == "2")
        assert agent.reports["one"].status.containerStatuses[0].restartCount == 0


async def test_address_in_use_by_a_stranger(tmp_path: Path) -> None:
    runtime = SimulatedRuntime("c", "node")
    agent = Agent(runtime, tmp_path)
    async with agent.running():
        agent.manager.assign(Assignments(pods("one")))
        await until(lambda: agent.phase("one") == "Running")
    other = Agent(runtime, tmp_path)
    # An agent that could not adopt: it does not see the container that has the first address.
    real = runtime.containers

    async def blind(uid: str = "") -> list[Seen]:
        return [one for one in await real(uid) if one.uid != "one"]

    runtime.containers = blind  # type: ignore[method-assign]
    async with other.running():
        other.manager.assign(Assignments(pods("two")))
        await until(lambda: other.phase("two") == "Running")
        assert other.reports["two"].status.podIP != agent.reports["one"].status.podIP


async def test_a_start_that_is_tried_again_is_no_restart(tmp_path: Path) -> None:
    """The engine shows a container that did not get its address as one that has ended, until it is removed."""

    class Engine(SimulatedRuntime):
        refused = 0

        async def start(self, id: str) -> None:
            if self.refused < 2:
                self.refused += 1
                box = self._box(id)
                box.seen = dataclasses.replace(box.seen, state=State.EXITED, exit_code=128, error="no endpoint")
                self._hint(box, "die")
                seen = self.looks
                # Not before the agent has seen it so.
                await until(lambda: self.looks > seen + 2)
                raise Conflict("the endpoint is being torn down")
            await super().start(id)

        looks = 0

        async def containers(self, uid: str = "") -> list[Seen]:
            self.looks += 1
            return await super().containers(uid)

    agent = Agent(Engine("c", "node"), tmp_path)
    async with agent.running():
        agent.manager.assign(Assignments(pods("one")))

        def status() -> ContainerStatus:
            return agent.reports["one"].status.containerStatuses[0]

        await until(lambda: "one" in agent.reports and status().state.HasField("running"))
    assert agent.runtime.refused == 2  # type: ignore[attr-defined]
    assert status().restartCount == 0


async def test_who_runs_has_its_address_before_who_has_ended(tmp_path: Path) -> None:
    runtime = SimulatedRuntime("c", "node", images=("app:1",))

    async def left(uid: str, ip: str) -> str:
        identity = Identity(
            "c", "node", "default", uid, uid, "a", spec_hash=spec_hash(make_pod("a").spec.containers[0])
        )
        identity = dataclasses.replace(identity, ip=ip)
        place = SandboxSpec(identity, uid, "pods")
        id = await runtime.create_container(ContainerSpec(identity, "app:1", alone=place))
        await runtime.start(id)
        return id

    # A pod has ended and given its address away; another one is between two attempts.
    runtime.crash(await left("ended", "10.0.0.2"), 0)
    await left("heir", "10.0.0.2")
    runtime.crash(await left("down", "10.0.0.3"), 1)
    agent = Agent(runtime, tmp_path)
    wanted = pods("ended", "heir", "down", "new")
    wanted["ended"].spec.restartPolicy = "Never"
    async with agent.running():
        agent.manager.assign(Assignments(wanted))
        await until(lambda: [agent.phase(uid) for uid in wanted] == ["Succeeded", "Running", "Running", "Running"])
        await until(lambda: agent.reports["down"].status.containerStatuses[0].restartCount == 1)
        ips = {uid: report.status.podIP for uid, report in agent.reports.items()}
        assert (ips["heir"], ips["down"]) == ("10.0.0.2", "10.0.0.3")
        assert ips["new"] not in ("10.0.0.2", "10.0.0.3")


async def test_logs_follow_until_the_end(tmp_path: Path) -> None:
    def behave(spec: ContainerSpec) -> Behaviour:
        return Behaviour(lines=("one", "two"))

    agent = Agent(SimulatedRuntime("c", "node", Script(behave=behave)), tmp_path)
    async with agent.running():
        agent.manager.assign(Assignments(pods("one")))
        await until(lambda: agent.phase("one") == "Running")
        (main,) = [one for one in await agent.runtime.containers() if one.name and one.state is State.RUNNING]
        read: list[bytes] = []

        async def follow() -> None:
            async for piece in agent.manager.logs(LogsCommand(pod_uid="one", follow=True, tail_lines=1)):
                read.append(piece)

        async with asyncio.TaskGroup() as group:
            group.create_task(follow())
            await until(lambda: read == [b"two\n"])
            agent.runtime.write(main.id, "three")
            await until(lambda: len(read) == 2)
            agent.runtime.crash(main.id)
        assert read == [b"two\n", b"three\n"]


async def test_failing_removal_is_tried_again_but_not_at_once(tmp_path: Path) -> None:
    class Stubborn(SimulatedRuntime):
        removals = 0

        async def remove(self, id: str) -> None:
            type(self).removals += 1
            if self.removals == 1:
                raise Refused("device or resource busy")
            await super().remove(id)

    agent = Agent(Stubborn("c", "node"), tmp_path)
    async with agent.running():
        agent.manager.assign(Assignments(pods("one")))
        await until(lambda: agent.phase("one") == "Running")
        agent.manager.assign(Assignments())
        await until(lambda: agent.reports["one"].gone)
        assert Stubborn.removals == 2


async def test_new_agent_brings_files_up_to_date(tmp_path: Path) -> None:
    runtime = SimulatedRuntime("c", "node")
    (pod,) = pods("one").values()
    pod.spec.volumes.add(name="v").volumeSource.configMap.localObjectReference.name = "cm"
    file = tmp_path / "pods" / "one" / "volumes" / "configMap" / "v" / "key"
    for text in ("1", "2"):
        agent = Agent(runtime, tmp_path)
        async with agent.running():
            known = {("default", "cm"): ConfigMap(data={"key": text})}
            agent.manager.assign(Assignments({"one": pod}, known))
            await until(lambda agent=agent: agent.phase("one") == "Running")  # type: ignore[misc]
            await until(lambda text=text: file.read_text() == text)  # type: ignore[misc]
    assert len(await runtime.containers()) == 1


async def test_a_pod_whose_containers_come_and_go_remembers_those_it_has(tmp_path: Path) -> None:
    # An hour a second: the pauses between restarts are over at the next look.
    agent = Agent(SimulatedRuntime("c", "node"), tmp_path, lambda: time.time() * 3600)
    async with agent.running():
        for number in range(15):
            wanted = pods("one")
            wanted["one"].spec.containers[0].image = image = f"app:{number}"
            agent.manager.assign(Assignments(wanted))

            def runs(image: str = image) -> bool:
                for worker in agent.manager._workers.values():
                    worker.poke()
                statuses = agent.reports["one"].status.containerStatuses if "one" in agent.reports else ()
                return any(one.image == image and one.state.HasField("running") for one in statuses)

            await until(runs)
        memory = agent.manager._workers["one"].memory
        there = {one.id for one in await agent.runtime.containers()}
        for known in (memory.terminated, memory.killed, memory.signalled):
            assert known.keys() <= there


async def test_logs_followed_to_a_containers_end_leave_nothing_on_the_simulated_engine(tmp_path: Path) -> None:
    runtime = SimulatedRuntime("c", "node", images=("app:1",))
    identity = Identity(cluster="c", node="node", namespace="d", pod="p", uid="p")
    sandbox = await runtime.create_sandbox(SandboxSpec(identity, "p", "net"))
    await runtime.start(sandbox)
    inside = dataclasses.replace(identity, container="a", sandbox=sandbox)
    async with asyncio.TaskGroup() as group:
        for number in range(20):
            one = dataclasses.replace(inside, attempt=number)
            id = await runtime.create_container(ContainerSpec(one, "app:1"))
            await runtime.start(id)
            follower = group.create_task(_count(runtime, id))
            while id not in runtime._changed:
                await asyncio.sleep(0)
            await runtime.remove(id)
            await follower
    assert not runtime._changed


async def _count(runtime: SimulatedRuntime, id: str) -> int:
    """Pieces of a container's output, followed to its end."""
    return len([piece async for piece in runtime.logs(id, LogOptions(follow=True))])
