"""What the kernel counted, from its dumps of our sets; pure."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from proxy.nft import skeleton, wire
from proxy.nft.encode import unpack_place
from proxy.nft.wire import Message
from proxy.plan import Place, PortKey

_GET_ELEMENTS = 13
_KEY, _DATA, _EXPRESSION, _EXPRESSIONS = 1, 2, 7, 11


class Element(NamedTuple):
    """An element of a set as the kernel gives it; packets and bytes where it counts."""

    key: bytes
    data: bytes
    packets: int
    bytes: int


@dataclass
class PortCounters:
    """One service port since its places were made: connections, bytes to the endpoints and back with headers."""

    key: PortKey
    connections: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


def ask(table: str, name: str) -> Message:
    """The request for all elements of a set."""
    return Message(_GET_ELEMENTS, wire.text(1, table) + wire.text(2, name), 0, f"elements of {name}")


def elements(bodies: Iterable[bytes]) -> Iterator[Element]:
    """The elements in the answers to `ask`."""
    for body in bodies:
        for kind, part in wire.attributes(body):
            if kind == 3:
                for _, element in wire.attributes(part):
                    yield _element(element)


def _element(body: bytes) -> Element:
    found = dict(wire.attributes(body))
    packets = size = 0
    expression = found.get(_EXPRESSION)
    if expression is None and _EXPRESSIONS in found:
        expression = next((part for _, part in wire.attributes(found[_EXPRESSIONS])), None)
    if expression is not None:
        inside = dict(wire.attributes(dict(wire.attributes(expression)).get(2, b"")))
        size, packets = (struct.unpack(">Q", inside.get(kind, bytes(8)))[0] for kind in (1, 2))
    return Element(_value(found.get(_KEY, b"")), _value(found.get(_DATA, b"")), packets, size)


def _value(body: bytes) -> bytes:
    return dict(wire.attributes(body)).get(1, b"")


def summed(dumps: Mapping[str, Iterable[Element]], places: Mapping[Place, PortKey]) -> list[PortCounters]:
    """Counters by service port, all its places together; in the order of keys."""
    found = {key: PortCounters(key) for key in places.values()}
    for name, dump in dumps.items():
        for element in dump:
            counters = found.get(places[place]) if (place := unpack_place(element.key)) in places else None
            if counters is None:
                continue
            if name == skeleton.SERVICES:
                counters.connections += element.packets
            elif name == skeleton.SENT:
                counters.bytes_in += element.bytes
            else:
                counters.bytes_out += element.bytes
    return [found[key] for key in sorted(found)]
