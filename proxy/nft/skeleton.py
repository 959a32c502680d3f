"""What is in the kernel's table whatever the services are: its maps, its hooks and the rules in them; pure.

One service port costs one rule, and elements in maps that all share. No set is a service's own, and no rule of a
service looks into a shared one: the kernel walks all sets of a table for each it makes, and all elements of a map for
each rule that comes to use it, so that ten thousand services would take minutes. Nor does a service's rule have a
verdict: with each such rule the kernel looks for loops through all chains. And sixteen share a chain, for the kernel
walks all chains with each transaction. A service's rule makes the connection's mark, which the place has made its
number, the number of an endpoint, and one rule for all translates that. Until then the packet's priority keeps what
others had in the mark. It is free for that: a packet that is forwarded gets it only later, and one of the node's own
processes gets its 0 back.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Network

from common.routing import NodeInfo
from proxy.nft import expressions as x
from proxy.nft import wire
from proxy.nft.wire import Message

# The bit of a connection's mark that says a service's address was translated; node_agent.network.iptables knows it too.
MARK = 0x20000000
# Address, protocol, port -> number of a service port.
SERVICES = "services"
# The same places with a counter each: bytes to the endpoints, bytes back.
SENT, RECEIVED = "sent", "received"
# Number of a service port and slot -> endpoint. Number of a service port, client -> number with slot, for a time.
ENDPOINTS, CLIENTS = "endpoints", "clients"
# Number of the first service port of a chain -> that chain of rules. Number of a service port -> the rules that keep
# its clients.
TURNS, STICKY = "turns", "sticky"
# The lower bits of a number are the slot, the upper ones the service port.
SLOT_BITS = 14
# How many numbers, in powers of two, have their rules in one chain: each of its packets passes them all.
SHARED_BITS = 4
# Address twice: a pod that may reach itself through a service.
HAIRPIN = "hairpin"
SERVE, REFUSE, TRANSLATE = "serve", "refuse", "translate"
MOST_CLIENTS = 1 << 18

_ADDRESS, _PROTOCOL, _PORT, _NUMBER, _VERDICT = 7, 12, 13, 19, 0xFFFFFF00
_PLACE, _PLACE_SIZE = (_ADDRESS, _PROTOCOL, _PORT), 12
_MAP, _TIMEOUT, _DYNAMIC = 8, 16, 32
_PREROUTING, _INPUT, _FORWARD, OUTPUT, _POSTROUTING = range(5)
# Before the engine's own rules at the same hooks (-100 and 100).
_EARLY_DNAT, _EARLY_SNAT = -110, 90
_NEW_TABLE, _DELETE_TABLE, _NEW_CHAIN, _NEW_RULE, _NEW_SET = 0, 2, 3, 6, 9


@dataclass(frozen=True)
class Ground:
    """What the rules need to know of this node. `bridge_filter`: its bridges hand what they forward to the IP hooks,
    so that answers between two pods of one bridge are translated back."""

    table: str
    pod_cidr: str
    bridge_filter: bool = False
    service_cidr: str = ""


def ground(node: NodeInfo, *, bridge_filter: bool) -> Ground:
    """The table is named after the node: several nodes may share a network namespace."""
    name = "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in node.name)
    return Ground(f"sampan_{name}" if name else "sampan", node.pod_cidr, bridge_filter, node.service_cidr)


def remove_table(table: str) -> list[Message]:
    """Works whether it is there or not: what is made twice is still one."""
    body = wire.text(1, table)
    return [Message(_NEW_TABLE, body, wire.CREATE, "table"), Message(_DELETE_TABLE, body, 0, "table")]


def new_table(table: str) -> Message:
    """A table with nothing in it."""
    return Message(_NEW_TABLE, wire.text(1, table), wire.CREATE, "table")


def make_table(on: Ground) -> list[Message]:
    """The table without any service."""
    messages = [new_table(on.table), *_sets(on.table)]
    refuse = [x.meta(0, x.META_L4PROTO) + x.compare(0, x.EQUAL, b"\x06") + x.reset(), x.unreachable_port()]
    for name, bodies in ((REFUSE, refuse), (TRANSLATE, translating()), (SERVE, serving())):
        messages += [chain(on.table, name), *(rule(on.table, name, body) for body in bodies)]
    number = place_of_packet() + x.lookup(SERVICES, 0, into=4)
    keep = x.conntrack(5, x.CT_MARK) + x.set_priority(5) + x.set_mark(4)
    # Whatever is under way without having been translated (untracked.py) stays with whom it is.
    dispatch = (x.midstream() + x.verdict(x.RETURN), number + keep + x.verdict(x.GOTO, SERVE))
    others = x.unmarked(MARK) + x.verdict(x.RETURN)
    loopback = x.meta(0, x.META_IIFNAME) + x.compare(0, x.EQUAL, b"lo\0") + x.verdict(x.RETURN)
    count = (others, _counted(0, SENT), _counted(1, RECEIVED))
    hooks = (
        ("prerouting", "nat", _PREROUTING, _EARLY_DNAT, dispatch),
        ("output", "nat", OUTPUT, _EARLY_DNAT, dispatch),
        ("postrouting", "nat", _POSTROUTING, _EARLY_SNAT, (others, *_masquerading(on))),
        ("count-forward", "filter", _FORWARD, 0, count),
        # What a node's process sends to itself passes output and input: counted once.
        ("count-input", "filter", _INPUT, 0, (count[0], loopback, *count[1:])),
        ("count-output", "filter", OUTPUT, 0, count),
    )
    for name, kind, hook, priority, rules in hooks:
        messages.append(base_chain(on.table, name, kind, hook, priority))
        messages += [rule(on.table, name, body) for body in rules]
    return messages


def place_of_packet(*, origin: bool = False) -> bytes:
    """Registers 0-2: where a packet wants to go (`origin`: where it comes from), as `services` has it."""
    address = x.source(0) if origin else x.destination(0)
    return address + x.meta(1, x.META_L4PROTO) + x.payload(2, 2, 0 if origin else 2, 2)


def serving() -> list[bytes]:
    """The rules for a packet whose connection is marked with a service port's number: that port's own rule gives it
    an endpoint's, its client is perhaps kept, its address translated."""
    number = x.conntrack(0, x.CT_MARK)
    turn = number + without_bits(SLOT_BITS + SHARED_BITS) + x.verdict_map(TURNS, 0)
    stick = number + first_slot() + x.verdict_map(STICKY, 0)
    return [turn, stick, x.verdict(x.GOTO, TRANSLATE)]


def translating() -> list[bytes]:
    """The rules that send a packet to the endpoint that the connection's mark names, and refuse it without one.

    The second is for the moment in which a packet sees the rules of one transaction and the elements of another: the
    slot 0 is there in both.
    """
    number = x.conntrack(0, x.CT_MARK)
    found = x.lookup(ENDPOINTS, 0, into=5) + restored(MARK) + x.destination_nat(5, 6)
    return [number + found, number + first_slot() + found, restored(0) + x.verdict(x.GOTO, REFUSE)]


def first_slot() -> bytes:
    """The number in register 0 becomes that of its service port."""
    return without_bits(SLOT_BITS)


def without_bits(count: int) -> bytes:
    """The lower bits of register 0 become 0."""
    return x.bitwise(0, struct.pack("=I", ~((1 << count) - 1) & 0xFFFFFFFF), bytes(4))


def restored(more: int) -> bytes:
    """The connection's mark is again what it was, with these bits more. Uses registers 14 and 15."""
    kept = x.meta(15, x.META_PRIORITY) + x.with_bits(15, more) + x.set_mark(15)
    return kept + x.immediate(14, bytes(4)) + x.set_priority(14)


def shared(id: int) -> int:
    """The least number whose rule is in the same chain."""
    return id >> SHARED_BITS << SHARED_BITS


def sticky_name(seconds: int) -> str:
    return f"sticky-{seconds}"


def sticking(seconds: int) -> list[bytes]:
    """The rules that keep a client at the endpoint whose number it has, else give it the one in the connection's mark.

    Asked again after remembering: another packet of this client may have been quicker.
    """
    client = x.conntrack(0, x.CT_MARK) + first_slot() + x.source(1)
    known = client + x.lookup(CLIENTS, 0, into=2) + x.set_mark(2)
    remember = client + x.conntrack(2, x.CT_MARK) + x.dynamic(CLIENTS, x.UPDATED, 0, 2, seconds)
    return [known, remember, known, x.verdict(x.GOTO, TRANSLATE)]


def _counted(direction: int, name: str) -> bytes:
    return (
        x.conntrack(0, x.CT_DIRECTION)
        + x.compare(0, x.EQUAL, bytes((direction,)))
        + x.original(0, x.CT_DESTINATION)
        + x.meta(1, x.META_L4PROTO)
        + x.original(2, x.CT_DESTINATION_PORT)
        + x.lookup(name, 0)
    )


def _masquerading(on: Ground) -> list[bytes]:
    """Only where the answer would not come back this way, or would come from the wrong address.

    A process of this node speaks from the service's own address, which every node has: another is needed. A client
    outside keeps its address when the pod is here, for the pod's answers pass this node anyway. A pod that talks to a
    pod beside it would get the answer over the bridge, past the translation, unless the bridge calls our hooks.

    Through a tunnel the node speaks as its pods' gateway: the device has no address, and with any other of the node's
    the answers would come back past the tunnel, from a pod's address that no router between knows.
    """
    to_loopback = x.meta(0, x.META_OIFNAME) + x.compare(0, x.EQUAL, b"lo\0") + x.verdict(x.RETURN)
    if not on.pod_cidr:
        return [to_loopback, x.masquerade()]
    tunnelled = x.meta(0, x.META_OIFKIND) + x.compare(0, x.EQUAL, _kind(b"vxlan"))
    as_gateway = tunnelled + x.source_nat(str(IPv4Network(on.pod_cidr, strict=False)[1]))
    local = x.source_is_local()
    found = [to_loopback, local + as_gateway, local + x.masquerade()]
    itself = x.source(0) + x.destination(1) + x.lookup(HAIRPIN, 0) + x.masquerade()
    beside = x.source(0) + x.within(0, x.EQUAL, on.pod_cidr) + x.destination(0) + x.within(0, x.EQUAL, on.pod_cidr)
    if on.bridge_filter:
        beside += x.meta(0, x.META_OIFKIND) + x.compare(0, x.UNEQUAL, _kind(b"bridge"))
    away = x.source(0) + x.within(0, x.UNEQUAL, on.pod_cidr) + x.destination(0) + x.within(0, x.UNEQUAL, on.pod_cidr)
    return [*found, itself, beside + x.masquerade(), away + as_gateway, away + x.masquerade()]


def _kind(name: bytes) -> bytes:
    """A sort of device, as the kernel compares it."""
    return name.ljust(16, b"\0")


def _sets(table: str) -> list[Message]:
    place, place_size = _PLACE, _PLACE_SIZE
    endpoint = (_ADDRESS, _PORT)
    counted = wire.nest(17, x.counter())
    size = wire.nest(9, wire.u32(1, MOST_CLIENTS))
    return [
        _set(table, 1, SERVICES, place, place_size, _MAP, _data(_NUMBER, 4), counted),
        _set(table, 2, SENT, place, place_size, 0, counted),
        _set(table, 3, RECEIVED, place, place_size, 0, counted),
        _set(table, 4, ENDPOINTS, (_NUMBER,), 4, _MAP, _data(_concatenated(endpoint), 8)),
        _set(table, 5, CLIENTS, (_NUMBER, _ADDRESS), 8, _MAP | _TIMEOUT | _DYNAMIC, _data(_NUMBER, 4), size),
        _set(table, 6, HAIRPIN, (_ADDRESS, _ADDRESS), 8, 0),
        _set(table, 7, TURNS, (_NUMBER,), 4, _MAP, _data(_VERDICT, 0)),
        _set(table, 8, STICKY, (_NUMBER,), 4, _MAP, _data(_VERDICT, 0)),
    ]


def set_of_places(table: str, number: int, name: str, *, passing: bool = False) -> Message:
    """A set of addresses with protocol and port; `passing`: its elements may have a time-out."""
    return _set(table, number, name, _PLACE, _PLACE_SIZE, _TIMEOUT if passing else 0)


def _concatenated(types: tuple[int, ...]) -> int:
    """How `nft` packs several types into one number, so that it can list our sets."""
    packed = 0
    for number in types:
        packed = packed << 6 | number
    return packed


def _data(kind: int, size: int) -> bytes:
    return wire.u32(6, kind) + (wire.u32(7, size) if size else b"")


def _set(table: str, number: int, name: str, key: tuple[int, ...], size: int, flags: int, *more: bytes) -> Message:
    body = [
        wire.text(1, table),
        wire.text(2, name),
        wire.u32(3, flags),
        wire.u32(4, _concatenated(key)),
        wire.u32(5, size),
        wire.u32(10, number),
        *more,
    ]
    return Message(_NEW_SET, b"".join(body), wire.CREATE, f"set {name}")


def chain(table: str, name: str) -> Message:
    return Message(_NEW_CHAIN, wire.text(1, table) + wire.text(3, name), wire.CREATE, f"chain {name}")


def base_chain(table: str, name: str, kind: str, hook: int, priority: int) -> Message:
    at = wire.nest(4, wire.u32(1, hook), wire.u32(2, priority))
    body = wire.text(1, table) + wire.text(3, name) + at + wire.u32(5, x.ACCEPT) + wire.text(7, kind)
    return Message(_NEW_CHAIN, body, wire.CREATE, f"chain {name}")


def rule(table: str, name: str, body: bytes, more: bytes = b"", flags: int = wire.CREATE | wire.APPEND) -> Message:
    """Appends a rule to a chain; `body` is its expressions, `more` what else is said of it."""
    head = wire.text(1, table) + wire.text(2, name)
    return Message(_NEW_RULE, head + wire.nest(4, body) + more, flags, f"chain {name}")
