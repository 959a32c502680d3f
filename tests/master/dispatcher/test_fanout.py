"""The port for routing tables alone: what grpc's own client gets there, and that nobody waits for a slow one."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest

from common.frames import FrameReader
from common.grpcwire import PREFACE, Message, Wire
from common.rpc import open_channel
from common.wireframes import decode
from master.dispatcher import fanout
from master.dispatcher.sessions import Session
from protos import agent_pb2, agent_pb2_grpc, core_pb2
from tests.master.dispatcher.conftest import Follower, Hand, MasterParts, eventually, running_master

CHANGES = 20


@pytest.fixture
async def master(tmp_path: Path) -> AsyncIterator[MasterParts]:
    async with running_master(tmp_path / "store", routes_port=True) as parts:
        yield parts


class Apart:
    """grpc's own client at the port for routes."""

    def __init__(self, master: MasterParts) -> None:
        self.channel = open_channel(f"127.0.0.1:{master.dispatcher.fan_out.port}")
        self.call: Any = agent_pb2_grpc.NodeServiceStub(self.channel).Routes()
        self.follower = Follower(self.call)

    async def open(self, session: str) -> Follower:
        await self.call.write(agent_pb2.RoutesRequest(session_id=session))
        return self.follower

    async def close(self) -> None:
        self.call.cancel()
        await self.channel.close()


@pytest.fixture
async def apart(master: MasterParts) -> AsyncIterator[Apart]:
    one = Apart(master)
    yield one
    await one.close()


async def serve(master: MasterParts, name: str) -> None:
    meta = core_pb2.ObjectMeta(name=name, namespace="default")
    service = core_pb2.Service(metadata=meta)
    service.spec.ports.add(name="http", port=80)
    await master.resources.create(service)


async def test_a_table_and_its_changes_reach_grpcs_own_client(master: MasterParts, hand: Hand, apart: Apart) -> None:
    answer = await hand.register("node-1", token=master.token)
    assert answer.routes_port == master.dispatcher.fan_out.port
    frames = await apart.open(hand.session)
    await frames.until(lambda items: "node/node-1" in items)
    assert master.dispatcher.nodes.connected("node-1")
    await serve(master, "web")
    await frames.until(lambda items: "service/default/web" in items)
    await master.resources.delete("Service", "default", "web")
    await frames.until(lambda items: "service/default/web" not in items)
    await apart.close()
    await eventually(lambda: not master.dispatcher.fan_out.lanes)
    assert not master.dispatcher.nodes.connected("node-1")


async def test_what_a_proxy_has_applied_is_known_without_a_report(
    master: MasterParts, hand: Hand, apart: Apart
) -> None:
    await hand.register("node-1", token=master.token)
    frames = await apart.open(hand.session)
    await frames.step()
    session = master.dispatcher.sessions.of("node-1")
    assert session is not None
    draining = [agent_pb2.DrainingEndpoint(ip="10.244.0.9", port=80, connections=3)]
    reader = frames.reader
    await apart.call.write(agent_pb2.RoutesRequest(epoch=reader.epoch, revision=reader.revision, draining=draining))
    await eventually(lambda: session.routes_acked == (reader.epoch, reader.revision))
    assert session.draining == {("10.244.0.9", 80): 3}
    await hand.report(routes_epoch=reader.epoch, routes_revision=reader.revision)
    assert session.draining == {("10.244.0.9", 80): 3}, "a report that was under way says what was before"


def test_a_report_that_is_ahead_of_the_streams_acknowledgements_counts() -> None:
    session = Session("node-1", "u")
    drains = [agent_pb2.DrainingEndpoint(ip="10.244.0.9", port=80, connections=3)]
    assert session.applied("e", 1, (), repeated=True), "no stream acknowledges: a report is all there is"
    session.acks_apart = True
    assert session.applied("e", 5, ())
    assert not session.applied("e", 4, drains, repeated=True)
    assert not session.applied("other", 9, drains, repeated=True)
    assert session.applied("e", 6, drains, repeated=True)
    assert (session.routes_acked, session.draining) == (("e", 6), {("10.244.0.9", 80): 3})
    assert not session.applied("e", 6, drains)


async def test_a_session_that_nobody_knows_or_that_ends_ends_the_stream(
    master: MasterParts, hand: Hand, apart: Apart
) -> None:
    stranger = Apart(master)
    with pytest.raises(EOFError, match="register again"):
        await (await stranger.open("nonsense")).step()
    await stranger.close()
    first = await hand.register("node-1", token=master.token)
    frames = await apart.open(hand.session)
    await frames.step()
    await hand.register("node-1", credential=first.credential)
    with pytest.raises(EOFError, match="newer registration"):
        await frames.step()
    await eventually(lambda: not master.dispatcher.fan_out.lanes)


def fill(number: int, ends: core_pb2.Endpoints) -> None:
    """Five hundred endpoints, 50 KB, all of them other ones than those of any other number."""
    del ends.subsets[:]
    subset = ends.subsets.add(ports=[core_pb2.EndpointPort(name="http", port=number + 1, protocol="TCP")])
    for host in range(500):
        subset.addresses.add(ip=f"10.244.{host >> 8}.{host & 255}", hostname=f"{number:03}-" + "x" * 50)


def newest(items: Mapping[str, agent_pb2.Item]) -> bool:
    item = items.get("service/default/large")
    ports = item.service.ports if item is not None else ()
    return any(end.hostname.startswith(f"{CHANGES - 1:03}-") for port in ports for end in port.endpoints[:1])


async def test_who_does_not_read_gets_fewer_and_newer_frames_and_delays_nobody(
    master: MasterParts, hand: Hand, apart: Apart
) -> None:
    await hand.register("quick", token=master.token)
    quick = await apart.open(hand.session)
    other = Hand(master.target)
    await other.register("slow", token=master.token, machine="m2")
    # Has room for 65,535 bytes, and says so.
    wire = Wire(serves=False, most=1_000_000)
    wire.request("/sampan.v1.NodeService/Routes", "master")
    wire.at_once(Message(agent_pb2.RoutesRequest(session_id=other.session).SerializeToString()))
    reader, writer = await asyncio.open_connection("127.0.0.1", master.dispatcher.fan_out.port)
    writer.write(wire.take())
    ends = core_pb2.Endpoints(metadata=core_pb2.ObjectMeta(name="large", namespace="default"))
    try:
        await serve(master, "large")
        await master.resources.create(ends)
        for number in range(CHANGES):
            await master.resources.mutate("Endpoints", "default", "large", functools.partial(fill, number))
        await quick.until(newest)
        frames, table = 0, FrameReader[agent_pb2.Item]()
        async with asyncio.timeout(30):
            while not newest(table.items):
                for message in wire.receive(await reader.read(65_536)):
                    frames += 1
                    table.apply(decode(agent_pb2.Frame.FromString(message)))
                writer.write(wire.take())
        assert frames < CHANGES / 2, "every change was queued"
    finally:
        writer.close()
        await other.close()


async def test_what_does_not_speak_grpc_or_says_nothing_is_let_go(
    master: MasterParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fanout, "OPENING_SECONDS", 0.05)
    port = master.dispatcher.fan_out.port
    for said in (b"GET / HTTP/1.1\r\n\r\n", b""):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)
        async with asyncio.timeout(30):
            try:
                while await reader.read(1000):
                    pass
            except ConnectionResetError:
                pass
        writer.close()
    await eventually(lambda: not master.dispatcher.fan_out.lanes)


async def test_another_method_is_unimplemented_there(master: MasterParts) -> None:
    channel = open_channel(f"127.0.0.1:{master.dispatcher.fan_out.port}")
    try:
        other: Any = channel.unary_unary("/a.Service/" + "M" * 300, agent_pb2.RegisterRequest.SerializeToString)
        for method in (agent_pb2_grpc.NodeServiceStub(channel).Register, other):
            call: Any = method(agent_pb2.RegisterRequest(node_name="n"))
            with pytest.raises(grpc.aio.AioRpcError, match="Routes here and nothing else") as told:
                await call
            assert told.value.code() is grpc.StatusCode.UNIMPLEMENTED
    finally:
        await channel.close()
    await eventually(lambda: not master.dispatcher.fan_out.lanes)


async def test_a_wrong_session_is_refused_as_on_the_ordinary_port(master: MasterParts, hand: Hand) -> None:
    await hand.register("node-1", token=master.token)
    codes = []
    for target in (master.target, f"127.0.0.1:{master.dispatcher.fan_out.port}"):
        for session in ("", hand.session[:-1], hand.session + "0", hand.session.upper()):
            channel = open_channel(target)
            call: Any = agent_pb2_grpc.NodeServiceStub(channel).Routes()
            await call.write(agent_pb2.RoutesRequest(session_id=session))
            with pytest.raises(grpc.aio.AioRpcError) as told:
                async for _ in call:
                    pass
            codes.append((told.value.code(), told.value.details()))
            await channel.close()
    assert len(set(codes)) == 1 and codes[0][0] is grpc.StatusCode.UNAUTHENTICATED


async def test_a_malformed_frame_is_answered_with_goaway(master: MasterParts) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", master.dispatcher.fan_out.port)
    writer.write(PREFACE + b"\0\0\3\6\0\0\0\0\0abc")
    async with asyncio.timeout(30):
        said = await reader.read()
    writer.close()
    kinds, at = [], 0
    while at < len(said):
        kinds.append(said[at + 3])
        at += 9 + int.from_bytes(said[at : at + 3], "big")
    assert kinds[-1] == 7 and b"a frame of kind 6 has 8 bytes" in said


async def test_who_names_no_session_makes_room_for_others(master: MasterParts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "MOST_OPENING", 3)
    port = master.dispatcher.fan_out.port
    idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
    await eventually(lambda: len(master.dispatcher.fan_out.opening) == 3)
    hand, late = Hand(master.target), Apart(master)
    await hand.register("node-1", token=master.token)
    frames = await late.open(hand.session)
    await frames.until(lambda items: "node/node-1" in items)
    async with asyncio.timeout(30):
        try:
            await idle[0][0].read()
        except ConnectionResetError:
            pass
    assert len(master.dispatcher.fan_out.opening) == 2 and len(master.dispatcher.fan_out.lanes) == 3
    for _, writer in idle:
        writer.close()
    await late.close()
    await hand.close()
    await eventually(lambda: not master.dispatcher.fan_out.lanes)


async def test_random_bytes_leave_nothing_behind(master: MasterParts, hand: Hand, apart: Apart) -> None:
    await hand.register("node-1", token=master.token)
    frames = await apart.open(hand.session)
    await frames.step()
    dice = random.Random(7)
    for number in range(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", master.dispatcher.fan_out.port)
        writer.write((PREFACE if number % 3 else b"") + dice.randbytes(dice.randrange(1, 3000)))
        if number % 2:
            writer.transport.abort()
        else:
            writer.write_eof()
            async with asyncio.timeout(30):
                with contextlib.suppress(ConnectionResetError):
                    await reader.read()
            writer.close()
    await eventually(lambda: len(master.dispatcher.fan_out.lanes) == 1)
    assert not master.dispatcher.fan_out.opening
    await serve(master, "web")
    await frames.until(lambda items: "service/default/web" in items)


async def test_the_masters_end_ends_the_streams(master: MasterParts, hand: Hand, apart: Apart) -> None:
    await hand.register("node-1", token=master.token)
    frames = await apart.open(hand.session)
    await frames.step()
    master.dispatcher.close()
    with pytest.raises(EOFError, match="shutting down"):
        await frames.step()
