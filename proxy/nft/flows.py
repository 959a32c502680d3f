"""UDP in the kernel has no end: flows that conntrack sends to an endpoint which is gone must be forgotten; pure.

TCP connections to removed endpoints are left alone, as in user space: they live until done.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address
from typing import NamedTuple

from proxy.nft import wire
from proxy.nft.slots import Target
from proxy.nft.wire import Message
from proxy.plan import Place

_GET, _DELETE = 1, 2
_ORIGINAL, _REPLY, _MARK, _ZONE, _MASK = 1, 2, 8, 18, 21
_UDP = 17


class Flow(NamedTuple):
    """Where a flow's first packet went, where its answers come from, and the original tuple in the kernel's words."""

    place: Place
    target: Target
    original: bytes
    zone: bytes


def ask() -> Message:
    """The request for every flow of IPv4. Not filtered by mark: a flow that began before its service has none."""
    return Message(_GET, b"", 0, "flows")


def udp(bodies: Iterable[bytes]) -> Iterator[Flow]:
    """The UDP flows in the answers to `ask`."""
    for body in bodies:
        found = dict(wire.attributes(body))
        there, back = _tuple(found.get(_ORIGINAL, b"")), _tuple(found.get(_REPLY, b""))
        if there is None or back is None or there[2] != _UDP:
            continue
        place = Place(there[1], there[4], "UDP")
        yield Flow(place, Target(back[0], back[3]), found[_ORIGINAL], found.get(_ZONE, b""))


def _tuple(body: bytes) -> tuple[str, str, int, int, int] | None:
    """Source, destination, protocol, source port, destination port."""
    found = dict(wire.attributes(body))
    addresses, protocol = dict(wire.attributes(found.get(1, b""))), dict(wire.attributes(found.get(2, b"")))
    if not {1, 2} <= addresses.keys() or not {1, 2, 3} <= protocol.keys():
        return None
    ports = (struct.unpack(">H", protocol[kind])[0] for kind in (2, 3))
    source, destination = (str(IPv4Address(addresses[kind])) for kind in (1, 2))
    return source, destination, protocol[1][0], *ports


def stale(flows: Iterable[Flow], served: Callable[[Place], frozenset[Target] | None]) -> list[Message]:
    """The messages that end flows of our places to anything but an endpoint. `served`: a place's endpoints, None for a
    place that is not ours."""
    messages = []
    for flow in flows:
        targets = served(flow.place)
        if targets is not None and flow.target not in targets:
            body = wire.attribute(_ORIGINAL | wire.NESTED, flow.original)
            if flow.zone:
                body += wire.attribute(_ZONE, flow.zone)
            messages.append(Message(_DELETE, body, 0, "flow"))
    return messages
