"""A node that runs short: conditions, evictions and images, with a drill's figures on every runtime."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from node_agent.care.pulled import PulledImages
from node_agent.care.settings import CareSettings, LogRotation, parse_thresholds
from node_agent.pods.model import NodeMeasure
from node_agent.runtime.docker import DockerRuntime
from node_agent.runtime.seam import ContainerSpec, LogOptions, SandboxSpec
from node_agent.storage import MemoryStorage
from protos.core_pb2 import Pod
from tests.contract.conftest import Engine, Job, docker_engine, until
from tests.contract.test_pods import UP, Node
from tests.harness.images import BUSYBOX


@pytest.fixture
def drill(tmp_path: Path) -> Path:
    return tmp_path / "readings.json"


@pytest.fixture
def node(engine: Engine, tmp_path: Path, drill: Path) -> Node:
    care = CareSettings(transition=60.0, image_least_age=0.0, readings_file=str(drill))
    return Node(engine, tmp_path / "data", care=care)


async def measured_until(node: Node, check: Callable[[NodeMeasure], bool]) -> NodeMeasure:
    """Readings like the agent's own, only quicker."""

    async def look() -> NodeMeasure | None:
        measure = await node.manager.measure()
        return measure if check(measure) else None

    return await until(look)


class Copies(Protocol):
    def __call__(self, name: str, of: str = "") -> tuple[str, str]: ...


def ended(node: Node, pod: Pod) -> bool:
    report = node.reports.get(pod.metadata.uid)
    return report is not None and report.status.phase == "Failed"


def pressure(measure: NodeMeasure, kind: str) -> str:
    return next(one.status for one in measure.conditions if one.type == kind)


def reasons(node: Node, kind: str) -> set[str]:
    return {event.reason for event in node.events if event.involved.kind == kind}


async def test_memory_pressure_evicts_who_is_above_the_request(node: Node, drill: Path) -> None:
    greedy, modest = node.pod("greedy", UP), node.pod("modest", Job(prints=("modest",)))
    modest.spec.containers[0].resources.requests["memory"].value = "200Mi"
    async with node.running():
        node.assign(greedy, modest)
        await node.phase(greedy, "Running")
        kept = (await node.phase(modest, "Running")).status.containerStatuses[0].containerID
        assert pressure(await node.manager.measure(), "MemoryPressure") == "False"
        drill.write_text(json.dumps({"memory.available": "60Mi"}))
        measure = await measured_until(node, lambda _: ended(node, greedy))
        drill.unlink()
        status = node.reports[greedy.metadata.uid].status
        assert status.reason == "Evicted"
        assert status.message.startswith(
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 60Mi. Container c0 was using"
        )
        assert status.containerStatuses[0].state.terminated.exitCode == 137
        (target,) = [one for one in status.conditions if one.type == "DisruptionTarget"]
        assert (target.status, target.reason, target.message) == ("True", "TerminationByKubelet", status.message)
        assert pressure(measure, "MemoryPressure") == "True"
        assert "EvictionThresholdMet" in reasons(node, "Node") and "Evicted" in reasons(node, "Pod")
        # Enough again: nobody else goes, the condition stays for its time.
        assert pressure(await node.manager.measure(), "MemoryPressure") == "True"
        report = node.reports[modest.metadata.uid].status
        assert report.phase == "Running" and report.containerStatuses[0].containerID == kept
        await node.end(modest)
        await node.end(greedy)


async def test_one_at_a_time_and_the_critical_last(node: Node, drill: Path) -> None:
    critical, second, first = (node.pod(name, Job(prints=(name,))) for name in ("critical", "second", "first"))
    critical.spec.priority, second.spec.priority = 2_000_001_000, 5
    async with node.running():
        node.assign(critical, second, first)
        for pod in (critical, second, first):
            await node.phase(pod, "Running")
        drill.write_text(json.dumps({"memory.available": "1Mi"}))
        await measured_until(node, lambda _: ended(node, first))
        assert not ended(node, critical)
        await measured_until(node, lambda _: ended(node, second))
        drill.unlink()
        order = [event.involved.name for event in node.events if event.reason == "Evicted"]
        assert order[:2] == ["first", "second"]
        for pod in (critical, second, first):
            await node.end(pod)


async def test_disk_pressure_leaves_nothing_of_the_pod(node: Node, drill: Path) -> None:
    pod = node.pod("writer", UP)
    pod.spec.volumes.add(name="disk").volumeSource.emptyDir.SetInParent()
    pod.spec.containers[0].volumeMounts.add(name="disk", mountPath="/disk")
    async with node.running():
        node.assign(pod)
        await node.phase(pod, "Running")
        drill.write_text(json.dumps({"nodefs.available": "3%"}))
        measure = await measured_until(node, lambda _: ended(node, pod))
        assert pressure(measure, "DiskPressure") == "True"
        status = node.reports[pod.metadata.uid].status
        assert status.reason == "Evicted" and "low on resource: ephemeral-storage" in status.message

        async def nothing_left() -> bool | None:
            volumes = node.data / "pods" / pod.metadata.uid
            return True if not await node.containers(pod) and not volumes.exists() else None

        await until(nothing_left)
        # What it came to stays known.
        assert node.reports[pod.metadata.uid].status.containerStatuses[0].state.HasField("terminated")
        drill.unlink()
        await node.end(pod)


async def test_a_soft_threshold_gives_the_pod_its_grace(node: Node, drill: Path, tmp_path: Path) -> None:
    soft = parse_thresholds("memory.available<100Mi", {"memory.available": 0.1})
    node = Node(node.engine, tmp_path / "data", care=CareSettings(thresholds=soft, readings_file=str(drill)))
    pod = node.pod("polite", UP)
    async with node.running():
        node.assign(pod)
        await node.phase(pod, "Running")
        drill.write_text(json.dumps({"memory.available": "60Mi"}))
        await measured_until(node, lambda _: ended(node, pod))
        drill.unlink()
        # It heard SIGTERM, and went by itself.
        assert node.reports[pod.metadata.uid].status.containerStatuses[0].state.terminated.exitCode == 143
        await node.end(pod)


@pytest.fixture
def copies() -> Iterator[Copies]:
    """Makes an image of its own content under a name: reference and id. All are removed afterwards."""
    made: list[str] = []

    def make(name: str, of: str = "") -> tuple[str, str]:
        reference = f"sampan-test/{name}-{uuid.uuid4().hex[:8]}:1"
        made.append(reference)
        if of:
            docker("tag", of, reference)
        else:
            docker("build", "-q", "-t", reference, "-", input=f"FROM {BUSYBOX}\nLABEL unique={uuid.uuid4().hex}\n")
        return reference, docker("image", "inspect", "-f", "{{.Id}}", reference).strip()

    yield make
    for reference in made:
        docker("image", "rm", reference, check=False)


def docker(*words: str, input: str | None = None, check: bool = True) -> str:
    """The client's output."""
    return subprocess.run(["docker", *words], input=input, check=check, capture_output=True, text=True).stdout


@pytest.mark.docker
async def test_only_our_unused_images_go(tmp_path: Path, drill: Path, copies: Copies) -> None:
    async with docker_engine(tmp_path) as engine:
        storage = MemoryStorage()
        record = PulledImages(storage, lambda: 1.0)
        unused, used, users, tagged = (copies(name) for name in ("unused", "used", "users", "tagged"))
        theirs = copies("theirs", of=tagged[0])
        for reference, id in (unused, used, tagged):
            await record.pulled(reference, id, before=[])
        care = CareSettings(image_least_age=0.0, readings_file=str(drill))
        node = Node(engine, tmp_path / "data", care=care, storage=storage)
        pod = node.pod("user", UP, image=used[0])
        async with node.running():
            node.assign(pod)
            await node.phase(pod, "Running")
            drill.write_text(json.dumps({"imagefs.available": "12%"}))

            async def gone() -> bool | None:
                await node.manager.measure()
                return True if await engine.runtime.image(unused[0]) is None else None

            await until(gone)
            # There was less to free than the watermarks ask for.
            await until(lambda: _told(node, "FreeDiskSpaceFailed"))
            for reference, _ in (used, users, tagged, theirs):
                assert await engine.runtime.image(reference) is not None
            assert pressure(await node.manager.measure(), "DiskPressure") == "False"
            await node.end(pod)
        assert unused[1] not in {one.id for one in PulledImages(storage, lambda: 2.0).all()}


async def _told(node: Node, reason: str) -> bool | None:
    return True if reason in reasons(node, "Node") else None


@pytest.mark.docker
async def test_logs_are_rotated_and_read_across_files(tmp_path: Path) -> None:
    async with docker_engine(tmp_path) as engine:
        runtime = DockerRuntime(engine.cluster, "node", str(tmp_path), rotation=LogRotation("4k", 3))
        try:
            identity = engine.identity("chatty", "main")
            identity = type(identity)(**{**vars(identity), "ip": f"{engine.prefix}.5"})
            script = "i=0; while [ $i -lt 400 ]; do echo line $i; i=$((i+1)); done"
            id = await runtime.create_container(
                ContainerSpec(
                    identity,
                    BUSYBOX,
                    command=("sh", "-c", script),
                    alone=SandboxSpec(identity, "chatty", engine.network),
                )
            )
            shown = json.loads(docker("inspect", id))[0]
            assert shown["HostConfig"]["LogConfig"] == {
                "Type": "json-file",
                "Config": {"max-size": "4k", "max-file": "3"},
            }
            await runtime.start(id)
            await engine.until(id, lambda seen: seen.finished_at > 0)
            lines = await _lines(runtime, id, LogOptions())
            # More than one file holds, the oldest are gone, and none is missing between.
            assert lines[-1] == "line 399" and 60 < len(lines) < 400
            assert lines == [f"line {number}" for number in range(400 - len(lines), 400)]
            assert await _lines(runtime, id, LogOptions(tail=80)) == lines[-80:]
            assert (await _lines(runtime, id, LogOptions(follow=True)))[-1] == "line 399"
            # What was made to ask for the engine's options is gone.
            assert not docker("ps", "-aq", "--filter", f"name={engine.cluster}_node_log-options")
        finally:
            await runtime.close()


@pytest.mark.docker
async def test_what_a_container_has_written(tmp_path: Path) -> None:
    async with docker_engine(tmp_path) as engine:
        sandbox = await engine.sandbox("writer")
        write = Job(prints=("x" * 100,))
        quiet = await engine.container("writer", sandbox, write)
        await engine.runtime.start(quiet)
        identity = engine.identity("writer", "loud", sandbox=sandbox)
        script = "head -c 2000000 /dev/zero > /big; echo done; sleep 60"
        loud = await engine.runtime.create_container(ContainerSpec(identity, BUSYBOX, command=("sh", "-c", script)))
        await engine.runtime.start(loud)

        async def written() -> int | None:
            used = await engine.runtime.disk_usage(loud)
            return used if used >= 2_000_000 else None

        assert await until(written) < 4_000_000
        assert await engine.runtime.disk_usage(quiet) < 100_000


@pytest.mark.docker
async def test_a_pod_killed_for_want_of_memory_says_so(tmp_path: Path) -> None:
    """Its end is known from an event first, which does not tell why."""
    async with docker_engine(tmp_path) as engine:
        node = Node(engine, tmp_path / "data")
        pod = node.pod("hungry", policy="Never")
        container = pod.spec.containers.add(name="c0", image=BUSYBOX)
        container.command.extend(["sh", "-c", "head -c 60000000 /dev/zero | tail -c 50000000 | wc -c; exit 137"])
        container.resources.limits["memory"].value = "16Mi"
        async with node.running():
            node.assign(pod)
            report = await node.until(
                pod,
                lambda report: (
                    bool(report.status.containerStatuses)
                    and report.status.containerStatuses[0].state.terminated.reason == "OOMKilled"
                ),
            )
            assert report.status.phase == "Failed"
            await node.end(pod)


async def _lines(runtime: DockerRuntime, id: str, options: LogOptions) -> list[str]:
    return b"".join([piece async for piece in runtime.logs(id, options)]).decode().splitlines()
