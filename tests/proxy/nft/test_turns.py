"""What services that share a chain, a mark and a map of endpoints do to one another and to others: nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from common.routing import Route
from proxy.nft import NftPlane
from tests.proxy.nft.test_kernel import ALL, VIP, asked, serve, service, table
from tests.proxy.nft.world import HERE, THERE, World
from tests.proxy.support import until

pytestmark = pytest.mark.root


def many(count: int, *ips: str) -> list[Route]:
    """Services of the same endpoints, more than one chain has rules."""
    return [service(*ips, vip=f"10.96.1.{n}", key=f"default/s{n:02}") for n in range(count)]


async def test_each_service_takes_turns_by_itself(shared_world: World, plane: NftPlane) -> None:
    routes = many(20, *ALL)
    await serve(plane, *routes)
    for n in (0, 14, 15, 19):
        # Its turns go on while another of the same chain gets connections and endpoints, and loses them.
        counts: Counter[str] = Counter()
        for turn in range(8):
            counts[(await asked(shared_world.pods[0], f"10.96.1.{n}", 80))[0]] += 1
            other = service(*ALL[: turn % 4], vip="10.96.1.13", key="default/s13")
            await serve(plane, *[other if route.key == other.key else route for route in routes])
            if turn % 4:
                await asked(shared_world.pods[0], "10.96.1.13", 80)
        assert counts == dict.fromkeys(ALL, 2), n


async def test_services_come_and_go_beside_others(shared_world: World, plane: NftPlane) -> None:
    routes = many(20, HERE[0])
    await serve(plane, *routes)
    await serve(plane, *routes[:3], *routes[18:])
    for n in (0, 2, 18, 19):
        assert (await asked(shared_world.pods[1], f"10.96.1.{n}", 80))[0] == HERE[0]
    with pytest.raises(ConnectionRefusedError):
        await asked(shared_world.pods[1], "10.96.1.10", 80)
    await serve(plane, service(THERE[0]))
    assert (await asked(shared_world.pods[1], VIP, 80))[0] == THERE[0]


async def test_endpoints_go_and_come_back(shared_world: World, plane: NftPlane) -> None:
    for ips in (ALL, (), ALL[:1], (), ALL[1:], ALL):
        await serve(plane, service(*ips))
        if not ips:
            with pytest.raises(ConnectionRefusedError):
                await asked(shared_world.pods[0], VIP, 80)
        assert {(await asked(shared_world.pods[0], VIP, 80))[0] for _ in ips} == set(ips)


async def test_affinity_is_switched_on_and_off(shared_world: World, plane: NftPlane) -> None:
    other = replace(service(*ALL, vip="10.96.0.11", key="default/other"), affinity_seconds=60)
    for seconds in (0, 60, 90, 0, 90):
        await serve(plane, replace(service(*ALL), affinity_seconds=seconds), other)
        found = {(await asked(shared_world.pods[0], VIP, 80))[0] for _ in ALL}
        assert len(found) == (1 if seconds else 4), seconds
        assert len({(await asked(shared_world.pods[0], "10.96.0.11", 80))[0] for _ in ALL}) == 1
        other = replace(other, affinity_seconds=seconds or 60)


async def test_what_others_write_into_the_mark_stays(shared_world: World, plane: NftPlane) -> None:
    nft = shared_world.node.nft
    nft(
        "add table ip theirs; add chain ip theirs c { type filter hook prerouting priority -150; };"
        "add rule ip theirs c ct state new ct mark set 0x00c00041;"
        "add chain ip theirs o { type filter hook output priority -150; };"
        "add rule ip theirs o ct state new ct mark set 0x00c00041;"
        "add counter ip theirs whole; add counter ip theirs spoilt; add chain ip theirs p"
        " { type filter hook postrouting priority 300; };"
        "add rule ip theirs p ct mark & 0xdfffffff != 0x00c00041 counter name spoilt return;"
        "add rule ip theirs p counter name whole"
    )
    try:
        await serve(plane, service(*ALL, node_port=30080), replace(service(*ALL, key="default/b", vip="10.96.0.11"), affinity_seconds=9))  # fmt: skip  # noqa: E501
        for place in (shared_world.pods[0], shared_world.node):
            for vip in (VIP, "10.96.0.11"):
                await asked(place, vip, 80)
        await asked(shared_world.pods[0], THERE[0], 8080)  # no service
        await serve(plane, service())
        with pytest.raises(ConnectionRefusedError):
            await asked(shared_world.pods[0], VIP, 80)
        assert "packets 0 " in nft("list", "counter", "ip", "theirs", "spoilt")
        assert "packets 0 " not in nft("list", "counter", "ip", "theirs", "whole")
    finally:
        nft("delete", "table", "ip", "theirs")


async def test_a_table_that_somebody_emptied_is_made_anew(shared_world: World) -> None:
    changed = asyncio.Event()
    plane = NftPlane(shared_world.kernel, changed.set)
    try:
        await serve(plane, service(HERE[0]))
        shared_world.node.nft("delete", "table", "ip", "sampan_n1")
        (error,) = await plane.apply(table(service(*HERE)))
        assert "default/web/tcp/80" in error.message
        await until(changed.is_set, "it was made anew", timeout=60)
        assert plane.errors() == []
        assert {(await asked(shared_world.pods[1], VIP, 80))[0] for _ in HERE} == set(HERE)
    finally:
        await plane.flush()
