"""Logs travel from node to reader; a dead node, a slow or a vanished reader harm nobody."""

from __future__ import annotations

import asyncio
import contextlib

import grpc
import pytest

from common.errors import NotFound, Unavailable
from master.dispatcher.streams import BUFFERED_CHUNKS, NodeStreams
from protos import agent_pb2
from tests.master.dispatcher.conftest import Hand, MasterParts, eventually

LOGS = agent_pb2.LogsCommand(pod_uid="u", container="c", follow=True)


class Attached:
    """The agent's end of one stream."""

    def __init__(self, hand: Hand, stream_id: str) -> None:
        self._hand, self.id = hand, stream_id
        self.call = hand.stub.Attach()

    async def send(self, data: bytes = b"", *, end: bool = False, error: str = "") -> None:
        chunk = agent_pb2.StreamChunk(session_id=self._hand.session, stream_id=self.id, data=data, end=end, error=error)
        await self.call.write(chunk)


async def joined(master: MasterParts, hand: Hand) -> NodeStreams:
    await hand.register("node-1", token=master.token)
    hand.assignments()
    await eventually(lambda: master.dispatcher.nodes.connected("node-1"))
    return master.dispatcher.streams


async def test_bytes_arrive_in_order_and_the_end_too(master: MasterParts, hand: Hand) -> None:
    streams = await joined(master, hand)

    async def node() -> None:
        attached = Attached(hand, (await hand.command()).stream_id)
        for number in range(300):
            await attached.send(b"%d\n" % number)
        await attached.send(end=True)

    async with asyncio.TaskGroup() as group:
        group.create_task(node())
        data = b"".join([chunk async for chunk in streams.logs("node-1", LOGS)])
    assert data == b"".join(b"%d\n" % number for number in range(300))
    assert len(streams) == 0


async def test_the_nodes_error_reaches_the_reader(master: MasterParts, hand: Hand) -> None:
    streams = await joined(master, hand)

    async def node() -> None:
        attached = Attached(hand, (await hand.command()).stream_id)
        await attached.send(end=True, error="NotFound: pod u is not on node node-1")

    async with asyncio.TaskGroup() as group:
        group.create_task(node())
        with pytest.raises(NotFound, match=r"^pod u is not on node"):
            _ = [chunk async for chunk in streams.logs("node-1", LOGS)]


async def test_a_node_that_is_not_there_or_does_not_open_is_unavailable(
    master: MasterParts, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = await joined(master, hand)
    with pytest.raises(Unavailable, match="not connected"):
        _ = [chunk async for chunk in streams.logs("nowhere", LOGS)]
    monkeypatch.setattr(streams, "_open_seconds", 0.5)
    with pytest.raises(Unavailable, match="did not open"):
        _ = [chunk async for chunk in streams.logs("node-1", LOGS)]


async def test_the_end_of_the_session_ends_its_streams(master: MasterParts, hand: Hand) -> None:
    streams = await joined(master, hand)

    async def node() -> None:
        attached = Attached(hand, (await hand.command()).stream_id)
        await attached.send(b"x")
        await eventually(lambda: len(streams) == 1)
        master.dispatcher.sessions.end("node-1", Unavailable("cut"))

    async with asyncio.TaskGroup() as group:
        group.create_task(node())
        with pytest.raises(Unavailable, match="broke: cut"):
            _ = [chunk async for chunk in streams.logs("node-1", LOGS)]


async def test_a_reader_that_leaves_closes_the_nodes_stream(master: MasterParts, hand: Hand) -> None:
    streams = await joined(master, hand)
    got = asyncio.Event()

    async def node() -> None:
        attached = Attached(hand, (await hand.command()).stream_id)
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            while True:
                await attached.send(b"x" * 1000)
                await asyncio.sleep(0)
        # The stream is over for the node: it was not left to fill a buffer.
        got.set()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(node())
        async with contextlib.aclosing(streams.logs("node-1", LOGS)) as reader:
            await anext(reader)
        async with asyncio.timeout(30):
            await got.wait()
        task.cancel()
    assert len(streams) == 0
    closing = await hand.command()
    assert closing.HasField("close")


async def test_a_slow_reader_holds_the_node_back(master: MasterParts, hand: Hand) -> None:
    streams = await joined(master, hand)
    sent = 0

    async def node() -> None:
        nonlocal sent
        attached = Attached(hand, (await hand.command()).stream_id)
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            while True:
                await attached.send(b"x" * 100_000)
                sent += 1

    async with asyncio.TaskGroup() as group:
        task = group.create_task(node())
        async with contextlib.aclosing(streams.logs("node-1", LOGS)) as reader:
            await anext(reader)
            before = -1

            async def settled() -> bool:
                nonlocal before
                was, before = before, sent
                await asyncio.sleep(0.2)
                return sent == was

            await eventually(settled, 30)
            assert sent < BUFFERED_CHUNKS + 400, "the node was not held back"
        task.cancel()


async def test_a_node_answers_for_itself(master: MasterParts, hand: Hand) -> None:
    streams = await joined(master, hand)

    async def node() -> None:
        asked = await hand.command()
        assert asked.query.what == "network"
        attached = Attached(hand, asked.stream_id)
        await attached.send(b'{"node":')
        await attached.send(b'"node-1"}', end=True)

    async with asyncio.TaskGroup() as group:
        group.create_task(node())
        assert await streams.query("node-1", "network") == b'{"node":"node-1"}'
    assert len(streams) == 0
    with pytest.raises(Unavailable, match="not connected"):
        await streams.query("node-2", "network")
