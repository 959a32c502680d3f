"""The relay against a direct connection: what each side sees must be the same, byte for byte and end for end."""

from __future__ import annotations

import asyncio
import resource
import select
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.tasks import Tasks
from proxy.leg import BUFFER_SIZE
from proxy.poller import PIECE, VIEWS
from proxy.relay import KEEP_EVERY
from proxy.server import Proxy
from proxy.sockopts import KEEPALIVE_IDLE
from tests.proxy.support import (
    Endpoints,
    Pair,
    connect,
    own_address,
    read_to_end,
    receive,
    reset,
    route,
    send,
    table,
    until,
)


async def direct() -> Pair:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = await connect(server.getsockname())
        accepted, _ = server.accept()
    accepted.setblocking(False)
    return client, accepted


def hung_up(sock: socket.socket) -> bool:
    """The connection is over in both directions, by ends or by a reset."""
    poll = select.poll()
    poll.register(sock, 0)
    return bool(poll.poll(0))


async def flood(sock: socket.socket) -> int:
    """Sends until nothing more is taken for half a second; returns the number of bytes."""
    sent = 0
    while True:
        try:
            sent += sock.send(b"z" * 1_000_000)
        except BlockingIOError:
            ready = asyncio.Event()
            loop = asyncio.get_running_loop()
            loop.add_writer(sock, ready.set)
            try:
                async with asyncio.timeout(0.5):
                    await ready.wait()
            except TimeoutError:
                return sent
            finally:
                loop.remove_writer(sock)


@dataclass(frozen=True)
class Step:
    side: int  # 0: client, 1: endpoint
    what: str  # send, fin, rst, sync
    size: int = 0


steps = st.lists(
    st.one_of(
        st.builds(Step, st.integers(0, 1), st.just("send"), st.integers(1, 4000)),
        st.builds(Step, st.integers(0, 1), st.just("send"), st.integers(1, 600_000)),
        st.builds(Step, st.integers(0, 1), st.sampled_from(["fin", "sync", "sync"])),
        st.builds(Step, st.integers(0, 1), st.just("rst")),
    ),
    max_size=10,
)


async def play(pair: Pair, script: list[Step]) -> list[tuple[bytes, str]]:
    """Runs the script; returns what each side read and how it ended ("none" for the one that reset)."""
    for sock in pair:
        # Else a small piece may wait for an acknowledgement in the sender's queue, where a reset drops it.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    readers = Tasks("test")
    seen: list[bytearray] = [bytearray(), bytearray()]
    ends = ["", ""]

    async def read(side: int) -> None:
        try:
            while data := await asyncio.get_running_loop().sock_recv(pair[side], 1 << 18):
                seen[side] += data
            ends[side] = "fin"
        except ConnectionResetError:
            ends[side] = "rst"

    tasks = [readers.start(f"read-{side}", read(side)) for side in (0, 1)]
    sent = [bytearray(), bytearray()]
    finished = [False, False]
    unsynced = [0, 0]

    async def sync() -> None:
        for side in (0, 1):
            await until(lambda side=side: len(seen[1 - side]) == len(sent[side]), "bytes sent are received")  # type: ignore[misc]
            if finished[side]:
                await until(lambda side=side: bool(ends[1 - side]), "the end is seen")  # type: ignore[misc]
            unsynced[side] = 0

    try:
        for number, step in enumerate([*script, Step(0, "fin"), Step(1, "fin")]):
            if step.what == "sync":
                await sync()
            elif step.what == "send" and not finished[step.side]:
                data = bytes((number + i) % 251 for i in range(997)) * (step.size // 997 + 1)
                await send(pair[step.side], data[: step.size])
                sent[step.side] += data[: step.size]
                unsynced[step.side] += step.size
            elif step.what == "fin" and not finished[step.side]:
                pair[step.side].shutdown(socket.SHUT_WR)
                finished[step.side] = True
            elif step.what == "rst":
                # More than this may still be in the sender's own queue, where a reset drops it, directly too.
                if max(unsynced) > 16_000 or any(finished):
                    await sync()
                tasks[step.side].cancel()
                ends[step.side] = "none"
                seen[step.side].clear()
                await asyncio.sleep(0)
                reset(pair[step.side])
                other = 1 - step.side
                await until(lambda other=other: hung_up(pair[other]), "the reset is passed on")  # type: ignore[misc]
                break
        for side in (0, 1):
            await until(lambda side=side: bool(ends[side]), f"side {side} sees an end")  # type: ignore[misc]
        return [(bytes(seen[side]), ends[side]) for side in (0, 1)]
    finally:
        await readers.close()
        for sock in pair:
            sock.close()


def test_random_orders_equal_a_direct_connection() -> None:
    """One loop and one proxy for all examples: connections must not influence each other either."""

    @given(st.lists(steps, min_size=1, max_size=4))
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def examples(scripts: list[list[Step]]) -> None:
        runner.run(compare(scripts))

    async def compare(scripts: list[list[Step]]) -> None:
        proxy, endpoints = Proxy(), Endpoints()
        place = (own_address(), 80)
        try:
            proxy.apply(table(route(*place, endpoints.places)))
            for script in scripts:
                client = await connect(place)
                relayed = await play((client, await endpoints.accept()), script)
                assert relayed == await play(await direct(), script)
            await until(lambda: not proxy.status()["counters"]["open"], "every relay ends when its sides do")
        finally:
            endpoints.close()
            proxy.close()

    with asyncio.Runner() as runner:
        examples()


@pytest.mark.parametrize("closing", [0, 1])
async def test_half_close_leaves_the_other_direction_open(
    pair: Callable[[], Awaitable[Pair]], proxy: Proxy, closing: int
) -> None:
    both = await pair()
    first, second = both[closing], both[1 - closing]
    await send(first, b"question")
    first.shutdown(socket.SHUT_WR)
    assert await read_to_end(second) == (b"question", "fin")
    # A late reply: nothing has moved for a while, more than one loop's turn.
    await asyncio.sleep(0.2)
    for _ in range(5):
        await send(second, b"x" * 100_000)
        assert len(await receive(first, 100_000)) == 100_000
    second.close()
    assert await read_to_end(first) == (b"", "fin")
    first.close()
    await until(lambda: not proxy.status()["counters"]["open"], "the relay ends")


@pytest.mark.parametrize("resetting", [0, 1])
@pytest.mark.parametrize("when", ["idle", "half-closed by the other", "half-closed by itself", "data under way"])
async def test_reset_is_passed_on_as_reset(
    pair: Callable[[], Awaitable[Pair]], proxy: Proxy, resetting: int, when: str
) -> None:
    both = await pair()
    first, second = both[resetting], both[1 - resetting]
    expected = b""
    if when == "half-closed by the other":
        second.shutdown(socket.SHUT_WR)
        assert await read_to_end(first) == (b"", "fin")
    elif when == "half-closed by itself":
        first.shutdown(socket.SHUT_WR)
        assert await read_to_end(second) == (b"", "fin")
    elif when == "data under way":
        expected = b"tail" * 1000
        await send(first, expected)
    reset(first)
    await until(lambda: hung_up(second), "the reset arrives")
    if when == "half-closed by itself":
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            await send(second, b"late")
    else:
        assert await read_to_end(second) == (expected, "rst")
    second.close()
    await until(lambda: not proxy.status()["counters"]["open"], "the relay ends")


async def test_an_answer_before_a_reset_is_delivered(pair: Callable[[], Awaitable[Pair]]) -> None:
    """A server that answers and closes without reading the whole request: its system sends a reset."""
    client, endpoint = await pair()
    await send(client, b"q" * 50_000)
    await until(lambda: bool(select.select([endpoint], [], [], 0)[0]), "the request arrives")
    await send(endpoint, b"413 too large")
    endpoint.close()
    assert await read_to_end(client) == (b"413 too large", "rst")
    client.close()


async def test_a_slow_reader_holds_up_the_sender_and_costs_bounded_memory(
    pair: Callable[[], Awaitable[Pair]], proxy: Proxy
) -> None:
    client, endpoint = await pair()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sent = await flood(client)
    (relay,) = proxy._context.open
    assert len(relay.endpoint.pending) <= BUFFER_SIZE
    assert not relay.client.pending
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000
    client.shutdown(socket.SHUT_WR)
    data, end = await read_to_end(endpoint)
    assert end == "fin" and len(data) >= sent and set(data) == {ord("z")}
    client.close()
    endpoint.close()


async def test_a_reset_behind_a_reader_that_never_reads_is_passed_on_in_bounded_time(
    pair: Callable[[], Awaitable[Pair]], proxy: Proxy
) -> None:
    client, endpoint = await pair()
    await flood(client)
    reset(client)
    await until(lambda: hung_up(endpoint), "the endpoint learns of it")
    await until(lambda: not proxy.status()["counters"]["open"], "the relay ends")
    endpoint.close()


async def test_only_half_closed_connections_time_out_and_only_between_bytes(endpoints: Endpoints) -> None:
    proxy = Proxy(half_close_idle=1.0)
    try:
        place = (own_address(), 80)
        proxy.apply(table(route(*place, endpoints.places[:1])))
        idle, idle_endpoint = await connect(place), await endpoints.accept()
        busy, busy_endpoint = await connect(place), await endpoints.accept()
        quiet, quiet_endpoint = await connect(place), await endpoints.accept()
        busy.shutdown(socket.SHUT_WR)
        quiet.shutdown(socket.SHUT_WR)
        end = asyncio.get_running_loop().time() + 3.0
        while asyncio.get_running_loop().time() < end:
            await send(busy_endpoint, b".")
            assert await receive(busy, 1) == b"."
            await asyncio.sleep(0.02)
        assert await read_to_end(quiet) == (b"", "rst")
        assert await read_to_end(quiet_endpoint) in ((b"", "rst"), (b"", "fin"))
        await send(idle, b"still there")
        assert await receive(idle_endpoint, 11) == b"still there"
        for sock in (idle, idle_endpoint, busy, busy_endpoint, quiet, quiet_endpoint):
            sock.close()
    finally:
        proxy.close()


async def test_both_legs_keep_alive(pair: Callable[[], Awaitable[Pair]], proxy: Proxy) -> None:
    client, endpoint = await pair()
    await send(client, b"x")
    await receive(endpoint, 1)
    (relay,) = proxy._context.open
    # What lasts for some seconds gets it; a connection's first word does not wait for it.
    assert KEEP_EVERY < KEEPALIVE_IDLE
    proxy._context.keep_alive()
    for sock in (relay.client.sock, relay.endpoint.sock):
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 15
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 4
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    client.close()
    endpoint.close()


async def test_urgent_bytes_do_not_stall_the_stream(pair: Callable[[], Awaitable[Pair]]) -> None:
    client, endpoint = await pair()
    await send(client, b"before")
    client.send(b"!", socket.MSG_OOB)
    await send(client, b"after")
    client.shutdown(socket.SHUT_WR)
    assert await read_to_end(endpoint) == (b"before!after", "fin")
    client.close()
    endpoint.close()


async def test_many_bytes_both_ways_at_once(pair: Callable[[], Awaitable[Pair]], proxy: Proxy) -> None:
    client, endpoint = await pair()
    data = bytes(range(256)) * 40_000
    async with asyncio.TaskGroup() as group:
        for sock in (client, endpoint):
            group.create_task(send(sock, data))
        results = [group.create_task(receive(sock, len(data))) for sock in (client, endpoint)]
    assert all(task.result() == data for task in results)
    counters = proxy.status()["counters"]
    assert counters["bytesIn"] == counters["bytesOut"] == len(data)
    client.close()
    endpoint.close()


async def test_pieces_of_every_length_where_the_way_of_reading_changes(pair: Callable[[], Awaitable[Pair]]) -> None:
    """Around the lengths that have a view of their own, and around what is read at once; there and back."""
    client, endpoint = await pair()
    for size in (1, 2, VIEWS - 1, VIEWS, VIEWS + 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 7):
        for source, target in ((client, endpoint), (endpoint, client)):
            data = bytes((size + number) % 251 for number in range(size))
            await send(source, data)
            assert await receive(target, size) == data
    client.close()
    endpoint.close()
