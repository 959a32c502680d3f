"""The kernel's own numbers of our rules, by which alone a rule among others is replaced or removed; pure."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from proxy.nft import wire
from proxy.nft.wire import Message

_GET_RULES = 7
_CHAIN, _HANDLE, _USER_DATA = 2, 3, 7
_COMMENT = 0


def comment(text: str) -> bytes:
    """What `nft list` shows beside a rule; at most 127 characters of ASCII."""
    value = text.encode() + b"\0"
    return wire.attribute(_USER_DATA, bytes((_COMMENT, len(value))) + value)


def handle(number: int) -> bytes:
    return wire.u64(_HANDLE, number)


def ask(table: str, chain: str) -> Message:
    """The request for all rules of a chain."""
    return Message(_GET_RULES, wire.text(1, table) + wire.text(_CHAIN, chain), 0, f"rules of {chain}")


def read(bodies: Iterable[bytes]) -> Iterator[tuple[str, int]]:
    """Comment and number of each rule that has a comment, from the answers to `ask`."""
    for body in bodies:
        found = dict(wire.attributes(body))
        data = found.get(_USER_DATA, b"")
        if data[:1] == bytes((_COMMENT,)) and len(data) == 2 + data[1]:
            yield data[2:-1].decode(), struct.unpack(">Q", found[_HANDLE])[0]
