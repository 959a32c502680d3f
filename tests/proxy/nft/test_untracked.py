"""What conntrack follows of the traffic to services, and that connections outlive their service's change of mode."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from common.routing import Endpoint
from proxy.nft import NftPlane, flows, wire
from tests.proxy.nft.test_kernel import VIP, asked, serve, service
from tests.proxy.nft.world import HERE, NODE, THERE, Place, Server, World, connect

pytestmark = pytest.mark.root

RELAYED = replace(NODE, mode="asyncio")
OTHER = "10.96.0.11"


@pytest.fixture(autouse=True)
def tracked_as_by_docker(shared_world: World) -> Iterator[None]:
    """Somebody else's table that translates: connections are followed, also while there is none of ours."""
    shared_world.node.nft(
        "add table ip theirs; add chain ip theirs o { type nat hook postrouting priority 100; };"
        "add rule ip theirs o ip saddr 172.17.0.0/16 masquerade"
    )
    yield
    shared_world.node.nft("delete table ip theirs")


@contextlib.contextmanager
def relay(world: World, address: str) -> Iterator[None]:
    """What serves a place in user space."""
    server = Server(world.node, address, 80)
    try:
        yield
    finally:
        server.close()


@contextlib.asynccontextmanager
async def connected(place: Place, address: str) -> AsyncIterator[socket.socket]:
    sock = await asyncio.to_thread(connect, place, address, 80)
    with sock:
        sock.settimeout(10)
        await asyncio.to_thread(sock.recv, 100)
        yield sock


async def echoes(sock: socket.socket) -> bool:
    def work() -> bool:
        sock.sendall(b"still there?")
        return sock.recv(100) == b"still there?"

    return await asyncio.to_thread(work)


def followed(world: World, address: str) -> bool:
    """Whether conntrack knows of a connection to the address."""
    return any(IPv4Address(address).packed in body for body in world.kernel.dump(wire.CONNTRACK, flows.ask()))


async def test_the_nodes_own_connections_to_relayed_services_are_not_followed(
    shared_world: World, plane: NftPlane
) -> None:
    with relay(shared_world, OTHER):
        await asked(shared_world.node, OTHER, 80)
        assert followed(shared_world, OTHER), "without us they are"
    address = "10.96.0.12"
    await serve(plane, service(*THERE, vip=address), node=RELAYED)
    with relay(shared_world, address):
        assert await asked(shared_world.node, address, 80) == (address, address)
        assert not followed(shared_world, address)
        # A firewall may want to know what pods and clients outside have begun.
        assert await asked(shared_world.pods[0], address, 80) == (address, HERE[0])
        assert followed(shared_world, address)


async def test_what_the_kernel_serves_is_followed_beside_it(shared_world: World, plane: NftPlane) -> None:
    relayed, served = "10.96.0.13", "10.96.0.14"
    far = replace(service(*THERE, vip=relayed, key="default/far"), mode="asyncio")
    await serve(plane, service(HERE[0], vip=served), far)
    with relay(shared_world, relayed):
        assert (await asked(shared_world.node, served, 80))[0] == HERE[0]
        assert (await asked(shared_world.node, relayed, 80))[0] == relayed
    assert followed(shared_world, served) and not followed(shared_world, relayed)
    assert plane.tables == ("sampan_n1", "sampan_n1_untracked")


async def test_an_endpoint_on_the_node_itself_is_reached_through_the_kernel(
    shared_world: World, plane: NftPlane
) -> None:
    """It answers to the service's address, from which the node's own process speaks."""
    here = "192.0.2.1"
    server = Server(shared_world.node, here, 8080)
    try:
        route = service(HERE[0], vip="10.96.0.15")
        port = replace(route.ports[0], endpoints=(Endpoint(here, 8080, "n1"),))
        await serve(plane, replace(route, ports=(port,)))
        assert (await asked(shared_world.node, "10.96.0.15", 80))[0] == here
    finally:
        server.close()


async def test_connections_stay_when_their_service_goes_to_the_kernel(shared_world: World, plane: NftPlane) -> None:
    await serve(plane, service(HERE[0]), node=RELAYED)
    with relay(shared_world, VIP):
        async with connected(shared_world.node, VIP) as own, connected(shared_world.pods[1], VIP) as pods:
            await serve(plane, service(HERE[0]))
            assert (await asked(shared_world.node, VIP, 80))[0] == HERE[0]
            assert await echoes(own) and await echoes(pods)


async def test_connections_stay_when_their_service_leaves_the_kernel(shared_world: World, plane: NftPlane) -> None:
    await serve(plane, service(THERE[0]))
    async with connected(shared_world.node, VIP) as own, connected(shared_world.pods[1], VIP) as pods:
        await serve(plane, service(THERE[0]), node=RELAYED)
        assert await echoes(own) and await echoes(pods)
        # One that starts later does not know what there was; the kernel does.
        for _ in range(2):
            later = NftPlane(shared_world.kernel)
            await serve(later, service(THERE[0]), node=RELAYED)
            await later.close()
            assert await echoes(own) and await echoes(pods)
    with relay(shared_world, VIP):
        assert (await asked(shared_world.node, VIP, 80))[0] == VIP


async def test_nothing_of_it_is_left(shared_world: World, plane: NftPlane) -> None:
    await serve(plane, service(THERE[0]), node=RELAYED)
    assert plane.tables == ("sampan_n1_untracked",)
    assert "sampan_n1_untracked" in shared_world.node.nft("list", "tables")
    await plane.flush()
    assert not plane.tables
    assert "sampan" not in shared_world.node.nft("list", "tables")


async def test_another_range_of_services_is_followed_from_then_on(shared_world: World, plane: NftPlane) -> None:
    await serve(plane, node=RELAYED)
    assert "10.96.0.0/16" in shared_world.node.nft("list", "table", "ip", "sampan_n1_untracked")
    await serve(plane, node=replace(RELAYED, service_cidr="10.97.0.0/16"))
    assert "10.97.0.0/16" in shared_world.node.nft("list", "table", "ip", "sampan_n1_untracked")
    await serve(plane, node=replace(RELAYED, service_cidr=""))
    assert "sampan" not in shared_world.node.nft("list", "tables")
