"""The proxy's loop: asyncio works on it as on its own, and relayed sockets' events do not pass through asyncio."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Iterator

import pytest

from proxy.loop import DirectSelector, ProxyLoop, run
from proxy.poller import IN, Poller
from proxy.server import Proxy
from tests.proxy.support import Endpoints, connect, own_address, read_to_end, receive, route, send, table, until


@pytest.fixture
def endpoints() -> Iterator[Endpoints]:
    made = Endpoints(1)
    yield made
    made.close()


def test_asyncio_works_on_it() -> None:
    """Timers, threads, signals, processes, streams: all that goes through the selector."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        begun = time.monotonic()
        await asyncio.sleep(0.05)
        assert 0.05 <= time.monotonic() - begun < 20
        assert await asyncio.to_thread(lambda: 7) == 7
        heard = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, heard.set)
        os.kill(os.getpid(), signal.SIGUSR1)
        async with asyncio.timeout(30):
            await heard.wait()
        child = await asyncio.create_subprocess_exec(
            "cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await child.communicate(b"x" * 500_000)
        assert output == b"x" * 500_000

        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readexactly(1_000_000))
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"y" * 1_000_000)
        assert await reader.readexactly(1_000_000) == b"y" * 1_000_000
        writer.close()
        server.close()

    before = len(os.listdir("/proc/self/fd"))
    run(main())
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_relay_works_on_it_and_leaves_nothing(endpoints: Endpoints) -> None:
    async def main() -> None:
        proxy = Proxy()
        place = (own_address(), 80)
        proxy.apply(table(route(*place, endpoints.places)))
        for _ in range(20):
            client = await connect(place)
            endpoint = await endpoints.accept()
            await send(client, b"question")
            client.shutdown(socket.SHUT_WR)
            assert await read_to_end(endpoint) == (b"question", "fin")
            await send(endpoint, b"late answer")
            assert await receive(client, 11) == b"late answer"
            endpoint.close()
            assert await read_to_end(client) == (b"", "fin")
            client.close()
        await until(lambda: not proxy.status()["counters"]["open"], "every relay ends")
        proxy.close()
        loop = asyncio.get_running_loop()
        assert isinstance(loop, ProxyLoop) and loop.direct.on_events is None

    before = len(os.listdir("/proc/self/fd"))
    run(main())
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_second_poller_on_one_loop_nests() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        first, second = Poller(loop), Poller(loop)
        heard: list[str] = []
        pairs = [socket.socketpair() for _ in range(2)]
        for (near, _), poller, name in zip(pairs, (first, second), ("first", "second"), strict=True):
            near.setblocking(False)
            poller.watch(near, lambda mask, name=name: heard.append(name) if mask & IN else None)  # type: ignore[misc]
        for _, far in pairs:
            far.send(b"x")
        await until(lambda: sorted(heard) == ["first", "second"], "both hear")
        second.shut()
        first.shut()
        for pair in pairs:
            for sock in pair:
                sock.close()

    run(main())


def test_registration_follows_the_selectors_rules() -> None:
    selector = DirectSelector()
    near, far = socket.socketpair()
    with near, far:
        selector.register(near, 1, "data")
        with pytest.raises(KeyError):
            selector.register(near, 1)
        assert selector.select(0) == []
        far.send(b"x")
        ((key, events),) = selector.select(1)
        assert (key.data, events) == ("data", 1)
        selector.modify(near, 2, "other")
        assert selector.get_key(near).data == "other"
        assert [(k.data, e) for k, e in selector.select(1)] == [("other", 2)]
        selector.unregister(near)
        with pytest.raises(KeyError):
            selector.get_key(near)
    selector.close()


def test_events_that_never_cease_hold_nothing_of_asyncio_up() -> None:
    """Two sockets that wake each other for ever: timers, threads and what a handler schedules get their turn."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        poller = Poller(loop)
        one, two = socket.socketpair()
        one.setblocking(False)
        two.setblocking(False)
        rounds = 0
        scheduled: list[int] = []

        def bounce(sock: socket.socket) -> None:
            nonlocal rounds
            try:
                sock.send(sock.recv(10))
            except BlockingIOError:
                return
            rounds += 1
            if rounds % 1000 == 0 and len(scheduled) < 3:
                loop.call_soon(scheduled.append, rounds)

        poller.watch(one, lambda mask: bounce(one))
        poller.watch(two, lambda mask: bounce(two))
        one.send(b"x")
        async with asyncio.timeout(30):
            await asyncio.sleep(0.05)
            seen = rounds
            assert seen, "it has begun"
            assert await asyncio.to_thread(lambda: 7) == 7
            while len(scheduled) < 3:
                await asyncio.sleep(0.01)
        assert rounds > seen
        poller.close(one)
        poller.close(two)
        poller.shut()

    run(main())


def test_a_poller_may_be_shut_by_one_of_its_handlers() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        poller = Poller(loop)
        one, two = socket.socketpair()
        poller.watch(one, lambda mask: poller.shut())
        async with asyncio.timeout(30):
            await asyncio.sleep(0.01)
        assert isinstance(loop, ProxyLoop) and loop.direct.on_events is None
        one.close()
        two.close()

    run(main())
