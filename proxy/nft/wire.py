"""Netlink's bytes for nf_tables: attributes, messages, batches, and what the kernel answers; pure.

Numbers are those of linux/netlink.h, netfilter/nfnetlink.h and nf_tables.h: the kernel's stable interface.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

NESTED = 0x8000
REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
REPLACE, CREATE, EXCLUSIVE, APPEND = 0x100, 0x400, 0x200, 0x800
NFTABLES, CONNTRACK = 10, 1
IPV4 = 2
ERROR, DONE = 2, 3
_BATCH_BEGIN, _BATCH_END = 16, 17
_HEADER = struct.Struct("=IHHII")
_GENERAL = struct.Struct(">BBH")
_ATTRIBUTE = struct.Struct("=HH")


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded to four bytes. Its own length has 16 bits: ValueError beyond them."""
    size = len(payload) + 4
    if size > 0xFFFF:
        raise ValueError(f"attribute {kind} of {size} bytes: must be at most 65535")
    return _ATTRIBUTE.pack(size, kind) + payload + b"\0" * (-size % 4)


def nest(kind: int, *parts: bytes) -> bytes:
    """Attributes inside an attribute."""
    return attribute(kind | NESTED, b"".join(parts))


def u8(kind: int, value: int) -> bytes:
    return attribute(kind, bytes((value,)))


def u32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">I", value & 0xFFFFFFFF))


def u64(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">Q", value))


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


@dataclass(frozen=True)
class Message:
    """One request: `kind` within its subsystem, the attributes, and what it is about, for errors."""

    kind: int
    body: bytes
    flags: int = 0
    about: str = ""


def request(subsystem: int, message: Message, sequence: int = 1) -> bytes:
    """A message by itself."""
    return _pack(subsystem << 8 | message.kind, REQUEST | message.flags, sequence, IPV4, 0, message.body)


def batch(messages: Iterable[Message]) -> bytes:
    """One nf_tables transaction: the kernel does all of it or nothing. The message at index i has sequence i + 1."""
    parts = [_pack(_BATCH_BEGIN, REQUEST, 0, 0, NFTABLES, b"")]
    count = 0
    for count, message in enumerate(messages, start=1):
        # One acknowledgement is enough to hear that the whole was done; errors come in any case.
        flags = REQUEST | message.flags | (ACK if count == 1 else 0)
        parts.append(_pack(NFTABLES << 8 | message.kind, flags, count, IPV4, 0, message.body))
    parts.append(_pack(_BATCH_END, REQUEST, count + 1, 0, NFTABLES, b""))
    return b"".join(parts)


def _pack(kind: int, flags: int, sequence: int, family: int, resource: int, body: bytes) -> bytes:
    return _HEADER.pack(20 + len(body), kind, flags, sequence, 0) + _GENERAL.pack(family, 0, resource) + body


@dataclass(frozen=True)
class Answer:
    """One message from the kernel. `code`: 0 or an errno, for ERROR; `body`: attributes, for the rest."""

    kind: int
    sequence: int
    code: int
    body: bytes


def answers(data: bytes) -> Iterator[Answer]:
    """The messages of one datagram."""
    at = 0
    while at + 16 <= len(data):
        size, kind, _, sequence, _ = _HEADER.unpack_from(data, at)
        if kind in (ERROR, DONE):
            code = -struct.unpack_from("=i", data, at + 16)[0] if size >= 20 else 0
            yield Answer(kind, sequence, code, b"")
        else:
            yield Answer(kind, sequence, 0, data[at + 20 : at + size])
        at += (size + 3) & ~3


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and payload of each attribute; the kind without its flag bits."""
    at = 0
    while at + 4 <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, at)
        if size < 4:
            raise ValueError(f"attribute of {size} bytes: must be at least 4")
        yield kind & 0x3FFF, data[at + 4 : at + size]
        at += (size + 3) & ~3
