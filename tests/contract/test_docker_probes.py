"""What only real containers can show of probes, hooks and termination messages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from node_agent.runtime.seam import State
from protos.core_pb2 import Pod, Probe
from tests.contract.conftest import docker_engine, until
from tests.contract.test_docker_pods import output, pod_of
from tests.contract.test_pods import Node, first
from tests.contract.test_probes import condition, events

pytestmark = pytest.mark.docker
_TRAP = "trap 'exit 0' TERM; "
_WAIT = "; while :; do sleep 0.05; done"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with docker_engine(tmp_path) as engine:
        yield Node(engine, tmp_path)


def http(path: str, port: str = "web") -> Probe:
    probe = Probe(periodSeconds=1, timeoutSeconds=10, failureThreshold=2)
    probe.handler.httpGet.path = path
    probe.handler.httpGet.port.type, probe.handler.httpGet.port.strVal = 1, port
    return probe


async def test_network_probes_reach_the_pods_address(node: Node) -> None:
    script = _TRAP + "mkdir /www; until [ -e /tmp/go ]; do sleep 0.05; done; echo page > /www/index.html; "
    pod = pod_of(node, "served", script + "httpd -p 8080 -h /www" + _WAIT)
    container = pod.spec.containers[0]
    container.ports.add(name="web", containerPort=8080)
    container.startupProbe.handler.tcpSocket.port.intVal = 8080
    container.startupProbe.periodSeconds, container.startupProbe.failureThreshold = 1, 100
    container.readinessProbe.CopyFrom(http("/"))
    container.livenessProbe.CopyFrom(http("/alive"))
    container.livenessProbe.failureThreshold = 100
    async with node.running():
        node.assign(pod)
        report = await node.phase(pod, "Running")
        assert (first(report).started, first(report).ready) == (False, False)
        await run(node, pod, "touch /tmp/go")
        report = await node.until(pod, lambda r: condition(r, "Ready")[0] == "True")
        ip = report.status.podIP
        refused = f"Startup probe failed: dial tcp {ip}:8080: connect: connection refused"

        async def told() -> bool | None:
            missing = "Liveness probe failed: HTTP probe failed with statuscode: 404"
            return True if {refused, missing} <= set(events(node, "Unhealthy")) else None

        await until(told)
        await run(node, pod, "rm /www/index.html")
        await node.until(pod, lambda r: not first(r).ready)


async def run(node: Node, pod: Pod, script: str) -> None:
    one = next(one for one in await node.containers(pod) if one.name == "c0" and one.state is State.RUNNING)
    async with node.engine.runtime.exec(one.id, ("sh", "-c", script)) as stdio:
        assert [piece async for piece in stdio] == []
        assert await stdio.exit_code() == 0


async def test_hooks_leave_their_marks(node: Node) -> None:
    disk = node.data / "disk"
    disk.mkdir()
    pod = pod_of(node, "marked", "trap 'echo signal >> /disk/marks; exit 0' USR1" + _WAIT)
    pod.spec.volumes.add(name="disk").volumeSource.hostPath.path = str(disk)
    container = pod.spec.containers[0]
    container.volumeMounts.add(name="disk", mountPath="/disk")
    hooks = container.lifecycle
    hooks.stopSignal = "SIGUSR1"
    hooks.postStart.exec.command.extend(["sh", "-c", "sleep 0.5; echo start >> /disk/marks"])
    hooks.preStop.exec.command.extend(["sh", "-c", "sleep 0.5; echo stop >> /disk/marks"])
    async with node.running():
        node.assign(pod)
        await node.until(pod, lambda r: first(r).ready)
        # Only once its hook is over does it count as running.
        assert (disk / "marks").read_text() == "start\n"
        report = await node.end(pod)
        assert (disk / "marks").read_text() == "start\nstop\nsignal\n"
        assert first(report).state.terminated.exitCode == 0
        assert events(node, "FailedPreStopHook") == []


async def test_termination_messages(node: Node) -> None:
    scripts = (
        "echo from the file > /dev/termination-log; echo from the output; exit 3",
        "echo last words; exit 3",
        "echo last words; exit 3",
        "head -c 5000 /dev/zero | tr '\\0' x > /tmp/why; exit 0",
    )
    pod = pod_of(node, "telling", *scripts, policy="Never")
    for container in pod.spec.containers:
        container.terminationMessagePath = "/dev/termination-log"
    pod.spec.containers[1].terminationMessagePolicy = "FallbackToLogsOnError"
    pod.spec.containers[3].terminationMessagePath = "/tmp/why"
    # Nobody in particular, with a root it cannot write to.
    pod.spec.containers[0].securityContext.runAsUser = 1234
    pod.spec.containers[0].securityContext.readOnlyRootFilesystem = True
    async with node.running():
        node.assign(pod)
        report = await node.phase(pod, "Failed")
        messages = [one.state.terminated.message for one in report.status.containerStatuses]
        assert messages == ["from the file\n", "last words", "", "x" * 4096]
        await node.end(pod)
    assert not (node.data / "pods" / pod.metadata.uid).exists()


async def test_the_message_of_the_last_attempt_is_kept(node: Node) -> None:
    pod = pod_of(node, "again", "echo attempt $RANDOM > /dev/termination-log; exit 1")
    pod.spec.containers[0].terminationMessagePath = "/dev/termination-log"
    async with node.running():
        node.assign(pod)
        report = await node.until(pod, lambda r: first(r).state.waiting.reason == "CrashLoopBackOff")
        assert first(report).lastState.terminated.message.startswith("attempt ")


async def test_a_hanging_command_is_ended(node: Node) -> None:
    pod = pod_of(node, "hangs", _TRAP + "echo up" + _WAIT)
    probe = pod.spec.containers[0].readinessProbe
    probe.periodSeconds = probe.timeoutSeconds = 1
    probe.handler.exec.command.extend(["sleep", "4321"])
    async with node.running():
        node.assign(pod)
        await output(node, pod, "c0", "up")

        async def told() -> bool | None:
            return True if len(events(node, "Unhealthy")) >= 3 else None

        await until(told, 30.0)
        assert events(node, "Unhealthy")[0] == 'Readiness probe failed: command timed out: "sleep 4321" after 1s'
        one = next(one for one in await node.containers(pod) if one.name == "c0")
        async with node.engine.runtime.exec(one.id, ("sh", "-c", "ps | grep -c '[s]leep 4321'")) as stdio:
            said = b"".join([data async for _, data in stdio])
        assert int(said) <= 1
