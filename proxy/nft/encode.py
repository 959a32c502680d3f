"""Steps as nf_tables messages; pure."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address

from proxy.nft import expressions as x
from proxy.nft import handles as h
from proxy.nft import skeleton as s
from proxy.nft import steps as r
from proxy.nft import wire
from proxy.nft.slots import Target
from proxy.nft.wire import Message
from proxy.plan import Place

_DELETE_CHAIN, _DELETE_RULE, _NEW_ELEMENTS, _DELETE_ELEMENTS = 5, 8, 12, 14
# An attribute's length has 16 bits, an element of ours at most 200 bytes.
_ELEMENTS_A_MESSAGE = 300
_PROTOCOLS = {"TCP": 6, "UDP": 17}
_NAMES = {number: name for name, number in _PROTOCOLS.items()}
_PLACE = struct.Struct(">4sB3xH2x")
_NO_RULES: Mapping[str, int] = {}


def encode(table: str, steps: Iterable[r.Step], rules: Mapping[str, int] = _NO_RULES) -> list[Message]:
    """The messages of one transaction, without the batch around them.

    `rules`: the kernel's numbers of the rules that are replaced or removed, by name. KeyError for one without.
    """
    messages: list[Message] = []
    for step in steps:
        messages.extend(_step(table, step, rules))
    return messages


def touched(steps: Iterable[r.Step]) -> dict[str, str]:
    """The rules, by name, whose numbers `encode` needs, and their chains."""
    found = {}
    for step in steps:
        match step:
            case r.ChangeRule(number, name) | r.RemoveRule(number, name):
                found[name] = turns_name(s.shared(number))
    return found


def _step(table: str, step: r.Step, rules: Mapping[str, int]) -> Iterator[Message]:
    match step:
        case r.MakeTurns(first):
            yield s.chain(table, turns_name(first))
            to = x.verdict_value(x.JUMP, turns_name(first), 2)
            yield from _elements(_NEW_ELEMENTS, table, s.TURNS, [_element(_number(first, 0), to)])
        case r.RemoveTurns(first):
            yield from _elements(_DELETE_ELEMENTS, table, s.TURNS, [_element(_number(first, 0))])
            yield from _without_chain(table, turns_name(first))
        case r.AddRule(number, name, count):
            yield s.rule(table, turns_name(s.shared(number)), port_rule(number, count), h.comment(name))
        case r.ChangeRule(number, name, count):
            more = h.comment(name) + h.handle(rules[name])
            yield s.rule(table, turns_name(s.shared(number)), port_rule(number, count), more, wire.REPLACE)
        case r.RemoveRule(number, name):
            yield _chain_message(_DELETE_RULE, table, turns_name(s.shared(number)), 2, h.handle(rules[name]))
        case r.MakeSticky(seconds):
            name = s.sticky_name(seconds)
            yield s.chain(table, name)
            for body in s.sticking(seconds):
                yield s.rule(table, name, body)
        case r.RemoveSticky(seconds):
            yield from _without_chain(table, s.sticky_name(seconds))
        case r.Stick(number, seconds):
            to = x.verdict_value(x.GOTO, s.sticky_name(seconds), 2)
            yield from _elements(_NEW_ELEMENTS, table, s.STICKY, [_element(_number(number, 0), to)])
        case r.Unstick(number):
            yield from _elements(_DELETE_ELEMENTS, table, s.STICKY, [_element(_number(number, 0))])
        case r.PutSlots(number, slots):
            pairs = [(_number(number, slot), _target(target)) for slot, target in slots]
            yield from _elements(_NEW_ELEMENTS, table, s.ENDPOINTS, [_element(k, x.value(v, 2)) for k, v in pairs])
        case r.DropSlots(number, gone):
            elements = [_element(_number(number, slot)) for slot in gone]
            yield from _elements(_DELETE_ELEMENTS, table, s.ENDPOINTS, elements)
        case r.AllowHairpin(ips):
            yield from _elements(_NEW_ELEMENTS, table, s.HAIRPIN, [_element(IPv4Address(ip).packed * 2) for ip in ips])
        case r.DenyHairpin(ips):
            yield from _elements(
                _DELETE_ELEMENTS, table, s.HAIRPIN, [_element(IPv4Address(ip).packed * 2) for ip in ips]
            )
        case r.Lead(places):
            leads = [_element(pack_place(place), x.value(_number(number, 0), 2)) for place, number in places]
            yield from _elements(_NEW_ELEMENTS, table, s.SERVICES, leads)
            for name in (s.SENT, s.RECEIVED):
                yield from plain_elements(table, name, [place for place, _ in places])
        case r.Unlead(places):
            for name in (s.SERVICES, s.SENT, s.RECEIVED):
                yield from without_elements(table, name, places)


def port_rule(number: int, count: int) -> bytes:
    """The rule of one service port: the endpoints in turn, or 0, which is no endpoint's number."""
    its_own = x.conntrack(0, x.CT_MARK) + x.compare(0, x.EQUAL, _number(number, 0))
    return its_own + x.turns(0, number << s.SLOT_BITS if count else 0, count or 1) + x.set_mark(0)


def turns_name(first: int) -> str:
    """The chain of the rules of the service ports from this number on."""
    return f"turns-{first}"


def pack_place(place: Place) -> bytes:
    """Every field takes whole registers."""
    return _PLACE.pack(IPv4Address(place.address).packed, _PROTOCOLS[place.protocol], place.port)


def unpack_place(data: bytes) -> Place:
    """Raises KeyError for a protocol that is not ours, struct.error for another length."""
    address, protocol, port = _PLACE.unpack(data)
    return Place(str(IPv4Address(address)), port, _NAMES[protocol])


def _number(number: int, slot: int) -> bytes:
    return struct.pack("=I", number << s.SLOT_BITS | slot)


def _target(target: Target) -> bytes:
    return IPv4Address(target.ip).packed + struct.pack(">H2x", target.port)


def _element(key: bytes, data: bytes = b"") -> bytes:
    return wire.nest(1, x.value(key, 1), data)


def plain_elements(table: str, name: str, places: Iterable[Place], *, seconds: int = 0) -> Iterator[Message]:
    """Places for a set without values; `seconds`: how long each stays, 0: until it is taken out."""
    more = wire.u64(4, seconds * 1000) if seconds else b""
    yield from _elements(_NEW_ELEMENTS, table, name, [_element(pack_place(place), more) for place in places])


def without_elements(table: str, name: str, places: Iterable[Place]) -> Iterator[Message]:
    """Takes places out of a set. The transaction fails when one of them is not in it."""
    yield from _elements(_DELETE_ELEMENTS, table, name, [_element(pack_place(place)) for place in places])


def _elements(kind: int, table: str, name: str, elements: Sequence[bytes]) -> Iterator[Message]:
    flags = wire.CREATE if kind == _NEW_ELEMENTS else 0
    for at in range(0, len(elements), _ELEMENTS_A_MESSAGE):
        some = wire.nest(3, *elements[at : at + _ELEMENTS_A_MESSAGE])
        yield Message(kind, wire.text(1, table) + wire.text(2, name) + some, flags, f"elements of {name}")


def _without_chain(table: str, name: str) -> Iterator[Message]:
    yield _chain_message(_DELETE_RULE, table, name, 2)
    yield _chain_message(_DELETE_CHAIN, table, name, 3)


def _chain_message(kind: int, table: str, name: str, attribute: int, more: bytes = b"") -> Message:
    return Message(kind, wire.text(1, table) + wire.text(attribute, name) + more, 0, f"chain {name}")
