"""UDP services on real sockets: sessions, replies from the service's address, endpoints that go or refuse, bounds."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from common.routing import Endpoint, Route, RoutePort
from proxy.plan import Place, PortKey, Serving
from proxy.server import Proxy
from proxy.service import Drains, ServicePort
from proxy.udp import ANSWERED_IDLE, UNANSWERED_IDLE, Datagrams
from tests.proxy.support import free_port, own_address, table, until


class Echo(asyncio.DatagramProtocol):
    """Answers each datagram with its own name before it."""

    def __init__(self, name: bytes) -> None:
        self._name = name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self.transport.sendto(self._name + b":" + data, address)  # type: ignore[attr-defined]


class Servers:
    def __init__(self) -> None:
        self.transports: list[asyncio.DatagramTransport] = []
        self.places: list[tuple[str, int]] = []

    async def add(self, name: bytes) -> None:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: Echo(name), local_addr=(own_address(), 0)
        )
        self.transports.append(transport)
        self.places.append(transport.get_extra_info("sockname"))


@pytest.fixture
async def servers() -> AsyncIterator[Servers]:
    made = Servers()
    for name in (b"a", b"b"):
        await made.add(name)
    yield made
    for transport in made.transports:
        transport.close()


def udp(address: str, port: int, endpoints: list[tuple[str, int]], affinity: int = 0) -> Route:
    ends = tuple(Endpoint(*place) for place in endpoints)
    return Route("default/dns", "uid", address, (RoutePort("dns", port, 0, ends, "UDP"),), affinity_seconds=affinity)


def client(place: tuple[str, int]) -> socket.socket:
    """Connected: takes replies from that very address alone."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.connect(place)
    return sock


async def ask(sock: socket.socket, data: bytes, patience: float = 30.0) -> bytes:
    sock.send(data)
    async with asyncio.timeout(patience):
        return await asyncio.get_running_loop().sock_recv(sock, 2000)


async def test_a_client_keeps_its_endpoint_and_is_answered_by_the_service(proxy: Proxy, servers: Servers) -> None:
    place = (own_address(), 53)
    proxy.apply(table(udp(*place, servers.places)))
    first, second = client(place), client(place)
    one = {(await ask(first, b"1"))[:1] for _ in range(5)}
    two = {(await ask(second, b"1"))[:1] for _ in range(5)}
    assert len(one) == len(two) == 1 and one | two == {b"a", b"b"}, "in turns by client, not by datagram"
    assert proxy.status()["counters"]["sessions"] == 2
    large = b"x" * 1400
    assert (await ask(first, large))[2:] == large
    first.close()
    second.close()


async def test_sessions_of_a_removed_endpoint_move(proxy: Proxy, servers: Servers) -> None:
    place = (own_address(), 53)
    proxy.apply(table(udp(*place, servers.places[:1])))
    sock = client(place)
    assert await ask(sock, b"1") == b"a:1"
    proxy.apply(table(udp(*place, servers.places[1:])))
    assert await ask(sock, b"2") == b"b:2"
    proxy.apply(table(udp(*place, [])))
    with pytest.raises(ConnectionRefusedError):
        await ask(sock, b"3")
    sock.close()


async def test_an_endpoint_that_refuses_is_left_for_the_next_datagram(proxy: Proxy, servers: Servers) -> None:
    place = (own_address(), 53)
    address = own_address()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind((address, 0))
        gone = closed.getsockname()
    proxy.apply(table(udp(*place, [gone, servers.places[0]])))
    answered = 0
    sock = client(place)
    for number in range(6):
        try:
            assert await ask(sock, b"%d" % number, 5) == b"a:%d" % number
            answered += 1
        except TimeoutError:
            continue
    assert answered >= 5
    (failures,) = [e["failures"] for e in proxy.status()["services"][0]["endpoints"] if e["port"] == gone[1]]
    assert failures <= 1
    sock.close()


async def test_tcp_and_udp_on_one_port(proxy: Proxy, servers: Servers) -> None:
    address = own_address()
    port = free_port(address)
    proxy.apply(table(udp(address, port, servers.places)))
    sock = client((address, port))
    assert await ask(sock, b"1")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address, port))
    sock.close()


async def test_sessions_are_bounded_and_end_when_idle(servers: Servers) -> None:
    loop = asyncio.get_running_loop()
    address = own_address()
    serving = Serving("dns", "u", (Endpoint(*servers.places[0]),))
    service = ServicePort(PortKey("a/dns", 53, "UDP"), serving, Drains(lambda: None))
    datagrams = Datagrams(loop, capacity=3)
    place = Place(address, 53, "UDP")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as front:
        front.setblocking(False)
        front.bind((address, 53))
        datagrams.assign(place, service)
        datagrams.open(place, [front])
        clients = [client((address, 53)) for _ in range(5)]
        for number, sock in enumerate(clients):
            assert await ask(sock, b"1") == b"a:1"
            assert datagrams.sessions == min(number + 1, 3)
        assert await ask(clients[0], b"2") == b"a:2", "evicted, and begun again"
        for session in datagrams._sessions.values():
            assert session.answered
            session.moved -= UNANSWERED_IDLE + 1
        datagrams._sweep()
        assert datagrams.sessions == 3
        next(iter(datagrams._sessions.values())).moved -= ANSWERED_IDLE
        datagrams._sweep()
        await until(lambda: datagrams.sessions == 2, "one is idle for too long")
        datagrams.end()
        assert datagrams.sessions == 0
        for sock in clients:
            sock.close()
