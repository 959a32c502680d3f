"""Two least relays that call sockets themselves, for bench.relayforms."""

from __future__ import annotations

import asyncio
import socket

from bench.proxy_space import ENDPOINT
from common.tasks import Tasks

BUFFER = 256 * 1024


def _listener(address: str, port: int) -> socket.socket:
    sock = socket.create_server((address, port), backlog=4096)
    sock.setblocking(False)
    return sock


def _nodelay(*socks: socket.socket) -> None:
    for sock in socks:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


async def sock_calls(address: str, port: int) -> None:
    """Two tasks a connection, each sock_recv and sock_sendall in turn."""
    loop = asyncio.get_running_loop()
    tasks = Tasks("relay")

    async def pump(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := await loop.sock_recv(source, BUFFER):
                await loop.sock_sendall(target, data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    async def carry(client: socket.socket) -> None:
        endpoint = socket.socket()
        endpoint.setblocking(False)
        _nodelay(client, endpoint)
        with client, endpoint:
            await loop.sock_connect(endpoint, (ENDPOINT, port))
            async with asyncio.TaskGroup() as group:
                group.create_task(pump(client, endpoint))
                group.create_task(pump(endpoint, client))

    listener = _listener(address, port)
    while True:
        client, _ = await loop.sock_accept(listener)
        tasks.start("carry", carry(client))


async def add_reader(address: str, port: int) -> None:
    """A callback for each readable socket; interest changes by system calls, as asyncio's loop has it."""
    loop = asyncio.get_running_loop()
    memory = memoryview(bytearray(BUFFER))

    def finish(source: socket.socket, target: socket.socket) -> None:
        for sock in (source, target):
            if sock.fileno() >= 0:
                loop.remove_reader(sock)
                loop.remove_writer(sock)
                sock.close()

    def readable(source: socket.socket, target: socket.socket, ended: list[socket.socket]) -> None:
        try:
            count = source.recv_into(memory)
            if not count:
                loop.remove_reader(source)
                target.shutdown(socket.SHUT_WR)
                ended.append(source)
                if len(ended) == 2:
                    finish(source, target)
                return
            sent = target.send(memory[:count])
        except BlockingIOError:
            sent = 0
        except OSError:
            finish(source, target)
            return
        if sent < count:
            loop.remove_reader(source)
            loop.add_writer(target, writable, source, target, bytes(memory[sent:count]), ended)

    def writable(source: socket.socket, target: socket.socket, rest: bytes, ended: list[socket.socket]) -> None:
        loop.remove_writer(target)
        try:
            sent = target.send(rest)
        except OSError:
            finish(source, target)
            return
        if sent < len(rest):
            loop.add_writer(target, writable, source, target, rest[sent:], ended)
        else:
            loop.add_reader(source, readable, source, target, ended)

    def connected(client: socket.socket, endpoint: socket.socket) -> None:
        loop.remove_writer(endpoint)
        ended: list[socket.socket] = []
        loop.add_reader(client, readable, client, endpoint, ended)
        loop.add_reader(endpoint, readable, endpoint, client, ended)

    listener = _listener(address, port)
    while True:
        client, _ = await loop.sock_accept(listener)
        endpoint = socket.socket()
        endpoint.setblocking(False)
        _nodelay(client, endpoint)
        endpoint.connect_ex((ENDPOINT, port))
        loop.add_writer(endpoint, connected, client, endpoint)
