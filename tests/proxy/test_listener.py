"""Listeners follow the table: refused at once, ports in use, updates under live connections, out of descriptors."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections import Counter
from dataclasses import replace

import pytest

from common.routing import Endpoint, NodeInfo, Route, RoutePort
from proxy.server import Proxy
from tests.proxy.support import Endpoints, connect, free_port, own_address, receive, reset, route, send, table, until


async def answers(place: tuple[str, int], endpoints: Endpoints, index: int) -> bool:
    """Whether a new connection to the place arrives at that endpoint."""
    client = await connect(place)
    accepted = await endpoints.accept(index)
    await send(accepted, b"hello")
    got = await receive(client, 5)
    client.close()
    accepted.close()
    return got == b"hello"


async def refused(place: tuple[str, int]) -> None:
    with pytest.raises(ConnectionRefusedError):
        await connect(place)


async def test_nothing_is_served_before_a_table_and_services_without_endpoints_refuse(
    proxy: Proxy, endpoints: Endpoints
) -> None:
    place = (own_address(), 80)
    await refused(place)
    proxy.apply(table(route(*place, [])))
    await refused(place)
    proxy.apply(table(route(*place, endpoints.places[:1])))
    assert await answers(place, endpoints, 0)
    proxy.apply(table())
    await refused(place)


async def test_vip_and_node_ports_share_one_rotation(proxy: Proxy, endpoints: Endpoints) -> None:
    vip, node, other = own_address(), own_address(), own_address()
    port = free_port(node)
    proxy.apply(table(route(vip, 80, endpoints.places, node_port=port), addresses=(node, other)))
    assert {(e["address"], e["port"]) for e in proxy.status()["listeners"]} == {(vip, 80), (node, port), (other, port)}
    clients = []
    for number in range(9):
        clients.append(await connect([(vip, 80), (node, port), (other, port)][number % 3]))
        await until(lambda number=number: len(proxy._context.open) == number + 1, "connected")  # type: ignore[misc]
    counts = Counter(entry["connections"] for entry in proxy.status()["services"][0]["endpoints"])
    assert counts == {3: 3}
    for client in clients:
        client.close()


async def test_established_connections_outlive_every_update(proxy: Proxy, endpoints: Endpoints) -> None:
    place = (own_address(), 80)
    proxy.apply(table(route(*place, endpoints.places[:1])))
    client, accepted = await connect(place), await endpoints.accept(0)

    async def lives() -> None:
        await send(client, b"ping")
        assert await receive(accepted, 4) == b"ping"
        await send(accepted, b"pong")
        assert await receive(client, 4) == b"pong"

    await lives()
    proxy.apply(table(route(*place, endpoints.places[1:2])))
    for _ in range(4):
        assert await answers(place, endpoints, 1), "new connections no longer go to a removed endpoint"
    await lives()
    (drained,) = (e for e in proxy.status()["services"][0]["endpoints"] if e["removed"])
    assert drained["connections"] == 1
    proxy.apply(table(route(*place, [])))
    await refused(place)
    await lives()
    proxy.apply(table())
    await lives()
    proxy.apply(table(route(*place, endpoints.places[2:], key="other/service")))
    assert await answers(place, endpoints, 2)
    await lives()
    client.close()
    accepted.close()


async def test_a_port_in_use_is_told_retried_and_harms_nothing_else(proxy: Proxy, endpoints: Endpoints) -> None:
    taken, free = own_address(), own_address()
    told = asyncio.Event()
    proxy.on_errors_changed = told.set
    with socket.create_server((taken, 0)) as holder:
        port = holder.getsockname()[1]
        routes = [
            route(taken, port, endpoints.places[:1], key="a/taken"),
            route(free, 80, endpoints.places[1:2], key="b/free"),
        ]
        proxy.apply(table(*routes))
        (error,) = proxy.errors()
        assert (error.key, error.uid, error.address, error.port) == ("a/taken", "uid-a/taken", taken, port)
        assert "address already in use" in error.message
        assert await answers((free, 80), endpoints, 1)
    async with asyncio.timeout(30):
        await told.wait()
    assert proxy.errors() == []
    assert await answers((taken, port), endpoints, 0)


async def test_an_address_that_is_not_local_is_told(proxy: Proxy, endpoints: Endpoints) -> None:
    proxy.apply(table(route("192.0.2.99", 80, endpoints.places)))
    (error,) = proxy.errors()
    assert error.address == "192.0.2.99" and "assign" in error.message
    proxy.apply(table())
    assert proxy.errors() == []


async def test_out_of_descriptors_waits_and_goes_on(proxy: Proxy, endpoints: Endpoints) -> None:
    """Clients wait in the backlog while there are no descriptors, and are served when there are."""
    place = (own_address(), 80)
    proxy.apply(table(route(*place, endpoints.places[:1])))
    assert await answers(place, endpoints, 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    waiting = [socket.socket() for _ in range(5)]
    held: list[socket.socket] = []
    with socket.socket() as probe:
        lowest = probe.fileno()
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        for sock in waiting:
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, place)
        await until(lambda: proxy._listeners._paused is not None, "accepting pauses")
        assert not endpoints.waiting(0) or len(proxy._context.open) <= 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for _ in waiting:
        accepted = await endpoints.accept(0)
        await send(accepted, b"hello")
        held.append(accepted)
    for sock in waiting:
        assert await receive(sock, 5) == b"hello"
    for sock in [*waiting, *held]:
        sock.close()


async def test_who_waits_in_the_backlog_is_taken_in_when_listening_stops(proxy: Proxy, endpoints: Endpoints) -> None:
    place = (own_address(), 80)
    proxy.apply(table(route(*place, endpoints.places[:1])))
    client = socket.create_connection(place)  # blocking: the loop has had no turn to accept it
    proxy.stop_listening()
    accepted = await endpoints.accept(0)
    await send(accepted, b"hello")
    client.setblocking(False)
    assert await receive(client, 5) == b"hello"
    await refused(place)
    client.close()
    accepted.close()
    assert await proxy.drain(5) == 0


async def test_draining_is_bounded(proxy: Proxy, endpoints: Endpoints) -> None:
    place = (own_address(), 80)
    proxy.apply(table(route(*place, endpoints.places[:1])))
    client, accepted = await connect(place), await endpoints.accept(0)
    proxy.stop_listening()
    assert await proxy.drain(0.1) == 1
    with pytest.raises(ConnectionResetError):
        await receive(client, 1)
    client.close()
    accepted.close()


async def test_least_connections_fills_the_emptier_one(proxy: Proxy, endpoints: Endpoints) -> None:
    place = (own_address(), 80)
    plain = route(*place, endpoints.places[:2])
    proxy.apply(table(replace(plain, balance="LeastConnections")))
    clients = [await connect(place) for _ in range(4)]
    await until(lambda: len(proxy._context.open) == 4, "connected")
    kept = await endpoints.accept(0), await endpoints.accept(0)
    freed = await endpoints.accept(1), await endpoints.accept(1)
    for sock in freed:
        reset(sock)
    await until(lambda: len(proxy._context.open) == 2, "two are gone")
    clients += [await connect(place) for _ in range(2)]
    await until(lambda: len(proxy._context.open) == 4, "connected again")
    counts = [entry["connections"] for entry in proxy.status()["services"][0]["endpoints"]]
    assert counts == [2, 2]
    for sock in (*clients, *kept):
        sock.close()


async def test_a_client_stays_with_its_endpoint(proxy: Proxy, endpoints: Endpoints) -> None:
    place = (own_address(), 80)
    plain = route(*place, endpoints.places)
    proxy.apply(table(replace(plain, affinity_seconds=60)))
    clients = [await connect(place) for _ in range(8)]
    await until(lambda: len(proxy._context.open) == 8, "connected")
    counts = sorted(entry["connections"] for entry in proxy.status()["services"][0]["endpoints"])
    assert counts == [0, 0, 8]
    for sock in clients:
        sock.close()


async def test_local_policy_uses_this_nodes_endpoints_alone(proxy: Proxy, endpoints: Endpoints) -> None:
    inside, outside = own_address(), own_address()
    port = free_port(outside)
    near, far = (Endpoint(*endpoints.places[n], node=name) for n, name in enumerate(("here", "there")))
    local = Route(
        "a/web", "u", inside, (RoutePort("", 80, port, (near, far)),), external_policy="Local", external_ips=()
    )
    node = NodeInfo(name="here", addresses=(outside,))
    proxy.apply(table(local, node=node))
    for _ in range(3):
        assert await answers((outside, port), endpoints, 0)
    proxy.apply(table(replace(local, ports=(RoutePort("", 80, port, (far,)),)), node=node))
    await refused((outside, port))
    assert await answers((inside, 80), endpoints, 1)
