"""Clients and upstream servers of real sockets for the DNS tests, made of the product's own message format."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address

from common.routing import Endpoint, NodeInfo, Route, RoutePort
from common.tasks import Tasks
from proxy.dns import message as dns
from proxy.dns.message import Edns, Message, Question, Record, name_of, text_of

DOMAIN = "cluster.local"
Answering = Callable[[Message], Message | bytes | None]


def node(address: str = "10.96.0.10") -> NodeInfo:
    return NodeInfo(name="node1", dns=address, domain=DOMAIN, service_cidr="10.96.0.0/16", cluster_cidr="10.244.0.0/16")


def port(name: str, number: int, *endpoints: Endpoint, protocol: str = "TCP") -> RoutePort:
    return RoutePort(name, number, 0, endpoints, protocol)


def service(key: str, ip: str = "", *ports: RoutePort, external: str = "") -> Route:
    return Route(key, f"uid-{key}", ip, ports, external)


def query(name: str, type: int = dns.A, *, id: int = 7, edns: Edns | None = None, flags: int = dns.RD) -> bytes:
    return dns.build(Message(id, flags, Question(name_of(name), type), edns=edns))


def a(name: str, ip: str, ttl: int = 60) -> Record:
    return Record(name_of(name), dns.A, ttl, (IPv4Address(ip).packed,))


def shown(records: tuple[Record, ...]) -> list[str]:
    """Records as text: "name TYPE data"."""
    return [f"{text_of(record.name)} {_NAMES.get(record.type, record.type)} {_data(record)}" for record in records]


_NAMES = {dns.A: "A", dns.CNAME: "CNAME", dns.PTR: "PTR", dns.SRV: "SRV", dns.SOA: "SOA", dns.NS: "NS", dns.TXT: "TXT"}


def _data(record: Record) -> str:
    first = record.data[0]
    if record.type == dns.A and isinstance(first, bytes):
        return str(IPv4Address(first))
    if record.type == dns.SRV and isinstance(first, bytes) and isinstance(record.data[1], tuple):
        return "{} {} {} {}".format(*struct.unpack("!HHH", first), text_of(record.data[1]))
    return " ".join(text_of(part) if isinstance(part, tuple) else part.hex() for part in record.data)


async def ask(place: tuple[str, int], data: bytes, timeout: float = 30.0) -> bytes:
    """One datagram there, one back. TimeoutError when nothing comes."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.connect(place)
        sock.send(data)
        async with asyncio.timeout(timeout):
            return await loop.sock_recv(sock, 65535)


async def ask_tcp(place: tuple[str, int], *queries: bytes) -> list[bytes]:
    """Queries one after another on one connection, all sent before the first answer is read."""
    async with asyncio.timeout(30):
        reader, writer = await asyncio.open_connection(*place)
        try:
            for data in queries:
                writer.write(struct.pack("!H", len(data)) + data)
            return [await reader.readexactly(struct.unpack("!H", await reader.readexactly(2))[0]) for _ in queries]
        finally:
            writer.close()
            await writer.wait_closed()


class Upstream:
    """A resolver on loopback, UDP and TCP on one port; `answer` makes its answers, `asked` is what came."""

    def __init__(self, address: str, answer: Answering, port: int = 0) -> None:
        self.answer = answer
        self.tcp_answer = answer
        self.asked: list[Message] = []
        self.ports: list[int] = []
        self.over_tcp = 0
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks("upstream")
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._udp.bind((address, port))
        self.place = (address, int(self._udp.getsockname()[1]))
        self._tcp = socket.create_server(self.place)
        self._tcp.setblocking(False)
        self._loop.add_reader(self._udp, self._datagram)
        self._tasks.start("accept", self._accept())

    def _datagram(self) -> None:
        data, client = self._udp.recvfrom(65535)
        asked = dns.parse(data)
        self.asked.append(asked)
        self.ports.append(client[1])
        found = self.answer(asked)
        if found is not None:
            self._udp.sendto(found if isinstance(found, bytes) else dns.build(found, 1232), client)

    async def _accept(self) -> None:
        while True:
            client, _ = await self._loop.sock_accept(self._tcp)
            with client:
                head = await self._loop.sock_recv(client, 2)
                data = await self._loop.sock_recv(client, struct.unpack("!H", head)[0])
                self.over_tcp += 1
                found = self.tcp_answer(dns.parse(data))
                if found is not None:
                    wire = found if isinstance(found, bytes) else dns.build(found)
                    await self._loop.sock_sendall(client, struct.pack("!H", len(wire)) + wire)

    async def close(self) -> None:
        self._loop.remove_reader(self._udp)
        self._udp.close()
        await self._tasks.close()
        self._tcp.close()


def says(*records: Record, rcode: int = dns.NOERROR, authority: tuple[Record, ...] = ()) -> Answering:
    """Always the same answer."""

    def answer(asked: Message) -> Message:
        return Message(asked.id, dns.QR | dns.RA, asked.question, rcode, records, authority, edns=asked.edns)

    return answer


@contextmanager
def descriptors_as_before() -> Iterator[None]:
    """Fails when more descriptors are open at the end than at the beginning."""
    import os

    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) <= before
