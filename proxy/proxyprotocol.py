"""The PROXY protocol, versions 1 and 2: how a balancer tells the client's address ahead of the client's bytes; pure.

Source: haproxy.org/download/2.6/doc/proxy-protocol.txt. IPv4 only is written; IPv6 is read past, as are TLVs.
"""

from __future__ import annotations

import struct
from ipaddress import AddressValueError, IPv4Address
from typing import NamedTuple

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
# A version 1 line with its end (section 2.1).
V1_LONGEST = 107
# A version 2 header; the protocol allows 65,551 bytes, but nobody needs more than a few addresses and TLVs.
V2_LONGEST = 4096

Address = tuple[str, int]


class Origin(NamedTuple):
    """Who a connection is from and where it was to."""

    source: Address
    target: Address


class Malformed(ValueError):
    """Not a PROXY protocol header; says why."""


class Header(NamedTuple):
    """A header of `size` bytes; without `origin` (LOCAL, UNKNOWN, other families) the connection speaks for itself."""

    size: int
    origin: Origin | None


def write(version: str, origin: Origin) -> bytes:
    """The header of a TCP connection over IPv4; `version` is "v1" or "v2"."""
    (source, source_port), (target, target_port) = origin
    if version == "v1":
        return f"PROXY TCP4 {source} {target} {source_port} {target_port}\r\n".encode()
    addresses = IPv4Address(source).packed + IPv4Address(target).packed
    return SIGNATURE + struct.pack("!BBH", 0x21, 0x11, 12) + addresses + struct.pack("!HH", source_port, target_port)


def read(data: bytes) -> Header | None:
    """The header that `data` begins with; None when more bytes are needed. Raises Malformed."""
    if data[: len(SIGNATURE)] == SIGNATURE[: len(data)]:
        return _read_v2(data)
    if data[:6] == b"PROXY "[: len(data)]:
        return _read_v1(data)
    raise Malformed("it begins with neither version's signature")


def _read_v1(data: bytes) -> Header | None:
    end = data.find(b"\r\n", 0, V1_LONGEST)
    if end < 0:
        if len(data) >= V1_LONGEST:
            raise Malformed(f"no end of line within {V1_LONGEST} bytes")
        return None
    size = end + 2
    words = data[:end].split(b" ")
    if words[1] == b"UNKNOWN":
        return Header(size, None)
    if words[1] == b"TCP6" and len(words) == 6:
        return Header(size, None)
    if words[1] != b"TCP4" or len(words) != 6:
        raise Malformed("must be PROXY TCP4 SOURCE TARGET PORT PORT")
    source, target = _v4(words[2]), _v4(words[3])
    return Header(size, Origin((source, _port(words[4])), (target, _port(words[5]))))


def _read_v2(data: bytes) -> Header | None:
    if len(data) < 16:
        return None
    version, family, length = struct.unpack_from("!BBH", data, 12)
    size = 16 + length
    if version >> 4 != 2:
        raise Malformed(f"must be version 2, got {version >> 4}")
    command = version & 15
    if command > 1:
        raise Malformed(f"must be LOCAL or PROXY, got command {command}")
    if size > V2_LONGEST:
        raise Malformed(f"must be at most {V2_LONGEST} bytes, got {size}")
    if command == 1 and family == 0x11 and length < 12:
        raise Malformed(f"too short for two addresses: {length} bytes")
    if len(data) < size:
        return None
    if command == 0 or family != 0x11:
        return Header(size, None)
    source, target, source_port, target_port = struct.unpack_from("!4s4sHH", data, 16)
    return Header(size, Origin((str(IPv4Address(source)), source_port), (str(IPv4Address(target)), target_port)))


def _v4(text: bytes) -> str:
    try:
        return str(IPv4Address(text.decode("ascii")))
    except (AddressValueError, UnicodeDecodeError) as error:
        raise Malformed(f"must be an IPv4 address, got {text[:20]!r}") from error


def _port(text: bytes) -> int:
    if not text.isdigit() or len(text) > 5 or (len(text) > 1 and text[:1] == b"0") or int(text) > 65535:
        raise Malformed(f"must be a port, got {text[:20]!r}")
    return int(text)
