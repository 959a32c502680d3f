"""exec, ports, files and measurements through master and agent, on simulated engines: ends, back-pressure, death."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common.errors import BadRequest, NotFound, Unavailable
from master.dispatcher import dispatcher as master_dispatcher
from master.dispatcher import streams as master_streams
from master.dispatcher.streams import NodeStream
from node_agent.runtime.script import Answer, Asked
from protos import agent_pb2, core_pb2
from tests.integration.simulated import Cluster, SimulatedNode, eventually

Chunk = agent_pb2.StreamChunk
Command = agent_pb2.Command
_MIB = 1024 * 1024


def answer(asked: Asked) -> Answer:
    if asked.what == "dial":
        return Answer(echoes=asked.detail.endswith(":80"), code=0 if asked.detail.endswith(":80") else 1)
    return {
        "cat": Answer(echoes=True),
        "fail": Answer(code=7, output="out", error="err"),
        "flood": Answer(output="x" * 200 * _MIB),
        "wait": Answer(output="here", seconds=3600),
    }[asked.detail]


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with Cluster(tmp_path) as made:
        yield made


async def pod_on(cluster: Cluster, name: str = "node-1") -> tuple[SimulatedNode, core_pb2.Pod]:
    node = cluster.node(name)
    node.script.answer = answer
    node.start()
    await cluster.until_ready(name)
    pod = await cluster.master.pod(f"web-{name}", name)
    await cluster.until_phase("Running", f"web-{name}")
    return node, pod


def execs(pod: core_pb2.Pod, *argv: str, stdin: bool = False) -> Command:
    return Command(exec=agent_pb2.ExecCommand(pod_uid=pod.metadata.uid, container="c", argv=argv, stdin=stdin))


async def rest(stream: NodeStream) -> list[Chunk]:
    """Everything to the end, without what only opens the stream."""
    found = []
    async with asyncio.timeout(120):
        while True:
            chunk = await stream.read()
            if chunk.data or chunk.begun or chunk.eof or chunk.end:
                found.append(chunk)
            if chunk.end:
                return found


async def test_a_commands_output_input_and_exit_code(cluster: Cluster) -> None:
    _, pod = await pod_on(cluster)
    streams = cluster.master.dispatcher.streams
    async with streams.open("node-1", execs(pod, "fail"), "") as stream:
        begun, out, err, end = await rest(stream)
        assert begun.begun and (out.data, out.stderr) == (b"out", False) and (err.data, err.stderr) == (b"err", True)
        assert end.exit_code == 7
    async with streams.open("node-1", execs(pod, "cat", stdin=True), "") as stream:
        sent = [b"%d" % number * 1000 for number in range(100)]
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(rest(stream))
            for piece in sent:
                await stream.send(Chunk(data=piece))
            await stream.send(Chunk(eof=True))
        assert b"".join(chunk.data for chunk in reading.result()) == b"".join(sent)
        assert reading.result()[-1].exit_code == 0
    assert len(streams) == 0
    wrong = Command(exec=agent_pb2.ExecCommand(pod_uid=pod.metadata.uid, container="other", argv=["cat"]))
    async with streams.open("node-1", wrong, "") as stream:
        with pytest.raises(BadRequest, match="has not been started"):
            await rest(stream)
    async with streams.open("node-1", Command(exec=agent_pb2.ExecCommand(pod_uid="gone", argv=["cat"])), "") as stream:
        with pytest.raises(NotFound, match="not on node node-1"):
            await rest(stream)


async def test_a_slow_reader_holds_up_itself_only(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    # Master, agent and flood are one process here: on a busy machine its heartbeats are late, which is not the point.
    monkeypatch.setattr(master_streams, "SILENT_PERIODS", 60)
    monkeypatch.setattr(master_dispatcher, "LAPSE_PERIODS", 60)
    _, pod = await pod_on(cluster)
    streams, session = cluster.master.dispatcher.streams, cluster.master.dispatcher.sessions.of("node-1")
    async with streams.open("node-1", execs(pod, "flood"), "") as slow:
        assert (await slow.read()).end is False
        async with asyncio.timeout(120):
            for _ in range(20):
                async with streams.open("node-1", execs(pod, "fail"), "") as other:
                    assert (await rest(other))[-1].exit_code == 7
                await asyncio.sleep(0.1)
        # Of 200 MiB nearly all is where it came from.
        assert slow.waiting <= 16
        assert cluster.master.dispatcher.sessions.of("node-1") is session and cluster.ready("node-1") == "True"
        got = 0
        async with asyncio.timeout(120):
            while got < 20 * _MIB:
                got += len((await slow.read()).data)
    # Whoever leaves is not waited for: the agent closes its end.
    await eventually(lambda: len(streams) == 0)


async def test_a_killed_agent_ends_its_streams_with_a_clear_error(cluster: Cluster) -> None:
    node, pod = await pod_on(cluster)
    streams = cluster.master.dispatcher.streams
    async with streams.open("node-1", execs(pod, "wait"), "") as stream:
        while not (await stream.read()).data:
            pass
        began = time.monotonic()
        await node.kill()
        with pytest.raises(Unavailable, match="node-1"):
            await rest(stream)
    assert time.monotonic() - began < 30


async def test_a_silent_node_is_an_error_within_seconds(cluster: Cluster) -> None:
    _, pod = await pod_on(cluster)
    async with cluster.master.dispatcher.streams.open("node-1", execs(pod, "wait"), "") as stream:
        while not (await stream.read()).data:
            pass
        began = time.monotonic()
        cluster.line.silence()
        with pytest.raises(Unavailable, match="node-1"):
            await rest(stream)
    assert time.monotonic() - began < 30
    cluster.line.flow()


async def test_a_ports_two_directions_end_apart(cluster: Cluster) -> None:
    _, pod = await pod_on(cluster)
    streams = cluster.master.dispatcher.streams

    def port(number: int) -> Command:
        return Command(port_forward=agent_pb2.PortForwardCommand(pod_uid=pod.metadata.uid, port=number))

    async with streams.open("node-1", port(80), "") as stream:
        await stream.send(Chunk(data=b"ping"))
        await stream.send(Chunk(eof=True))
        begun, data, eof, end = await rest(stream)
        assert begun.begun and data.data == b"ping" and eof.eof and end.end
    with pytest.raises(Unavailable, match="port 81 of the pod"):
        async with streams.open("node-1", port(81), "") as stream:
            await rest(stream)


async def test_files_in_and_out(cluster: Cluster) -> None:
    _, pod = await pod_on(cluster)
    streams = cluster.master.dispatcher.streams
    operations = agent_pb2.CopyCommand

    def copy(path: str, operation: agent_pb2.CopyCommand.Operation.ValueType) -> Command:
        uid = pod.metadata.uid
        return Command(copy=operations(pod_uid=uid, container="c", path=path, operation=operation))

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo("file")
        entry.size, entry.mode = 100_000, 0o640
        archive.addfile(entry, io.BytesIO(b"y" * 100_000))
    async with streams.open("node-1", copy("/tmp", operations.WRITE), "") as stream:
        await stream.send(Chunk(data=packed.getvalue()))
        await stream.send(Chunk(eof=True))
        await rest(stream)
    async with streams.open("node-1", copy("/tmp/file", operations.STAT), "") as stream:
        seen = json.loads((await rest(stream))[0].data)
        assert seen == {"name": "file", "size": 100_000, "mode": 0o640, "directory": False}
    async with streams.open("node-1", copy("/tmp/file", operations.READ), "") as stream:
        data = b"".join(chunk.data for chunk in await rest(stream))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        (entry,) = archive.getmembers()
        content = archive.extractfile(entry)
        assert content is not None and content.read() == b"y" * 100_000 and entry.mode == 0o640
    with pytest.raises(NotFound, match="no such file or directory in the container"):
        async with streams.open("node-1", copy("/missing", operations.STAT), "") as stream:
            await rest(stream)


async def test_a_node_measures_itself(cluster: Cluster) -> None:
    await pod_on(cluster)
    said = json.loads(await cluster.master.dispatcher.streams.query("node-1", "usage"))
    assert said["node"] == "node-1" and said["memory"] > 0
    (pod,) = said["pods"]
    assert (pod["namespace"], pod["name"]) == ("default", "web-node-1")
    (container,) = pod["containers"]
    # A simulated container uses a hundredth of a core.
    assert container["name"] == "c" and 0.005 < container["cpu"] < 0.02 and container["memory"] == 10_000_000
