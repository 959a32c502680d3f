"""A failing endpoint costs the client nothing but a little time: the next one is tried, each one once."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import pytest

from proxy.server import Proxy
from tests.proxy.support import Endpoints, connect, own_address, receive, route, send, table, until


@contextlib.contextmanager
def dead_end() -> Iterator[tuple[str, int]]:
    """A place whose connects hang: a full backlog drops every further SYN."""
    address = own_address()
    with socket.create_server((address, 0), backlog=0) as server, contextlib.ExitStack() as stack:
        place = server.getsockname()
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(place)
        yield place


def closed_place() -> tuple[str, int]:
    """A place that refuses."""
    address = own_address()
    with socket.create_server((address, 0)) as server:
        return str(server.getsockname()[0]), int(server.getsockname()[1])


async def test_refusing_endpoints_are_passed_over(proxy: Proxy, endpoints: Endpoints) -> None:
    place = (own_address(), 80)
    bad = [closed_place() for _ in range(6)]
    proxy.apply(table(route(*place, [*bad, *endpoints.places[:1]])))
    for _ in range(10):
        client = await connect(place)
        accepted = await endpoints.accept(0)
        await send(accepted, b"hello")
        assert await receive(client, 5) == b"hello"
        client.close()
        accepted.close()
    status = proxy.status()["services"][0]
    failures = {entry["port"]: entry["failures"] for entry in status["endpoints"]}
    # Cooling down: ten connections did not ask each of them ten times.
    assert all(failures[port] <= 2 for _, port in bad)
    assert proxy.status()["counters"]["refused"] == 0


async def test_hanging_endpoints_cost_a_rung_each(proxy: Proxy, endpoints: Endpoints) -> None:
    place = (own_address(), 80)
    with dead_end() as hanging:
        proxy.apply(table(route(*place, [hanging, endpoints.places[0]])))
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for _ in range(4):
            client = await connect(place)
            accepted = await endpoints.accept(0)
            client.close()
            accepted.close()
        # A rung is a quarter of a second; the patience with the last endpoint left is longer than this.
        assert loop.time() - begun < 6
        assert proxy.status()["counters"]["retries"] >= 1


async def test_the_only_endpoint_gets_the_longest_rung_then_the_client_is_reset(proxy: Proxy) -> None:
    place = (own_address(), 80)
    with dead_end() as hanging:
        proxy.apply(table(route(*place, [hanging])))
        client = await connect(place)
        begun = asyncio.get_running_loop().time()
        with pytest.raises(ConnectionResetError):
            await receive(client, 1)
        assert 1.8 < asyncio.get_running_loop().time() - begun < 3
        client.close()


async def test_each_endpoint_is_tried_once_and_then_the_client_is_reset_at_once(proxy: Proxy) -> None:
    place = (own_address(), 80)
    bad = [closed_place() for _ in range(4)]
    proxy.apply(table(route(*place, bad)))
    begun = asyncio.get_running_loop().time()

    async def ask() -> None:
        with contextlib.closing(await connect(place)) as client:
            await receive(client, 1)

    with pytest.raises(ConnectionResetError):
        await ask()  # the reset may be as quick as the connect
    assert asyncio.get_running_loop().time() - begun < 0.5
    status = proxy.status()
    assert [entry["failures"] for entry in status["services"][0]["endpoints"]] == [1, 1, 1, 1]
    assert status["counters"]["refused"] == 1 and status["counters"]["connecting"] == 0


async def test_what_the_client_sent_meanwhile_arrives(proxy: Proxy, endpoints: Endpoints) -> None:
    place = (own_address(), 80)
    with dead_end() as hanging:
        proxy.apply(table(route(*place, [hanging, endpoints.places[0]])))
        clients = []
        for _ in range(2):  # one of the two begins with the hanging endpoint
            client = await connect(place)
            await send(client, b"early")
            client.shutdown(socket.SHUT_WR)
            clients.append(client)
        for client in clients:
            accepted = await endpoints.accept(0)
            assert await receive(accepted, 100) == b"early"
            accepted.close()
            client.close()
        await until(lambda: not proxy.status()["counters"]["open"], "all relays end")
