"""rtnetlink as the kernel speaks it: requests, answers, attributes; no idea of what a node's network is.

The layouts are those of rtnetlink(7) and linux/if_link.h, neighbour.h. The kernel answers within the call, so nothing
here waits. A library that knows all of netlink takes 6 MB and milliseconds for each link that it reads; a node reads
its links often.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Self

NEW_LINK, DELETE_LINK, GET_LINK, SET_LINK = 16, 17, 18, 19
NEW_ADDRESS, GET_ADDRESS = 20, 22
NEW_ROUTE, DELETE_ROUTE, GET_ROUTE = 24, 25, 26
NEW_NEIGHBOR, DELETE_NEIGHBOR, GET_NEIGHBOR = 28, 29, 30

# NLM_F_*: what a new thing may meet.
REPLACE, EXCLUSIVE, CREATE = 0x100, 0x200, 0x400
_REQUEST, _ACK, _INTERRUPTED, _DUMP = 0x1, 0x4, 0x10, 0x300
_ERROR, _DONE = 2, 3

LINK, ADDRESS, ROUTE, NEIGHBOR = "=BxHiII", "=BBBBI", "=BBBBBBBBI", "=BxxxiHBB"
"""Heads: family, type, index, flags, change; family, prefix length, flags, scope, index;

family, destination's and source's prefix length, tos, table, protocol, scope, type, flags; family, index, state, flags,
type.
"""
_NESTED, _TYPE = 0x8000, 0x3FFF
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_LINK_NEWS_GROUP = 1
_MASTER = 10
_NEWS_SIZE = 1 << 18
_ANSWER_SIZE = 1 << 16
# A dump that the kernel changed under our eyes is read again, so often.
_READS = 5

Attributes = Mapping[int, bytes]
Found = list[tuple[tuple[int, ...], Attributes]]


class NetlinkError(Exception):
    """The kernel refused; `code` is an errno."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(code, os.strerror(code))


def attribute(number: int, value: bytes) -> bytes:
    """One attribute as it travels."""
    size = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(size, number) + value + bytes(-size % 4)


def nested(number: int, *values: bytes) -> bytes:
    """An attribute that holds others."""
    return attribute(number | _NESTED, b"".join(values))


def attributes(data: bytes) -> dict[int, bytes]:
    """Number -> value; of several with one number the last."""
    found: dict[int, bytes] = {}
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        size, number = _ATTRIBUTE.unpack_from(data, at)
        if size < _ATTRIBUTE.size:
            break
        found[number & _TYPE] = data[at + _ATTRIBUTE.size : at + size]
        at += (size + 3) & ~3
    return found


def u32(value: int) -> bytes:
    return value.to_bytes(4, "little" if struct.pack("=H", 1)[0] else "big")


def number(value: bytes | None) -> int:
    """A number in this machine's byte order; 0 where there is none."""
    return int.from_bytes(value or b"", "little" if struct.pack("=H", 1)[0] else "big")


def text(value: bytes | None) -> str:
    """A name; empty where there is none."""
    return (value or b"").rstrip(b"\0").decode(errors="replace")


class Netlink:
    """A socket to the kernel, for a `with` block. Methods raise NetlinkError, OSError."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._socket.bind((0, 0))
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def dump(self, kind: int, head: str, *fields: int, filter: bytes = b"", request: bytes = b"") -> Found:
        """Everything of a kind: each with the fields of its head (laid out as `head`) and its attributes.

        It is asked for by such a head and `filter`, or by `request` where the two have not the same layout.
        """
        size = struct.calcsize(head)
        for _ in range(_READS):
            whole = True
            found: Found = []
            self._send(kind, _DUMP, request or struct.pack(head, *fields) + filter)
            for flags, body in self._answers():
                whole = whole and not flags & _INTERRUPTED
                found.append((struct.unpack_from(head, body), attributes(body[(size + 3) & ~3 :])))
            if whole:
                return found
        raise NetlinkError(errno.EINTR)

    def ask(self, kind: int, flags: int, head: bytes, *values: bytes) -> None:
        """A change; returns when it is made."""
        self._send(kind, _ACK | flags, head + b"".join(values))
        for _ in self._answers():
            pass

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence += 1
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | flags, self._sequence, 0) + body)

    def _answers(self) -> Iterator[tuple[int, bytes]]:
        while True:
            for kind, flags, sequence, body in _messages(self._socket.recv(_ANSWER_SIZE)):
                if sequence != self._sequence:
                    continue
                if kind in (_ERROR, _DONE):
                    (code,) = struct.unpack_from("=i", body) if len(body) >= 4 else (0,)
                    if code:
                        raise NetlinkError(-code)
                    return
                yield flags, body


def _messages(data: bytes) -> Iterable[tuple[int, int, int, bytes]]:
    """Kind, flags, sequence and what follows the header."""
    at = 0
    while at + _HEADER.size <= len(data):
        size, kind, flags, sequence, _ = _HEADER.unpack_from(data, at)
        if size < _HEADER.size:
            return
        yield kind, flags, sequence, data[at + _HEADER.size : at + size]
        at += (size + 3) & ~3


async def link_news() -> AsyncIterator[tuple[bool, int, bytes]]:
    """For ever: whether a link is there, its index, and what `master_of` reads.

    What comes too quickly to be read is left out. Raises OSError.
    """
    # One room for all messages: a new one of this size comes from the kernel each time, and goes back.
    room = memoryview(bytearray(_NEWS_SIZE))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as news:
        news.setblocking(False)
        news.bind((0, _LINK_NEWS_GROUP))
        while True:
            try:
                size = await asyncio.get_running_loop().sock_recv_into(news, room)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                continue
            for kind, _, _, body in _messages(bytes(room[:size])):
                if kind in (NEW_LINK, DELETE_LINK):
                    yield kind == NEW_LINK, struct.unpack_from(LINK, body)[2], body[16:]


def master_of(link: bytes) -> int:
    """The index of what a link is a port of (0: of nothing), from its attributes."""
    return number(attributes(link).get(_MASTER))
