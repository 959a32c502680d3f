"""The agent's stream of routes on a connection of its own, against a master, grpc's server, and who is neither."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import pytest

from common.errors import Unavailable
from common.frames import FrameReader, Resync
from common.tasks import Tasks
from common.wireframes import decode
from node_agent import lane
from node_agent.lane import Lane, RoutesLane, Unreached
from protos import agent_pb2
from tests.master.dispatcher.conftest import Hand, MasterParts, eventually, running_master
from tests.ports import free_port


@pytest.fixture
async def master(tmp_path: Path) -> AsyncIterator[MasterParts]:
    async with running_master(tmp_path / "store", routes_port=True) as parts:
        yield parts


@pytest.fixture
async def hand(master: MasterParts) -> AsyncIterator[Hand]:
    one = Hand(master.target)
    yield one
    await one.close()


class Table:
    """A reader of frames that acknowledges what it has, each at once."""

    def __init__(self) -> None:
        self.reader: FrameReader[agent_pb2.Item] = FrameReader()
        self.lane: Lane | None = None
        self.gap = False

    def frame(self, frame: agent_pb2.Frame) -> None:
        if self.gap:
            raise Resync("a gap")
        self.reader.apply(decode(frame))
        assert self.lane is not None
        self.lane.say()

    def applied(self) -> agent_pb2.RoutesRequest:
        return agent_pb2.RoutesRequest(epoch=self.reader.epoch, revision=self.reader.revision)

    def opened(self, lane: Lane) -> None:
        self.lane = lane

    async def follow(self, port: int, session: str) -> None:
        await RoutesLane.follow("127.0.0.1", port, session, self.frame, self.applied, self.opened)


def ports(master: MasterParts) -> list[int]:
    """The port for routes alone, and the one where grpc's own server answers."""
    return [master.dispatcher.fan_out.port, int(master.target.rpartition(":")[2])]


@pytest.mark.parametrize("which", [0, 1])
async def test_a_table_comes_and_is_acknowledged(master: MasterParts, hand: Hand, which: int) -> None:
    answer = await hand.register("node-1", token=master.token)
    table, tasks = Table(), Tasks("test")
    following = tasks.start("lane", _ended(table.follow(ports(master)[which], answer.session_id)))
    session = master.dispatcher.sessions.of("node-1")
    assert session is not None
    try:
        await eventually(lambda: "node/node-1" in table.reader.items)
        other = Hand(master.target)
        await other.register("node-2", token=master.token, machine="m2")
        await other.close()
        await eventually(lambda: "node/node-2" in table.reader.items)
        await eventually(lambda: session.routes_acked == (table.reader.epoch, table.reader.revision))
        await hand.register("node-1", credential=answer.credential)
        async with asyncio.timeout(30):
            error = await following
        assert isinstance(error, Unavailable)
        if which == 0:
            assert "newer registration" in str(error)
    finally:
        await tasks.close()


async def _ended(following: Awaitable[None]) -> Exception | None:
    try:
        await following
    except (Unavailable, Unreached, Resync) as error:
        return error
    return None


async def test_a_gap_in_the_frames_is_the_callers_to_answer(master: MasterParts, hand: Hand) -> None:
    answer = await hand.register("node-1", token=master.token)
    table = Table()
    table.gap = True
    async with asyncio.timeout(30):
        with pytest.raises(Resync, match="a gap"):
            await table.follow(ports(master)[0], answer.session_id)
    await eventually(lambda: not master.dispatcher.fan_out.lanes)


async def test_a_session_that_is_not_known_there_has_not_reached_its_master(master: MasterParts) -> None:
    async with asyncio.timeout(30):
        with pytest.raises(Unreached, match="register again"):
            await Table().follow(ports(master)[0], "of another master")


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", None])
async def test_who_is_no_master_is_left_soon(says: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "DIAL_SECONDS", 0.2)

    open_ones: set[asyncio.StreamWriter] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_ones.add(writer)
        try:
            if says:
                writer.write(says)
            while says is not None and await reader.read(1000):
                pass
        except ConnectionResetError:
            pass
        finally:
            writer.transport.abort()
            open_ones.discard(writer)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        async with asyncio.timeout(30):
            with pytest.raises(Unreached):
                await Table().follow(server.sockets[0].getsockname()[1], "s")
        await eventually(lambda: not open_ones)
    finally:
        server.close()


async def test_where_nobody_listens_is_not_reached() -> None:
    with pytest.raises(Unreached, match="127"):
        await Table().follow(free_port(), "s")
