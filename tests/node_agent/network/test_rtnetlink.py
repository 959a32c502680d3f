"""Messages and attributes of rtnetlink, and the kernel's own answers about what every machine has."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_agent.network import netlink
from node_agent.network import rtnetlink as rt


@given(st.dictionaries(st.integers(1, 0x3FFF), st.binary(max_size=40)), st.binary(max_size=3))
def test_attributes_are_read_as_they_were_written(values: dict[int, bytes], rest: bytes) -> None:
    data = b"".join(rt.attribute(number, value) for number, value in values.items())
    assert len(data) % 4 == 0
    assert rt.attributes(data + rest) == values


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    rt.attributes(data)
    list(rt._messages(data))


def test_what_holds_others_is_marked() -> None:
    inner = rt.attribute(4, b"\1")
    assert struct.unpack("=HH", rt.nested(12, inner)[:4]) == (12, 12 | 0x8000)
    assert rt.attributes(rt.nested(12, inner)) == {12: inner}


def test_numbers_and_names() -> None:
    assert rt.number(rt.u32(0x01020304)) == 0x01020304 and rt.number(None) == 0
    assert rt.text(b"eth0\0") == "eth0" and rt.text(None) == ""


def test_the_loopback_is_there() -> None:
    observed = asyncio.run(netlink.observe("none-such"))
    assert set(observed.mtus) == {name for _, name in socket.if_nameindex()}
    assert "127.0.0.1/8" in observed.addresses["lo"]
    assert observed.tunnel is None and observed.tunnel_up


def test_a_refusal_has_its_number() -> None:
    head = struct.pack(rt.LINK, 0, 0, 0x7FFFFFF0, 0, 0)
    with rt.Netlink() as kernel, pytest.raises(rt.NetlinkError) as refused:
        kernel.ask(rt.SET_LINK, 0, head, rt.attribute(4, rt.u32(1500)))
    assert refused.value.code in (errno.ENODEV, errno.EPERM)
    with rt.Netlink() as kernel:
        assert kernel.dump(rt.GET_LINK, rt.LINK, 0, 0, 0, 0, 0)
