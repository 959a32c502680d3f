"""Asks the node's resolvers for names that are not the cluster's: bounded in time and number, each question once."""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct
from collections.abc import Callable
from dataclasses import replace

from common.tasks import Tasks
from proxy.dns import message as dns
from proxy.dns.cache import Cache
from proxy.dns.message import BadMessage, Edns, Message, Question
from proxy.dns.resolvers import Resolvers, Server

# Seconds for one question, over all servers and attempts.
TIMEOUT = 2.0
# How often each server is asked in that time: packets get lost.
ROUNDS = 2
# Different questions under way at once; each holds at most a few descriptors.
MOST_UNDER_WAY = 256
# RFC 9715's size: an answer of it crosses any link in one piece.
UDP_BYTES = 1232


class Unanswered(Exception):
    """No server gave a usable answer; says why."""


class Forwarder:
    """Questions to the node's resolvers. Make it inside a running loop."""

    def __init__(self, resolvers: Resolvers, *, timeout: float = TIMEOUT, cache: Cache | None = None) -> None:
        self._resolvers, self._timeout = resolvers, timeout
        self._cache = cache or Cache()
        self._now: Callable[[], float] = asyncio.get_running_loop().time
        self._tasks = Tasks("dns")
        self._under_way: dict[Question, asyncio.Task[Message]] = {}
        self.asked = self.failed = 0

    def known(self, question: Question) -> Message | None:
        """The answer if it can be given at once: kept, or NXDOMAIN when the node has no resolver at all."""
        kept = self._cache.get(_plain(question), self._now())
        if kept is not None:
            return kept
        if not self._resolvers.servers():
            return Message(0, dns.QR | dns.RA, question, dns.NXDOMAIN)
        return None

    async def ask(self, question: Question) -> Message:
        """A resolver's answer (its id and OPT mean nothing). SERVFAIL when none answers in time."""
        known = self.known(question)
        if known is not None:
            return known
        plain = _plain(question)
        task = self._under_way.get(plain)
        if task is None:
            if len(self._under_way) >= MOST_UNDER_WAY:
                return _servfail(question)
            task = self._tasks.start("ask", self._fetch(plain))
            self._under_way[plain] = task
            task.add_done_callback(lambda _: self._under_way.pop(plain, None))
        # Others wait for the same: one who gives up must not take it from them.
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Gives up what is under way."""
        await self._tasks.close()

    async def _fetch(self, question: Question) -> Message:
        self.asked += 1
        try:
            reply = await self._race(question)
        except Unanswered:
            self.failed += 1
            return _servfail(question)
        self._cache.put(question, reply, self._now())
        return reply

    async def _race(self, question: Question) -> Message:
        """Server after server, each when the last has failed or is late; the first good answer counts."""
        servers = self._resolvers.servers()
        attempts = [server for _ in range(ROUNDS) for server in servers]
        if not attempts:
            raise Unanswered("the node has no resolver")
        pause = self._timeout / len(attempts)
        pending: set[asyncio.Task[Message]] = set()
        end = self._now() + self._timeout
        try:
            while attempts or pending:
                if attempts:
                    server = attempts.pop(0)
                    pending.add(self._tasks.start(f"ask/{server[0]}", self._try(server, question)))
                wait = min(pause, end - self._now()) if attempts else end - self._now()
                if wait <= 0:
                    break
                done, pending = await asyncio.wait(pending, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    reply = task.result()
                    if reply.rcode in (dns.NOERROR, dns.NXDOMAIN):
                        return reply
                if not done:
                    self._resolvers.failed(server)
            raise Unanswered("no resolver answered in time")
        finally:
            for task in pending:
                task.cancel()

    async def _try(self, server: Server, question: Question) -> Message:
        """One server's answer; SERVFAIL when it cannot be asked."""
        try:
            reply = await self._udp(server, _query(question, Edns(UDP_BYTES)))
            if reply.rcode in (dns.FORMERR, dns.NOTIMP):
                # It may be too old for EDNS.
                reply = await self._udp(server, _query(question))
            if reply.flags & dns.TC:
                reply = await self._tcp(server, _query(question))
            return reply
        except (OSError, EOFError, BadMessage):
            self._resolvers.failed(server)
            return _servfail(question)

    async def _udp(self, server: Server, query: Message) -> Message:
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
        # A socket of its own, so that each question has a random port; connected, so that only the server is heard.
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            sock.connect(_sockaddr(server, family))
            sock.send(dns.build(query))
            while True:
                data = await loop.sock_recv(sock, dns.MESSAGE_BYTES)
                reply = _reply(data, query)
                if reply is not None:
                    return reply

    async def _tcp(self, server: Server, query: Message) -> Message:
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
            await loop.sock_connect(sock, _sockaddr(server, family))
            data = dns.build(query)
            await loop.sock_sendall(sock, struct.pack("!H", len(data)) + data)
            (size,) = struct.unpack("!H", await read_exactly(sock, 2))
            reply = _reply(await read_exactly(sock, size), query)
            if reply is None:
                raise EOFError("it answered something else")
            return reply


async def read_exactly(sock: socket.socket, size: int) -> bytes:
    """`size` bytes from a non-blocking stream socket. Raises EOFError, OSError."""
    loop, parts = asyncio.get_running_loop(), bytearray()
    while len(parts) < size:
        data = await loop.sock_recv(sock, size - len(parts))
        if not data:
            raise EOFError("the stream ended within a message")
        parts += data
    return bytes(parts)


def _sockaddr(server: Server, family: int) -> tuple[str, int] | tuple[str, int, int, int]:
    if family == socket.AF_INET:
        return server
    address, _, scope = server[0].partition("%")
    index = int(scope) if scope.isdecimal() else socket.if_nametoindex(scope) if scope else 0
    return (address, server[1], 0, index)


def _query(question: Question, edns: Edns | None = None) -> Message:
    return Message(secrets.randbelow(1 << 16), dns.RD, question, edns=edns)


def _reply(data: bytes, query: Message) -> Message | None:
    """The answer to a query; None for anything else, which is not even an error: anybody may send it."""
    try:
        reply = dns.parse(data)
    except BadMessage as error:
        # A server that does not know EDNS may answer with the header alone.
        if error.id == query.id and error.flags & dns.QR and len(data) == 12:
            return Message(query.id, error.flags, query.question, error.flags & 0xF)
        return None
    if reply.id != query.id or not reply.flags & dns.QR or _plain(reply.question) != _plain(query.question):
        return None
    return reply


def _plain(question: Question) -> Question:
    return replace(question, name=dns.lower(question.name))


def _servfail(question: Question) -> Message:
    return Message(0, dns.QR | dns.RA, question, dns.SERVFAIL)
