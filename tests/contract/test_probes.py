"""Probes, hooks and sidecars in whole pods, on every runtime."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from node_agent.runtime.script import Answer, Asked
from node_agent.runtime.seam import State
from node_agent.runtime.simulated import SimulatedRuntime
from protos.agent_pb2 import PodReport
from protos.core_pb2 import Container, ContainerStatus, Pod, Probe
from tests.contract.conftest import Engine, Job, until
from tests.contract.test_pods import UP, Node, first
from tests.harness.images import BUSYBOX

FLAG = "/tmp/flag"
HAS_FLAG = ("test", "-e", FLAG)


@pytest.fixture
def node(engine: Engine, tmp_path: Path) -> Node:
    return Node(engine, tmp_path / "data")


class Flag:
    """A file in a container, and for scripted containers what a look at it would say."""

    def __init__(self, node: Node) -> None:
        self._node, self._up = node, False
        if isinstance(node.engine.runtime, SimulatedRuntime):
            node.engine.runtime.script.answer = self._answer

    def _answer(self, asked: Asked) -> Answer:
        if asked.detail == "false":
            return Answer(code=1, output="it fails")
        return Answer(code=int(asked.detail == " ".join(HAS_FLAG) and not self._up))

    async def set(self, pod: Pod, up: bool, container: str = "c0") -> None:
        self._up = up
        id = next(
            one.id for one in await self._node.containers(pod) if one.name == container and one.state is State.RUNNING
        )
        async with self._node.engine.runtime.exec(id, ("touch", FLAG) if up else ("rm", FLAG)) as stdio:
            assert [piece async for piece in stdio] == []
            assert await stdio.exit_code() == 0


def asks(*command: str, failures: int = 1, grace: int = 0) -> Probe:
    probe = Probe(periodSeconds=1, timeoutSeconds=10, failureThreshold=failures)
    probe.handler.exec.command.extend(command)
    if grace:
        probe.terminationGracePeriodSeconds = grace
    return probe


def sidecar(node: Node, pod: Pod, name: str, job: Job = UP) -> Container:
    node.engine.jobs[shlex.join(job.command)] = job
    return pod.spec.initContainers.add(name=name, image=BUSYBOX, command=job.command, restartPolicy="Always")


def condition(report: PodReport, kind: str) -> tuple[str, str, str]:
    one = next(one for one in report.status.conditions if one.type == kind)
    return one.status, one.reason, one.message


def events(node: Node, reason: str) -> list[str]:
    return [event.message for event in node.events if event.reason == reason]


async def test_readiness_says_whether_the_pod_is_ready(node: Node) -> None:
    flag, pod = Flag(node), node.pod("web", UP, UP)
    pod.spec.containers[0].readinessProbe.CopyFrom(asks(*HAS_FLAG))
    async with node.running():
        node.assign(pod)
        report = await node.phase(pod, "Running")
        unready = ("False", "ContainersNotReady", "containers with unready status: [c0]")
        assert condition(report, "Ready") == condition(report, "ContainersReady") == unready
        assert (first(report).started, first(report).ready) == (True, False)
        assert report.status.containerStatuses[1].ready
        await node.until(pod, lambda r: bool(events(node, "Unhealthy")))
        id = first(report).containerID
        for up in (True, False):
            await flag.set(pod, up)
            report = await node.until(pod, lambda r, up=up: first(r).ready is up)  # type: ignore[misc]
            assert condition(report, "Ready")[0] == str(up)
        assert (first(report).containerID, first(report).restartCount) == (id, 0)
        assert all(message.startswith("Readiness probe failed: ") for message in events(node, "Unhealthy"))


async def test_liveness_restarts_the_container_alone(node: Node) -> None:
    flag, pod = Flag(node), node.pod("web", Job(prints=("up",), ignores_term=True), UP)
    probe = asks(*HAS_FLAG, failures=2, grace=1)
    probe.initialDelaySeconds = 1
    pod.spec.containers[0].livenessProbe.CopyFrom(probe)
    pod.spec.containers[0].startupProbe.CopyFrom(asks(*HAS_FLAG, failures=100))
    pod.spec.terminationGracePeriodSeconds = 3600
    async with node.running():
        node.assign(pod)
        report = await node.phase(pod, "Running")
        assert (first(report).started, first(report).ready) == (False, False)
        await flag.set(pod, True)
        report = await node.until(pod, lambda r: first(r).ready)
        assert first(report).started
        other = report.status.containerStatuses[1].containerID
        await flag.set(pod, False)
        report = await node.until(pod, lambda r: first(r).restartCount == 1)
        # It ignores the signal: the probe's own grace has ended it, not the pod's hour.
        assert first(report).lastState.terminated.exitCode == 137
        assert report.status.containerStatuses[1].containerID == other
        assert events(node, "Killing") == ["Container c0 failed liveness probe, will be restarted"]
        pod.spec.terminationGracePeriodSeconds = 0
        await node.end(pod)


async def test_a_container_whose_hook_fails_is_restarted(node: Node) -> None:
    Flag(node)
    pod = node.pod("hooked", UP)
    pod.spec.containers[0].lifecycle.postStart.exec.command.append("false")
    # The signal may come before the shell has its trap.
    pod.spec.terminationGracePeriodSeconds = 1
    async with node.running():
        node.assign(pod)
        report = await node.until(pod, lambda r: first(r).state.waiting.reason == "CrashLoopBackOff")
        assert first(report).restartCount == 1 and not first(report).ready
        assert "postStart hook of container c0 failed" in events(node, "FailedPostStartHook")[0]
        assert "Container c0 failed its postStart hook" in events(node, "Killing")


async def test_sidecars_start_first_and_end_last(node: Node) -> None:
    flag, pod = Flag(node), node.pod("beside", UP)
    sidecar(node, pod, "s0").startupProbe.CopyFrom(asks(*HAS_FLAG, failures=100))
    init = pod.spec.initContainers.add(name="i1", image=BUSYBOX, command=Job(exit_code=0).command)
    node.engine.jobs[shlex.join(init.command)] = Job(exit_code=0)
    sidecar(node, pod, "s2").readinessProbe.CopyFrom(asks("true"))
    async with node.running():
        node.assign(pod)
        report = await node.until(pod, lambda r: bool(inits(r)) and inits(r)[0].state.HasField("running"))
        assert condition(report, "Initialized")[0] == "False"
        assert report.status.phase == "Pending"
        assert {one.name for one in await node.containers(pod)} <= {"", "s0"}
        await flag.set(pod, True, "s0")
        report = await node.until(pod, lambda r: condition(r, "Ready")[0] == "True")
        seen = {one.name: one for one in await node.containers(pod)}
        assert seen["s0"].started_at <= seen["i1"].finished_at <= seen["s2"].started_at <= seen["c0"].started_at
        assert [one.ready for one in inits(report)] == [True, True, True]
        # One that ends comes back, also when it ended well.
        await node.engine.runtime.terminate(seen["s2"].id)
        report = await node.until(pod, lambda r: inits(r)[2].restartCount == 1 and inits(r)[2].ready)
        assert first(report).containerID.endswith(seen["c0"].id)
        node.events.clear()
        await node.end(pod)
        assert [message.split()[2] for message in events(node, "Killing")] == ["c0:", "s2:", "s0:"]


async def test_sidecars_do_not_keep_a_pod_from_its_end(node: Node) -> None:
    pod = node.pod("job", Job(prints=("done",), exit_code=0), policy="Never")
    sidecar(node, pod, "s0", Job(prints=("up",), ignores_term=True))
    pod.spec.terminationGracePeriodSeconds = 1
    async with node.running():
        node.assign(pod)
        report = await node.phase(pod, "Succeeded")
        assert inits(report)[0].state.terminated.exitCode == 137
        assert first(report).state.terminated.exitCode == 0
        await node.end(pod)


async def test_a_new_agent_keeps_what_was_ready(node: Node) -> None:
    flag, pod = Flag(node), node.pod("kept", UP)
    pod.spec.containers[0].readinessProbe.CopyFrom(asks(*HAS_FLAG))
    async with node.running():
        node.assign(pod)
        await node.phase(pod, "Running")
        await flag.set(pod, True)
        report = await node.until(pod, lambda r: first(r).ready)
    pod.status.CopyFrom(report.status)
    other = Node(node.engine, node.data)
    readies: list[bool] = []
    taken = other._report
    other.manager._report = lambda r: (readies.append(first(r).ready), taken(r))  # type: ignore[func-returns-value, assignment]
    async with other.running():
        other.assign(pod)
        report = await other.phase(pod, "Running")
        assert first(report).ready and condition(report, "Ready")[0] == "True"
        await flag.set(pod, False)
        await other.until(pod, lambda r: not first(r).ready)
        assert readies[0] is True and readies.count(True) == readies.index(False)


async def test_the_grace_includes_the_hook(node: Node) -> None:
    Flag(node)
    pod = node.pod("slow", Job(prints=("up",), ignores_term=True))
    pod.spec.containers[0].lifecycle.preStop.sleep.seconds = 3600
    async with node.running():
        node.assign(pod)
        await node.phase(pod, "Running")
        ending = Pod()
        ending.CopyFrom(pod)
        ending.metadata.deletionTimestamp.GetCurrentTime()
        ending.metadata.deletionGracePeriodSeconds = 1
        node.assign(ending)
        report = await node.until(pod, lambda r: r.gone)
        assert first(report).state.terminated.exitCode == 137
        assert "not over within the grace period of 1s" in events(node, "FailedPreStopHook")[0]


async def test_a_container_that_dies_during_its_hook_is_not_waited_for(node: Node) -> None:
    Flag(node)
    pod = node.pod("dies", UP)
    pod.spec.containers[0].lifecycle.preStop.sleep.seconds = 3600
    pod.spec.terminationGracePeriodSeconds = 3600
    async with node.running():
        node.assign(pod)
        await node.phase(pod, "Running")
        ending = Pod()
        ending.CopyFrom(pod)
        ending.metadata.deletionTimestamp.GetCurrentTime()
        ending.metadata.deletionGracePeriodSeconds = 3600
        node.assign(ending)

        async def told() -> bool | None:
            return True if events(node, "Killing") else None

        await until(told)
        for one in await node.containers(pod):
            await node.engine.runtime.kill(one.id)
        await node.until(pod, lambda r: r.gone)


def inits(report: PodReport) -> list[ContainerStatus]:
    return list(report.status.initContainerStatuses)
