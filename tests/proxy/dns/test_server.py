"""The whole server on real sockets: UDP, TCP, rubbish, slow clients, a place that is taken, a table that changes."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from common.routing import Endpoint, NodeInfo, Route
from proxy.dns import message as dns
from proxy.dns.dns import Dns
from proxy.dns.message import Edns, Message
from proxy.dns.server import MOST_OF_CLIENT, Server
from proxy.table import Change, Table
from tests.proxy.dns.support import Upstream, a, ask, ask_tcp, node, port, query, says, service, shown
from tests.proxy.support import free_port, own_address, until

WEB = service("default/web", "10.96.0.5", port("http", 80, Endpoint("10.244.1.7", 8080)))
OUT = service("default/out", external="www.example.com")
MANY = service("default/many", "", port("x", 1, *(Endpoint(f"10.244.{i // 250}.{i % 250 + 1}", 1) for i in range(900))))


class Node:
    """A Dns on an address of its own with one upstream; `place` is where it answers."""

    def __init__(self, directory: Path) -> None:
        self.place = (own_address(), 0)
        self.place = (self.place[0], free_port(self.place[0]))
        self.upstream = Upstream(own_address(), says(a("www.example.com", "192.0.2.7")))
        path = directory / "resolv.conf"
        path.write_text(f"nameserver {self.upstream.place[0]}\n")
        self.changes = 0
        self.dns = Dns(
            resolv_conf=path, port=self.place[1], upstream_port=self.upstream.place[1], on_errors_changed=self._changed
        )
        self.table = Table("e", 0, node(self.place[0]))

    def _changed(self) -> None:
        self.changes += 1

    def put(self, *routes: Route, removed: tuple[str, ...] = ()) -> None:
        self.table.revision += 1
        self.table.routes.update({route.key: route for route in routes})
        for key in removed:
            self.table.routes.pop(key, None)
        self.dns.apply(self.table, Change({route.key: route for route in routes}, removed))

    async def ask(self, name: str, type: int = dns.A, edns: Edns | None = None) -> Message:
        return dns.parse(await ask(self.place, query(name, type, edns=edns)))


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Node]:
    made = Node(tmp_path)
    yield made
    await made.dns.close()
    await made.upstream.close()


async def test_names_of_the_cluster_and_of_others(here: Node) -> None:
    here.put(WEB, OUT)
    inside = await here.ask("web.default.svc.Cluster.local")
    assert shown(inside.answers) == ["web.default.svc.Cluster.local A 10.96.0.5"]
    assert inside.flags == dns.QR | dns.AA | dns.RD | dns.RA
    outside = await here.ask("www.example.com")
    assert shown(outside.answers) == ["www.example.com A 192.0.2.7"]
    assert outside.flags == dns.QR | dns.RD | dns.RA
    chased = await here.ask("out.default.svc.cluster.local")
    assert shown(chased.answers) == [
        "out.default.svc.cluster.local CNAME www.example.com",
        "www.example.com A 192.0.2.7",
    ]
    assert (await here.ask("no.default.svc.cluster.local")).rcode == dns.NXDOMAIN
    assert len(here.upstream.asked) == 1


async def test_a_table_that_changes(here: Node) -> None:
    here.put(WEB)
    here.put(replace(WEB, cluster_ip="10.96.0.6"))
    assert shown((await here.ask("web.default.svc.cluster.local")).answers)[0].endswith("10.96.0.6")
    here.put(removed=("default/web",))
    assert (await here.ask("web.default.svc.cluster.local")).rcode == dns.NXDOMAIN
    here.table.node = replace(here.table.node, domain="other.test")
    here.dns.apply(here.table, Change({}, (), whole=True))
    here.put(WEB)
    assert (await here.ask("web.default.svc.other.test")).answers


async def test_nothing_is_answered_before_a_table_that_names_an_address(here: Node) -> None:
    here.dns.apply(Table("e", 1), Change({}, (), whole=True))
    with pytest.raises(OSError):
        await ask(here.place, query("a"))
    assert not here.dns.errors()


async def test_a_large_set_is_cut_on_udp_and_whole_on_tcp(here: Node) -> None:
    here.put(MANY)
    name = "many.default.svc.cluster.local"
    plain, edns = await here.ask(name), await here.ask(name, edns=Edns(4096))
    assert plain.flags & dns.TC and 20 < len(plain.answers) < 31
    assert edns.flags & dns.TC and 60 < len(edns.answers) < 80 and edns.edns is not None
    assert plain.answers[0] != edns.answers[0]  # in turn
    (whole, small) = await ask_tcp(here.place, query(name), query("web.default.svc.cluster.local"))
    assert len(dns.parse(whole).answers) == 900
    assert dns.parse(small).rcode == dns.NXDOMAIN


@pytest.mark.parametrize(
    ("data", "rcode"),
    [
        (query("a", flags=0x2800), dns.NOTIMP),
        (query("a", dns.AXFR), dns.REFUSED),
        (query("a", edns=Edns(512, 1)), dns.BADVERS),
        (query("www.example.com", flags=0), dns.REFUSED),
    ],
)
async def test_what_is_not_served(here: Node, data: bytes, rcode: int) -> None:
    here.put(WEB)
    assert dns.parse(await ask(here.place, data)).rcode == rcode


async def test_rubbish_neither_kills_nor_leaks(here: Node) -> None:
    here.put(WEB)
    await here.ask("web.default.svc.cluster.local")
    before = len(os.listdir("/proc/self/fd"))
    rng = random.Random(5)
    good = query("web.default.svc.cluster.local")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(here.place)
        for number in range(1500):
            if number % 2:
                data = rng.randbytes(rng.randrange(600))
            else:
                damaged = bytearray(good)
                for _ in range(rng.randrange(1, 5)):
                    damaged[rng.randrange(2, len(damaged))] = rng.randrange(256)
                data = bytes(damaged)
            sock.send(data)
            if not number % 50:
                await asyncio.sleep(0)
    for _ in range(30):
        _, writer = await asyncio.open_connection(*here.place)
        writer.write(rng.randbytes(rng.randrange(400)))
        writer.close()
    assert (await here.ask("web.default.svc.cluster.local")).answers
    # Damaged names were asked for elsewhere; the upstream answers them all the same.
    await until(lambda: len(os.listdir("/proc/self/fd")) <= before, "descriptors back", timeout=60)


async def test_a_slow_tcp_client_is_hung_up_on_and_hurts_nobody(tmp_path: Path) -> None:
    here = Node(tmp_path)
    here.put(WEB)
    assert here.dns.responder is not None
    responder = here.dns.responder
    server = Server((own_address(), 0), lambda: responder, tcp_seconds=0.2)
    try:
        clients = [await asyncio.open_connection(*server.place) for _ in range(3)]
        clients[1][1].write(b"\0")
        clients[2][1].write(struct.pack("!H", 40) + b"x" * 10)
        assert dns.parse(await ask(server.place, query("web.default.svc.cluster.local"))).answers
        assert dns.parse((await ask_tcp(server.place, query("web.default.svc.cluster.local")))[0]).answers
        for reader, writer in clients:
            async with asyncio.timeout(30):
                assert await reader.read() == b""
            writer.close()
    finally:
        await server.close()
        await here.dns.close()
        await here.upstream.close()


async def test_one_client_cannot_take_all_connections(here: Node) -> None:
    here.put(WEB)
    held = [await asyncio.open_connection(*here.place) for _ in range(MOST_OF_CLIENT)]
    reader, writer = await asyncio.open_connection(*here.place)
    async with asyncio.timeout(30):
        assert await reader.read() == b""
    for _, one in [*held, (reader, writer)]:
        one.close()


async def test_a_place_that_is_taken_is_said_and_tried_again(here: Node) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as squatter:
        squatter.bind(here.place)
        here.put(WEB)
        (error,) = here.dns.errors()
        assert (error.key, error.port, error.address) == ("kube-system/kube-dns", here.place[1], here.place[0])
        assert "in use" in error.message
    await until(lambda: not here.dns.errors(), "listening after all")
    assert here.changes == 1
    assert (await here.ask("web.default.svc.cluster.local")).answers


async def test_a_node_that_is_none_is_an_error_and_no_more(here: Node) -> None:
    here.table.node = NodeInfo(dns="10.96.0.10", domain="a..b")
    here.put(WEB)
    assert "a..b" in here.dns.errors()[0].message


async def test_another_proxy_takes_over_while_this_one_answers(here: Node, tmp_path: Path) -> None:
    here.put(WEB)
    other = Dns(resolv_conf=tmp_path / "none", port=here.place[1])
    other.apply(here.table, here.table.since(None))
    assert not other.errors()
    here.dns.stop_listening()
    for _ in range(10):
        assert (await here.ask("web.default.svc.cluster.local")).answers
    await other.close()


async def test_silence_from_above_delays_nobody_else(here: Node) -> None:
    here.put(WEB)
    here.upstream.answer = lambda _: None
    async with asyncio.TaskGroup() as group:
        slow = [group.create_task(here.ask(f"n{i}.example.com")) for i in range(300)]
        await until(lambda: len(here.upstream.asked) > 100, "questions above")
        assert (await here.ask("web.default.svc.cluster.local")).answers
        assert not all(task.done() for task in slow)
    assert {task.result().rcode for task in slow} == {dns.SERVFAIL}
