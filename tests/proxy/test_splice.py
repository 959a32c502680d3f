"""Bulk through pipes: every byte in order, ends and resets kept, and pipes only where bytes are under way."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable

import pytest

from proxy import splice
from proxy.leg import Leg
from proxy.server import Proxy
from proxy.splice import Pipe, Pipes
from tests.proxy.support import Pair, read_to_end, receive, reset, send, until

BULK = bytes(range(251)) * 80_000  # 20 MB, and no power of two repeats it


def legs(proxy: Proxy) -> tuple[Leg, Leg]:
    (relay,) = proxy._context.open
    return relay.client, relay.endpoint


async def pour(sock: socket.socket, data: bytes) -> None:
    await send(sock, data)
    sock.shutdown(socket.SHUT_WR)


async def fill(proxy: Proxy, source: socket.socket, target: socket.socket) -> int:
    """Sends until the way to `target` is full, with bytes in a pipe; returns how many are still to be read there."""
    waiting = 0

    def stuck() -> bool:
        nonlocal waiting
        try:
            while True:
                waiting += source.send(b"z" * 1_000_000)
        except BlockingIOError:
            pass
        if any(leg.pipe is not None for leg in legs(proxy)):
            return True
        try:
            waiting -= len(target.recv(500_000))
        except BlockingIOError:
            pass
        return False

    await until(stuck, "bytes wait in a pipe")
    return waiting


async def test_bulk_arrives_in_order_and_goes_through_pipes(pair: Callable[[], Awaitable[Pair]], proxy: Proxy) -> None:
    client, endpoint = await pair()
    async with asyncio.TaskGroup() as group:
        group.create_task(pour(client, BULK))
        group.create_task(pour(endpoint, BULK))
        ends = [group.create_task(read_to_end(sock)) for sock in (client, endpoint)]
    assert all(end.result() == (BULK, "fin") for end in ends)
    assert proxy._context.pipes.made >= 1
    client.close()
    endpoint.close()
    await until(lambda: not proxy.status()["counters"]["open"], "the relay ends")
    assert proxy.status()["counters"]["bytesIn"] == proxy.status()["counters"]["bytesOut"] == len(BULK)
    assert len(proxy._context.pipes._idle) == proxy._context.pipes.made, "every pipe has come back"


async def test_small_pieces_after_bulk_arrive_at_once(pair: Callable[[], Awaitable[Pair]]) -> None:
    client, endpoint = await pair()
    async with asyncio.TaskGroup() as group:
        group.create_task(send(client, BULK))
        group.create_task(receive(endpoint, len(BULK)))
    for number in range(50):
        await send(client, b"%d" % (number % 10))
        assert await receive(endpoint, 1) == b"%d" % (number % 10)
    client.close()
    endpoint.close()


async def test_end_of_stream_comes_behind_what_waits_in_a_pipe(
    pair: Callable[[], Awaitable[Pair]], proxy: Proxy
) -> None:
    client, endpoint = await pair()
    sent = await fill(proxy, client, endpoint)
    client.shutdown(socket.SHUT_WR)
    data, end = await read_to_end(endpoint)
    assert (len(data), end) == (sent, "fin") and set(data) == {ord("z")}
    client.close()
    endpoint.close()


@pytest.mark.parametrize("resetting", [0, 1])
async def test_a_reset_while_bytes_wait_in_a_pipe(
    pair: Callable[[], Awaitable[Pair]], proxy: Proxy, resetting: int
) -> None:
    both = await pair()
    await fill(proxy, *both)
    reset(both[resetting])
    _, end = await read_to_end(both[1 - resetting])
    assert end == "rst"
    both[1 - resetting].close()
    await until(lambda: not proxy.status()["counters"]["open"], "the relay ends")
    pipes = proxy._context.pipes
    assert len(pipes._idle) == pipes.made, "none is lost, and none keeps another connection's bytes"


async def test_urgent_bytes_amid_bulk(pair: Callable[[], Awaitable[Pair]]) -> None:
    client, endpoint = await pair()
    reading = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        group.create_task(send(client, BULK))
        group.create_task(receive(endpoint, len(BULK)))
    client.send(b"!", socket.MSG_OOB)
    async with asyncio.TaskGroup() as group:
        group.create_task(pour(client, BULK))
        end = group.create_task(read_to_end(endpoint))
    assert end.result() == (b"!" + BULK, "fin")
    assert reading.is_running()
    client.close()
    endpoint.close()


async def test_without_pipes_bulk_is_copied(
    pair: Callable[[], Awaitable[Pair]], proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splice, "MOST_PIPES", 0)
    client, endpoint = await pair()
    async with asyncio.TaskGroup() as group:
        group.create_task(pour(client, BULK))
        end = group.create_task(read_to_end(endpoint))
    assert end.result() == (BULK, "fin")
    assert proxy._context.pipes.made == 0
    client.close()
    endpoint.close()


def test_a_pipe_that_holds_bytes_is_not_given_on() -> None:
    before = len(os.listdir("/proc/self/fd"))
    pipes = Pipes()
    pipe = pipes.take()
    assert isinstance(pipe, Pipe)
    near, far = socket.socketpair()
    with near, far:
        far.send(b"secret")
        assert pipe.fill(near.fileno()) == 6
        pipes.give(pipe)
        assert pipes.made == 0
        other = pipes.take()
        assert other is not None and other is not pipe
        far.send(b"next")
        assert other.fill(near.fileno()) == 4
        assert other.drain(near.fileno()) == 0
        assert far.recv(10) == b"next"
        pipes.give(other)
        pipes.close()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("paced", [True, False])
async def test_bulk_to_a_near_peer_is_not_paced(pair: Callable[[], Awaitable[Pair]], proxy: Proxy, paced: bool) -> None:
    proxy._context.paced = False
    client, endpoint = await pair()
    await send(client, b"x")
    assert await receive(endpoint, 1) == b"x"
    for leg in legs(proxy):
        # Stands for the one that paces, which not every kernel has.
        leg.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
    proxy._context.paced = paced
    async with asyncio.TaskGroup() as group:
        group.create_task(send(client, BULK))
        arrived = group.create_task(receive(endpoint, len(BULK)))
    assert arrived.result() == BULK
    here, there = legs(proxy)
    assert control(here.sock) == b"reno", "what was not bulk is left as it was"
    assert control(there.sock) == (unpaced() if paced else b"reno")
    client.close()
    endpoint.close()


def control(sock: socket.SocketType) -> bytes:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0")


def unpaced() -> bytes:
    """What an unpaced connection has here: cubic, or reno where that is not to be had."""
    with socket.socket() as sock:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
        except OSError:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
        return control(sock)


async def test_an_endpoint_on_this_machine_is_not_paced_from_the_start(
    pair: Callable[[], Awaitable[Pair]], proxy: Proxy
) -> None:
    proxy._context.paced = True
    client, endpoint = await pair()
    await until(lambda: bool(proxy._context.open), "the relay began")
    _, there = legs(proxy)
    assert control(there.sock) == unpaced()
    client.close()
    endpoint.close()
