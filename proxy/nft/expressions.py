"""nf_tables' expressions, the words that rules are written in, as bytes; pure.

Registers are the sixteen of four bytes each: `register` 0-15. A value longer than that goes on into the next ones.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv4Network

from proxy.nft import wire

ACCEPT, JUMP, GOTO, RETURN = 1, -3, -4, -5
EQUAL, UNEQUAL = 0, 1
# Keys of `meta` and `ct` (enum nft_meta_keys, nft_ct_keys).
META_PRIORITY, META_IIFNAME, META_OIFNAME, META_L4PROTO, META_OIFKIND = 2, 6, 7, 16, 27
CT_DIRECTION, CT_MARK, CT_DESTINATION, CT_DESTINATION_PORT = 1, 3, 20, 12
ADDED, UPDATED, DELETED = 0, 1, 2
_LOCAL = 2  # RTN_LOCAL
_FULLY_RANDOM = 1 << 4  # NF_NAT_RANGE_PROTO_RANDOM_FULLY
_INVERTED = 1  # NFT_LOOKUP_F_INV
_SYN = 0x02
_FIRST_REGISTER = 8


def _expression(name: str, *parts: bytes) -> bytes:
    return wire.nest(1, wire.text(1, name), wire.nest(2, *parts))


def _register(kind: int, number: int) -> bytes:
    return wire.u32(kind, _FIRST_REGISTER + number)


def value(data: bytes, kind: int = 1) -> bytes:
    """A plain value where one is wanted; `kind`: the attribute that holds it."""
    return wire.nest(kind, wire.attribute(1, data))


def verdict_value(code: int, chain: str, kind: int) -> bytes:
    """A verdict where a value is wanted, as in a map's element."""
    parts = [wire.u32(1, code)] + ([wire.text(2, chain)] if chain else [])
    return wire.nest(kind, wire.nest(2, *parts))


def verdict(code: int, chain: str = "") -> bytes:
    return _expression("immediate", wire.u32(1, 0), verdict_value(code, chain, 2))


def immediate(register: int, data: bytes) -> bytes:
    return _expression("immediate", _register(1, register), value(data, 2))


def payload(register: int, base: int, offset: int, size: int) -> bytes:
    """`base`: 1 the IP header, 2 the transport header."""
    return _expression("payload", _register(1, register), wire.u32(2, base), wire.u32(3, offset), wire.u32(4, size))


def source(register: int) -> bytes:
    return payload(register, 1, 12, 4)


def destination(register: int) -> bytes:
    return payload(register, 1, 16, 4)


def meta(register: int, key: int) -> bytes:
    return _expression("meta", _register(1, register), wire.u32(2, key))


def conntrack(register: int, key: int) -> bytes:
    return _expression("ct", _register(1, register), wire.u32(2, key))


def original(register: int, key: int) -> bytes:
    """What the connection's first packet said before anything was translated."""
    return _expression("ct", _register(1, register), wire.u32(2, key), wire.u8(3, 0))


def bitwise(register: int, mask: bytes, xor: bytes) -> bytes:
    return _expression(
        "bitwise",
        _register(1, register),
        _register(2, register),
        wire.u32(3, len(mask)),
        value(mask, 4),
        value(xor, 5),
    )


def compare(register: int, operation: int, data: bytes) -> bytes:
    """The rule ends here unless it holds."""
    return _expression("cmp", _register(1, register), wire.u32(2, operation), value(data, 3))


def within(register: int, operation: int, network: str) -> bytes:
    """Whether the address in the register is of the network; spoils the register."""
    net = IPv4Network(network, strict=False)
    return bitwise(register, net.netmask.packed, bytes(4)) + compare(register, operation, net.network_address.packed)


def lookup(name: str, register: int, into: int | None = None) -> bytes:
    """The rule ends here when the key is not in the set; `into`: where a map's value goes."""
    parts = [wire.text(1, name), _register(2, register)]
    if into is not None:
        parts.append(_register(3, into))
    return _expression("lookup", *parts)


def missing(name: str, register: int) -> bytes:
    """The rule goes on only when the key is not in the set."""
    return _expression("lookup", wire.text(1, name), _register(2, register), wire.u32(5, _INVERTED))


def verdict_map(name: str, register: int) -> bytes:
    return _expression("lookup", wire.text(1, name), _register(2, register), wire.u32(3, 0))


def turns(register: int, first: int, count: int) -> bytes:
    """first, first + 1, ... first + count - 1, first, ...: each rule counts for itself."""
    return _expression("numgen", _register(1, register), wire.u32(2, count), wire.u32(3, 0), wire.u32(4, first))


def set_priority(register: int) -> bytes:
    return _expression("meta", wire.u32(2, META_PRIORITY), _register(3, register))


def dynamic(name: str, operation: int, key: int, data: int, seconds: int) -> bytes:
    """The packet itself adds, refreshes or deletes an element of a map."""
    parts = [wire.text(1, name), wire.u32(3, operation), _register(4, key), _register(5, data)]
    if operation != DELETED:
        parts.append(wire.u64(6, seconds * 1000))
    return _expression("dynset", *parts)


def destination_nat(address: int, port: int) -> bytes:
    return _expression("nat", wire.u32(1, 1), wire.u32(2, wire.IPV4), _register(3, address), _register(5, port))


def source_nat(address: str) -> bytes:
    """Uses register 0."""
    to = _expression("nat", wire.u32(1, 0), wire.u32(2, wire.IPV4), _register(3, 0), wire.u32(7, _FULLY_RANDOM))
    return immediate(0, IPv4Address(address).packed) + to


def masquerade() -> bytes:
    return _expression("masq", wire.u32(1, _FULLY_RANDOM))


def reset() -> bytes:
    return _expression("reject", wire.u32(1, 1), wire.u8(2, 0))


def unreachable_port() -> bytes:
    return _expression("reject", wire.u32(1, 0), wire.u8(2, 3))


def counter() -> bytes:
    """The counter that every element of a set gets, as the set's own attribute asks for it."""
    return wire.text(1, "counter") + wire.nest(2, wire.u64(1, 0), wire.u64(2, 0))


def untracked() -> bytes:
    """The packet, which nobody has looked up yet, is of no connection that the kernel follows."""
    return _expression("notrack")


def midstream() -> bytes:
    """Whether it is a TCP segment that begins no connection. Uses register 0."""
    tcp = meta(0, META_L4PROTO) + compare(0, EQUAL, b"\x06")
    return tcp + payload(0, 2, 13, 1) + bitwise(0, bytes((_SYN,)), bytes(1)) + compare(0, EQUAL, bytes(1))


def source_is_local() -> bytes:
    """Whether the packet comes from one of this machine's own addresses. Uses register 0."""
    return _expression("fib", _register(1, 0), wire.u32(2, 3), wire.u32(3, 1)) + compare(
        0, EQUAL, struct.pack("=I", _LOCAL)
    )


def set_mark(register: int) -> bytes:
    """The connection's mark. The kernel looks for no loops on account of a rule of this, `turns` and nothing else."""
    return _expression("ct", wire.u32(2, CT_MARK), _register(4, register))


def with_bits(register: int, bits: int) -> bytes:
    """Sets bits of a number in a register and leaves the others."""
    return bitwise(register, struct.pack("=I", ~bits & 0xFFFFFFFF), struct.pack("=I", bits))


def unmarked(bit: int) -> bytes:
    """Goes on only in a connection whose mark lacks the bit. Uses register 15."""
    masked = bitwise(15, struct.pack("=I", bit), bytes(4))
    return conntrack(15, CT_MARK) + masked + compare(15, EQUAL, bytes(4))
