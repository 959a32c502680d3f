"""The kernel's data plane with real packets: who reaches whom, as whom, how often, and what an update does."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from dataclasses import replace

import pytest

from common.routing import Endpoint, NodeInfo, Route, RoutePort
from proxy.nft import NftPlane
from proxy.table import Table
from tests.proxy.nft.world import HERE, NODE, THERE, Place, World, ask, connect

pytestmark = pytest.mark.root

VIP = "10.96.0.10"
ALL = (*HERE, *THERE)


def service(*ips: str, vip: str = VIP, node_port: int = 0, protocol: str = "TCP", key: str = "default/web") -> Route:
    endpoints = tuple(Endpoint(ip, 8080, "n1" if ip in HERE else "n2") for ip in ips)
    return Route(key, f"uid-{key}", vip, (RoutePort("http", 80, node_port, endpoints, protocol),))


def table(*routes: Route, node: NodeInfo = NODE) -> Table:
    return Table("test", 1, node, {route.key: route for route in routes})


async def serve(plane: NftPlane, *routes: Route, node: NodeInfo = NODE) -> None:
    assert await plane.apply(table(*routes, node=node)) == []


async def asked(place: Place, address: str, port: int, protocol: str = "TCP") -> tuple[str, str]:
    return await asyncio.to_thread(ask, place, address, port, protocol)


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
async def test_everyone_reaches_every_endpoint(shared_world: World, plane: NftPlane, protocol: str) -> None:
    await serve(plane, service(*ALL, node_port=30080, protocol=protocol))
    for place in (shared_world.node, *shared_world.pods):
        found = {(await asked(place, VIP, 80, protocol))[0] for _ in ALL}
        assert found == set(ALL), place.name
    for place in (shared_world.node, *shared_world.pods, shared_world.client):
        found = {(await asked(place, "192.0.2.1", 30080, protocol))[0] for _ in ALL}
        assert found == set(ALL), place.name


async def test_turns_are_even(shared_world: World, plane: NftPlane) -> None:
    await serve(plane, service(*ALL))
    counts = Counter([(await asked(shared_world.pods[0], VIP, 80))[0] for _ in range(20)])
    assert counts == dict.fromkeys(ALL, 5)


async def test_clients_keep_their_address_where_answers_come_back(shared_world: World, plane: NftPlane) -> None:
    await serve(plane, service(HERE[0], node_port=30080), service(THERE[0], vip="10.96.0.11", key="default/far"))
    assert await asked(shared_world.client, "192.0.2.1", 30080) == (HERE[0], "192.0.2.2")
    assert await asked(shared_world.pods[0], "10.96.0.11", 80) == (THERE[0], HERE[0])


async def test_a_client_outside_is_masqueraded_to_another_node(shared_world: World, plane: NftPlane) -> None:
    await serve(plane, service(THERE[0], node_port=30080))
    assert await asked(shared_world.client, "192.0.2.1", 30080) == (THERE[0], "198.51.100.1")


async def test_the_nodes_own_process_does_not_speak_from_the_service(shared_world: World, plane: NftPlane) -> None:
    await serve(plane, service(THERE[0]))
    assert await asked(shared_world.node, VIP, 80) == (THERE[0], "198.51.100.1")


async def test_a_pod_reaches_itself(shared_world: World, plane: NftPlane) -> None:
    await serve(plane, service(HERE[0]))
    assert await asked(shared_world.pods[0], VIP, 80) == (HERE[0], "10.201.1.1")


async def test_external_policy_local_keeps_outside_clients_here(shared_world: World, plane: NftPlane) -> None:
    await serve(plane, replace(service(HERE[1], *THERE, node_port=30080), external_policy="Local"))
    for _ in range(4):
        assert await asked(shared_world.client, "192.0.2.1", 30080) == (HERE[1], "192.0.2.2")
    assert {(await asked(shared_world.pods[0], VIP, 80))[0] for _ in range(3)} == {HERE[1], *THERE}


async def test_policy_local_without_an_endpoint_here_refuses(shared_world: World, plane: NftPlane) -> None:
    await serve(plane, replace(service(*THERE, node_port=30080), external_policy="Local", internal_policy="Local"))
    for place, address, port in ((shared_world.client, "192.0.2.1", 30080), (shared_world.pods[0], VIP, 80)):
        with pytest.raises(ConnectionRefusedError):
            await asked(place, address, port)


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
async def test_no_endpoints_refuse_at_once(shared_world: World, plane: NftPlane, protocol: str) -> None:
    await serve(plane, replace(service(node_port=30080, protocol=protocol), external_ips=("203.0.113.7",)))
    places = ((VIP, 80), ("192.0.2.1", 30080), ("203.0.113.7", 80))
    for address, port in places:
        for place in (shared_world.client, *shared_world.pods, shared_world.node):
            if place is shared_world.client and address == VIP:
                continue
            # To a datagram of the node's own process the kernel says so in another word.
            with pytest.raises((ConnectionRefusedError, PermissionError)):
                await asked(place, address, port, protocol)


async def test_external_addresses_and_chosen_node_addresses(shared_world: World, plane: NftPlane) -> None:
    route = replace(
        service(HERE[0], node_port=30080), external_ips=("203.0.113.7",), node_port_addresses=("192.0.2.0/24",)
    )
    await serve(plane, route)
    assert (await asked(shared_world.client, "203.0.113.7", 80))[0] == HERE[0]
    assert (await asked(shared_world.client, "192.0.2.1", 30080))[0] == HERE[0]
    with pytest.raises(ConnectionRefusedError):
        await asked(shared_world.client, "198.51.100.1", 30080)


async def test_a_client_stays_with_its_endpoint(shared_world: World, plane: NftPlane) -> None:
    route = replace(service(*ALL, node_port=30080), affinity_seconds=600)
    await serve(plane, route)
    for place in (*shared_world.pods, shared_world.client):
        found = {(await asked(place, "192.0.2.1", 30080))[0] for _ in range(5)}
        assert len(found) == 1
    first = found.pop()
    # The endpoint goes: another one, and that for good.
    left = tuple(ip for ip in ALL if ip != first)
    await serve(plane, replace(service(*left, node_port=30080), affinity_seconds=600))
    second = {(await asked(shared_world.client, "192.0.2.1", 30080))[0] for _ in range(5)}
    assert len(second) == 1 and second <= set(left)
    # And so when others go: clients of endpoints that stay are not moved.
    await serve(plane, replace(service(*second, node_port=30080), affinity_seconds=600))
    assert {(await asked(shared_world.client, "192.0.2.1", 30080))[0] for _ in range(3)} == second


async def test_established_connections_outlive_updates_and_removal(shared_world: World, plane: NftPlane) -> None:
    await serve(plane, service(HERE[0]))
    with await asyncio.to_thread(connect, shared_world.pods[1], VIP, 80) as sock:
        assert sock.recv(100).startswith(HERE[0].encode())
        for routes in ([service(*THERE)], [service()], []):
            await serve(plane, *routes)
            sock.sendall(b"still there?")
            assert sock.recv(100) == b"still there?"


async def test_udp_leaves_an_endpoint_that_is_gone(shared_world: World, plane: NftPlane) -> None:
    await serve(plane, service(HERE[0], protocol="UDP"))

    def make() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.settimeout(2)
        sock.connect((VIP, 80))
        return sock

    with await asyncio.to_thread(shared_world.pods[1].do, make) as sock:
        sock.send(b"1")
        assert sock.recv(100).startswith(HERE[0].encode())
        await serve(plane, service(THERE[0], protocol="UDP"))
        sock.send(b"2")
        assert sock.recv(100).startswith(THERE[0].encode())


async def test_updates_refuse_no_connection(shared_world: World, plane: NftPlane) -> None:
    await serve(plane, service(*ALL))
    stop = asyncio.Event()
    served = 0

    async def load(place: Place) -> None:
        nonlocal served
        while not stop.is_set():
            await asked(place, VIP, 80)
            served += 1

    async with asyncio.TaskGroup() as group:
        for place in (*shared_world.pods, shared_world.node):
            group.create_task(load(place))
        for turn in range(200):
            ips = ALL[: 1 + turn % 4] if turn % 3 else tuple(reversed(ALL))[: 1 + turn % 3]
            await serve(plane, service(*ips))
        stop.set()
    assert served > 200


async def test_a_new_plane_takes_over_what_the_last_one_left(shared_world: World, plane: NftPlane) -> None:
    await serve(plane, service(HERE[0]))
    await plane.close()
    assert (await asked(shared_world.pods[1], VIP, 80))[0] == HERE[0]
    second = NftPlane(shared_world.kernel)
    await serve(second, service(THERE[0]))
    assert (await asked(shared_world.pods[1], VIP, 80))[0] == THERE[0]
    with await asyncio.to_thread(connect, shared_world.pods[1], VIP, 80) as sock:
        assert sock.recv(100)
        third = NftPlane(shared_world.kernel)
        await serve(third, service(HERE[0], vip="10.96.0.12"))
        sock.sendall(b"still there?")
        assert sock.recv(100) == b"still there?"
    with pytest.raises(ConnectionRefusedError):
        await asked(shared_world.pods[1], VIP, 80)


async def test_counters_are_read_back(shared_world: World, plane: NftPlane) -> None:
    await serve(plane, service(*ALL, node_port=30080), service(HERE[0], vip="10.96.0.11", key="default/other"))
    for _ in range(3):
        await asked(shared_world.pods[0], VIP, 80)
    await asked(shared_world.client, "192.0.2.1", 30080)
    found = {counters.key.key: counters for counters in await plane.counters()}
    assert found["default/web"].connections == 4
    assert found["default/web"].bytes_in > 4 * 100 and found["default/web"].bytes_out > 4 * 100
    assert (found["default/other"].connections, found["default/other"].bytes_in) == (0, 0)
    # An endpoint's change does not start them anew.
    await serve(plane, service(HERE[0], node_port=30080), service(HERE[0], vip="10.96.0.11", key="default/other"))
    assert (await plane.counters())[1].connections == 4


async def test_only_its_own_table_is_touched_and_removed(shared_world: World, plane: NftPlane) -> None:
    shared_world.node.nft("add table ip theirs; add chain ip theirs c; add rule ip theirs c counter")
    before = shared_world.node.nft("list", "ruleset")
    await serve(plane, replace(service(*ALL), affinity_seconds=60), service(vip="10.96.0.11", key="default/empty"))
    listed = shared_world.node.nft("list", "ruleset")  # the program can read what we wrote
    assert "table ip sampan_n1" in listed and before.strip() in listed
    await plane.flush()
    assert shared_world.node.nft("list", "ruleset") == before
    shared_world.node.nft("delete", "table", "ip", "theirs")
