"""Real sockets for the proxy's tests: loopback addresses of one's own, tables, endpoints, and waiting."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import socket
import struct
from collections.abc import Callable, Iterable

from common.routing import Endpoint, NodeInfo, Route, RoutePort
from proxy.table import Table

# A client's socket and the endpoint's that its connection has come to.
Pair = tuple[socket.socket, socket.socket]

_numbers = itertools.count(1)
_BLOCK = (60 + secrets.randbelow(190), 10 * secrets.randbelow(23))
_revisions = itertools.count(1)


def own_address() -> str:
    """An address of 127.0.0.0/8 that no other test of this run uses, nor most likely another run's."""
    number = next(_numbers)
    return f"127.{_BLOCK[0]}.{_BLOCK[1] + number // 250}.{number % 250 + 2}"


def free_port(address: str) -> int:
    with socket.socket() as sock:
        sock.bind((address, 0))
        return int(sock.getsockname()[1])


async def until(condition: Callable[[], bool], what: str, timeout: float = 30.0) -> None:
    """Polls until the condition holds; fails with `what` after `timeout` seconds."""
    end = asyncio.get_running_loop().time() + timeout
    while not condition():
        assert asyncio.get_running_loop().time() < end, f"not within {timeout} s: {what}"
        await asyncio.sleep(0.005)


def reset(sock: socket.socket) -> None:
    """Closes with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def route(
    address: str, port: int, endpoints: Iterable[tuple[str, int]], *, key: str = "default/web", node_port: int = 0
) -> Route:
    """A service of one port."""
    return Route(
        key, f"uid-{key}", address, (RoutePort("http", port, node_port, tuple(Endpoint(*e) for e in endpoints)),)
    )


def table(*routes: Route, addresses: tuple[str, ...] = (), node: NodeInfo | None = None) -> Table:
    """A complete table with a new revision."""
    held = node or NodeInfo(name="here", addresses=addresses)
    return Table("test", next(_revisions), held, {r.key: r for r in routes})


class Endpoints:
    """Listening sockets of one address; accepts by hand, so that a test decides when and what happens next."""

    def __init__(self, count: int = 1) -> None:
        self.address = own_address()
        self.sockets = [socket.create_server((self.address, 0), backlog=512) for _ in range(count)]
        for sock in self.sockets:
            sock.setblocking(False)
        self.places = [(self.address, int(sock.getsockname()[1])) for sock in self.sockets]

    async def accept(self, index: int = 0) -> socket.socket:
        async with asyncio.timeout(30):
            client, _ = await asyncio.get_running_loop().sock_accept(self.sockets[index])
        client.setblocking(False)
        return client

    def waiting(self, index: int = 0) -> bool:
        """Whether a connection is to be accepted."""
        import select

        return bool(select.select([self.sockets[index]], [], [], 0)[0])

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


async def connect(place: tuple[str, int]) -> socket.socket:
    """A connected non-blocking socket. OSError as connect gives it."""
    sock = socket.socket()
    sock.setblocking(False)
    try:
        async with asyncio.timeout(30):
            await asyncio.get_running_loop().sock_connect(sock, place)
    except BaseException:
        sock.close()
        raise
    return sock


async def send(sock: socket.socket, data: bytes) -> None:
    async with asyncio.timeout(30):
        await asyncio.get_running_loop().sock_sendall(sock, data)


async def receive(sock: socket.socket, size: int) -> bytes:
    """Exactly `size` bytes, fewer at the end of stream. OSError when reset."""
    parts = bytearray()
    async with asyncio.timeout(30):
        while len(parts) < size:
            data = await asyncio.get_running_loop().sock_recv(sock, min(size - len(parts), 1 << 18))
            if not data:
                break
            parts += data
    return bytes(parts)


async def read_to_end(sock: socket.socket) -> tuple[bytes, str]:
    """Everything until the stream ends, and how: "fin" or "rst"."""
    parts = bytearray()
    try:
        async with asyncio.timeout(30):
            while data := await asyncio.get_running_loop().sock_recv(sock, 1 << 18):
                parts += data
    except ConnectionResetError:
        return bytes(parts), "rst"
    return bytes(parts), "fin"
