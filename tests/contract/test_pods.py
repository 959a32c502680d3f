"""Whole pods through the PodManager, on every runtime."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import shlex
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from common.errors import BadRequest, NotFound
from node_agent.care.settings import CareSettings
from node_agent.pods.manager import Assignments, NodeContext, PodManager
from node_agent.pods.plan import spec_hash
from node_agent.runtime.seam import ContainerSpec, Seen, State
from node_agent.storage import MemoryStorage
from protos.agent_pb2 import AgentEvent, LogsCommand, PodReport
from protos.core_pb2 import ConfigMap, ContainerStatus, Pod
from tests.contract.conftest import MISSING_IMAGE, Engine, Job, until
from tests.harness.images import BUSYBOX
from tests.node_agent.pods.network import Network

UP = Job(prints=("up",))


@dataclass
class Node:
    """A PodManager at work, and what it said."""

    engine: Engine
    data: Path
    reports: dict[str, PodReport] = field(default_factory=dict)
    phases: dict[str, list[str]] = field(default_factory=dict)
    events: list[AgentEvent] = field(default_factory=list)
    pods: dict[str, Pod] = field(default_factory=dict)
    care: CareSettings = field(default_factory=CareSettings)
    storage: MemoryStorage = field(default_factory=MemoryStorage)
    manager: PodManager = field(init=False)

    def __post_init__(self) -> None:
        network = Network(self.engine.network, f"{self.engine.prefix}.4", f"{self.engine.prefix}.14")
        context = NodeContext(
            self.engine.cluster,
            "node",
            str(self.data),
            "192.0.2.1",
            network,
            cluster_dns="10.96.0.10",
            relist_seconds=0.5,
            care=self.care,
        )
        self.manager = PodManager(self.engine.runtime, context, self._report, self.events.append, self.storage)

    def _report(self, report: PodReport) -> None:
        self.reports[report.uid] = report
        self.phases.setdefault(report.uid, []).append(report.status.phase)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Node]:
        """The agent's life; pods run on after it."""
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.manager.run())
            try:
                yield self
            finally:
                task.cancel()

    def pod(self, name: str, *jobs: Job, policy: str = "Always", image: str = BUSYBOX) -> Pod:
        """A pod with one container per job, named c0, c1 ..."""
        pod = Pod()
        pod.metadata.name, pod.metadata.namespace = name, "default"
        pod.metadata.uid = self.engine.identity(name).uid
        pod.spec.restartPolicy = policy
        pod.spec.terminationGracePeriodSeconds = 5
        for number, job in enumerate(jobs):
            self.engine.jobs[shlex.join(job.command)] = job
            pod.spec.containers.add(name=f"c{number}", image=image, command=job.command)
        return pod

    def assign(self, *pods: Pod) -> None:
        self.pods = {pod.metadata.uid: pod for pod in pods}
        self.manager.assign(Assignments(pods=self.pods))

    async def phase(self, pod: Pod, phase: str) -> PodReport:
        return await self.until(pod, lambda report: report.status.phase == phase)

    async def until(self, pod: Pod, check: Callable[[PodReport], bool]) -> PodReport:
        async def look() -> PodReport | None:
            report = self.reports.get(pod.metadata.uid)
            return report if report is not None and check(report) else None

        return await until(look)

    async def containers(self, pod: Pod) -> list[Seen]:
        return await self.engine.runtime.containers(pod.metadata.uid)

    async def output(self, pod: Pod, container: str = "", *, previous: bool = False) -> str:
        command = LogsCommand(pod_uid=pod.metadata.uid, container=container, previous=previous)
        return b"".join([piece async for piece in self.manager.logs(command)]).decode()

    async def end(self, pod: Pod) -> PodReport:
        """Deletes it as the master does and waits until it is gone."""
        ending = Pod()
        ending.CopyFrom(pod)
        ending.metadata.deletionTimestamp.GetCurrentTime()
        ending.metadata.deletionGracePeriodSeconds = 5
        self.assign(*(ending if other.metadata.uid == pod.metadata.uid else other for other in self.pods.values()))
        return await self.until(pod, lambda report: report.gone)


@pytest.fixture
def node(engine: Engine, tmp_path: Path) -> Node:
    return Node(engine, tmp_path / "data")


def first(report: PodReport) -> ContainerStatus:
    return report.status.containerStatuses[0]


async def test_two_containers_from_start_to_end(node: Node) -> None:
    pod = node.pod("two", UP, Job(prints=("me too",)))
    async with node.running():
        node.assign(pod)
        report = await node.phase(pod, "Running")
        for one in report.status.containerStatuses:
            assert one.ready and one.started and one.state.HasField("running")
        assert report.status.podIP.startswith(node.engine.prefix)
        assert report.status.hostIP == "192.0.2.1"
        conditions = {one.type: one.status for one in report.status.conditions}
        assert conditions == {"Initialized": "True", "Ready": "True", "ContainersReady": "True"}
        assert first(report).containerID.startswith("docker://")
        assert await node.output(pod, "c1") == "me too\n"
        await node.end(pod)
        assert await node.containers(pod) == []
        assert node.manager.statuses()[0].gone
        node.assign()
        assert node.manager.statuses() == []
    assert not (node.data / "pods" / pod.metadata.uid).exists()


async def test_crashed_container_restarts_in_place(node: Node) -> None:
    pod = node.pod("web", UP, UP)
    async with node.running():
        node.assign(pod)
        await node.phase(pod, "Running")
        before = {one.name: one for one in await node.containers(pod)}
        await until(lambda: _says(node, pod, "c0", "up"))
        await node.engine.runtime.kill(before["c0"].id)
        report = await node.until(pod, lambda r: first(r).restartCount == 1 and first(r).state.HasField("running"))
        assert first(report).lastState.terminated.exitCode == 137
        assert first(report).lastState.terminated.reason == "Error"
        after = {one.name: one for one in await node.containers(pod) if one.state is State.RUNNING}
        assert after["c1"].id == before["c1"].id
        assert after[""].id == before[""].id
        assert await node.output(pod, "c0", previous=True) == "up\n"
        with pytest.raises(NotFound, match='previous terminated container "c1" in pod "web" not found'):
            await node.output(pod, "c1", previous=True)


async def test_second_crash_backs_off(node: Node) -> None:
    pod = node.pod("crash", Job(exit_code=1))
    async with node.running():
        node.assign(pod)
        report = await node.until(pod, lambda r: first(r).state.waiting.reason == "CrashLoopBackOff")
        assert first(report).restartCount == 1
        assert first(report).lastState.terminated.exitCode == 1
        assert "back-off 10s restarting failed container=c0 pod=crash_default" in first(report).state.waiting.message
        assert report.status.phase == "Running"
        ready = next(one for one in report.status.conditions if one.type == "Ready")
        assert (ready.status, ready.reason) == ("False", "ContainersNotReady")


async def test_one_container_needs_no_sandbox_until_it_has_to_wait(node: Node) -> None:
    pod = node.pod("single", UP)
    async with node.running():
        node.assign(pod)
        report = await node.phase(pod, "Running")
        ip = report.status.podIP
        (one,) = await node.containers(pod)
        assert one.identity.alone and one.identity.ip == ip
        await until(lambda: _says(node, pod, "c0", "up"))
        await node.engine.runtime.kill(one.id)
        await node.until(pod, lambda r: first(r).restartCount == 1 and first(r).state.HasField("running"))
        second = next(c for c in await node.containers(pod) if c.state is State.RUNNING)
        assert second.identity.alone and second.identity.ip == ip
        assert await node.output(pod, "c0", previous=True) == "up\n"
        await node.engine.runtime.kill(second.id)
        report = await node.until(pod, lambda r: first(r).state.waiting.reason == "CrashLoopBackOff")
        assert first(report).lastState.terminated.exitCode == 137

        async def held() -> Seen | None:
            return next((c for c in await node.containers(pod) if not c.name and c.state is State.RUNNING), None)

        assert (await until(held)).identity.ip == ip
        assert node.reports[pod.metadata.uid].status.podIP == ip
    other = Node(node.engine, node.data)
    async with other.running():
        other.assign(pod)
        report = await other.until(pod, lambda r: first(r).state.waiting.reason == "CrashLoopBackOff")
        assert (report.status.podIP, first(report).restartCount) == (ip, 1)
        await other.end(pod)
        assert await node.containers(pod) == []


async def test_adoption_of_pods_with_and_without_sandbox(node: Node) -> None:
    boxed, single = node.pod("boxed", UP), node.pod("single", UP)
    engine = node.engine
    sandbox = await engine.sandbox("boxed")
    identity = engine.identity("boxed", "c0", sandbox=sandbox)
    identity = dataclasses.replace(identity, spec_hash=spec_hash(boxed.spec.containers[0]))
    made = await engine.runtime.create_container(ContainerSpec(identity, BUSYBOX, command=UP.command))
    await engine.runtime.start(made)
    box = await engine.seen(sandbox)
    assert box is not None
    agent = Node(engine, node.data)
    async with agent.running():
        agent.assign(boxed, single)
        await agent.phase(single, "Running")
        was = await agent.until(boxed, lambda r: r.status.podIP == box.identity.ip)
        assert agent.reports[single.metadata.uid].status.podIP != was.status.podIP
        kept = {c.id for c in await agent.containers(single)}
    new = Node(engine, node.data)
    async with new.running():
        new.assign(boxed, single)
        report = await new.phase(single, "Running")
        assert first(report).restartCount == 0
        assert {c.id for c in await new.containers(single)} == kept
        assert {c.id for c in await new.containers(boxed)} == {sandbox, made}
        third = new.pod("third", UP)
        new.assign(boxed, single, third)
        fresh = await new.phase(third, "Running")
        assert fresh.status.podIP not in (report.status.podIP, was.status.podIP, "")


@pytest.mark.parametrize(("code", "phase"), [(0, "Succeeded"), (2, "Failed")])
async def test_pod_that_ends(node: Node, code: int, phase: str) -> None:
    pod = node.pod("job", Job(prints=("done",), exit_code=code), policy="Never")
    async with node.running():
        node.assign(pod)
        report = await node.phase(pod, phase)
        assert first(report).state.terminated.exitCode == code
        assert first(report).state.terminated.reason == ("Error" if code else "Completed")

        async def only_the_dead() -> bool | None:
            return True if [one.name for one in await node.containers(pod)] == ["c0"] else None

        await until(only_the_dead)
        assert await node.output(pod) == "done\n"
        assert node.phases[pod.metadata.uid][-1] == phase
        await node.end(pod)


async def test_init_containers_in_order(node: Node) -> None:
    pod = node.pod("ordered", UP)
    for number in range(2):
        job = Job(prints=(f"init {number}",), exit_code=0)
        node.pod("unused", job)
        pod.spec.initContainers.add(name=f"i{number}", image=BUSYBOX, command=job.command)
    async with node.running():
        node.assign(pod)
        report = await node.phase(pod, "Running")
        inits = report.status.initContainerStatuses
        assert [one.state.terminated.reason for one in inits] == ["Completed", "Completed"]
        ends = {one.name: one for one in await node.containers(pod)}
        assert ends["i0"].finished_at <= ends["i1"].started_at
        assert ends["i1"].finished_at <= ends["c0"].started_at


async def test_new_agent_adopts(node: Node) -> None:
    pod = node.pod("kept", UP)
    async with node.running():
        node.assign(pod)
        await node.phase(pod, "Running")
    before = {one.id for one in await node.containers(pod)}
    other = Node(node.engine, node.data)
    async with other.running():
        other.assign(pod)
        report = await other.phase(pod, "Running")
        assert first(report).restartCount == 0
        assert {one.id for one in await other.containers(pod)} == before
        second = other.pod("new", UP)
        other.assign(pod, second)
        fresh = await other.phase(second, "Running")
        assert fresh.status.podIP != report.status.podIP


async def test_pod_that_nobody_assigned_is_removed(node: Node) -> None:
    pod = node.pod("stray", UP)
    async with node.running():
        node.assign(pod)
        await node.phase(pod, "Running")
    other = Node(node.engine, node.data)
    async with other.running():
        other.assign()

        async def nothing() -> bool | None:
            return True if await node.containers(pod) == [] else None

        await until(nothing)


async def test_lost_sandbox_renews_the_pod(node: Node) -> None:
    pod = node.pod("renewed", UP, UP)
    async with node.running():
        node.assign(pod)
        was = await node.phase(pod, "Running")
        sandbox = next(one for one in await node.containers(pod) if not one.name)
        await node.engine.runtime.kill(sandbox.id)
        report = await node.until(pod, lambda r: first(r).restartCount == 1 and first(r).state.HasField("running"))
        now = [one for one in await node.containers(pod) if not one.name]
        assert len(now) == 1 and now[0].id != sandbox.id
        assert report.status.podIP == was.status.podIP


async def test_image_that_is_nowhere(node: Node) -> None:
    pod = node.pod("lost", UP, image=MISSING_IMAGE)
    async with node.running():
        node.assign(pod)
        report = await node.until(pod, lambda r: first(r).state.waiting.reason == "ErrImagePull")
        assert MISSING_IMAGE in first(report).state.waiting.message
        assert report.status.phase == "Pending"
        await node.until(pod, lambda r: first(r).state.waiting.reason == "ImagePullBackOff")
        with pytest.raises(BadRequest, match='container "c0" in pod "lost" is waiting to start: ImagePullBackOff'):
            await node.output(pod)
        assert any(event.reason == "Failed" and event.type == "Warning" for event in node.events)
        await node.end(pod)


async def test_missing_configmap_is_named_and_waited_for(node: Node) -> None:
    pod = node.pod("config", UP)
    source = pod.spec.containers[0].envFrom.add().configMapRef
    source.localObjectReference.name = "settings"
    async with node.running():
        node.assign(pod)
        report = await node.until(pod, lambda r: first(r).state.waiting.reason == "CreateContainerConfigError")
        assert 'configmap "settings" not found' in first(report).state.waiting.message
        node.manager.assign(Assignments(node.pods, {("default", "settings"): ConfigMap(data={"A": "1"})}))
        await node.phase(pod, "Running")


async def test_one_that_ignores_the_signal_is_killed_after_its_grace(node: Node) -> None:
    pod = node.pod("stubborn", Job(prints=("up",), ignores_term=True))
    pod.spec.terminationGracePeriodSeconds = 1
    async with node.running():
        node.assign(pod)
        await node.phase(pod, "Running")
        await until(lambda: _says(node, pod, "c0", "up"))
        ending = Pod()
        ending.CopyFrom(pod)
        ending.metadata.deletionTimestamp.GetCurrentTime()
        ending.metadata.deletionGracePeriodSeconds = 1
        node.assign(ending)
        report = await node.until(pod, lambda r: r.gone)
        assert first(report).state.terminated.exitCode == 137


async def _says(node: Node, pod: Pod, container: str, text: str) -> bool | None:
    return True if text in await node.output(pod, container) else None
