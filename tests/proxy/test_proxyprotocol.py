"""The PROXY protocol: written and read back, garbage, and end to end on real sockets."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import opening
from proxy.proxyprotocol import SIGNATURE, V2_LONGEST, Header, Malformed, Origin, read, write
from proxy.server import Proxy
from proxy.table import Table
from tests.proxy.support import Endpoints, connect, own_address, receive, route, send, table, until

addresses = st.tuples(st.ip_addresses(v=4).map(str), st.integers(0, 65535))
origins = st.builds(Origin, addresses, addresses)


@given(st.sampled_from(["v1", "v2"]), origins, st.binary(max_size=20))
def test_written_is_read_back_from_any_piece(version: str, origin: Origin, rest: bytes) -> None:
    data = write(version, origin)
    assert read(data + rest) == Header(len(data), origin)
    for size in range(len(data)):
        assert read(data[:size]) is None


@given(st.binary(max_size=200), st.sampled_from([b"", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11\x00\x0c"]))
def test_anything_is_read_or_refused(data: bytes, start: bytes) -> None:
    try:
        header = read(start + data)
    except Malformed:
        return
    assert header is None or 0 < header.size <= len(start + data)


def test_without_an_origin() -> None:
    assert read(b"PROXY UNKNOWN\r\nGET") == Header(15, None)
    assert read(b"PROXY UNKNOWN ffff:: ffff:: 1 2\r\n") == Header(33, None)
    assert read(SIGNATURE + b"\x20\x00\x00\x00") == Header(16, None), "LOCAL"
    assert read(SIGNATURE + b"\x21\x21\x00\x24" + bytes(36)) == Header(52, None), "IPv6"
    tlv = SIGNATURE + b"\x21\x11\x00\x0f\x01\x02\x03\x04\x05\x06\x07\x08\x00\x50\x01\xbb\x04\x00\x00"
    assert read(tlv) == Header(31, Origin(("1.2.3.4", 80), ("5.6.7.8", 443)))


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
        b"PROXY TCP4 1.2.3.400 5.6.7.8 1 2\r\n",
        b"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY " + b"x" * 110,
        SIGNATURE + b"\x11\x11\x00\x0c",
        SIGNATURE + b"\x22\x11\x00\x0c",
        SIGNATURE + b"\x21\x11\x00\x04",
        SIGNATURE + b"\x21\x11" + V2_LONGEST.to_bytes(2, "big"),
    ],
)
def test_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        read(data)


def proxied(place: tuple[str, int], endpoints: Endpoints, *, send_proxy: str = "", accept: bool = False) -> Table:
    plain = route(*place, endpoints.places[:1])
    port = replace(plain.ports[0], send_proxy=send_proxy, accept_proxy=accept)
    return table(replace(plain, ports=(port,)))


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_endpoints_are_told_the_clients_address(proxy: Proxy, endpoints: Endpoints, version: str) -> None:
    place = (own_address(), 80)
    proxy.apply(proxied(place, endpoints, send_proxy=version))
    client = await connect(place)
    accepted = await endpoints.accept(0)
    expected = write(version, Origin(client.getsockname(), place))
    await send(client, b"hello")
    assert await receive(accepted, len(expected) + 5) == expected + b"hello"
    client.close()
    accepted.close()


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_a_balancer_in_front_is_believed_and_passed_on(proxy: Proxy, endpoints: Endpoints, version: str) -> None:
    place = (own_address(), 80)
    proxy.apply(proxied(place, endpoints, send_proxy="v1", accept=True))
    client = await connect(place)
    told = Origin(("203.0.113.7", 4711), ("198.51.100.1", 443))
    header = write(version, told)
    await send(client, header[:9])
    await send(client, header[9:] + b"hello")
    client.shutdown(socket.SHUT_WR)
    accepted = await endpoints.accept(0)
    expected = write("v1", told) + b"hello"
    assert await receive(accepted, len(expected)) == expected
    client.close()
    accepted.close()


async def test_local_speaks_for_itself(proxy: Proxy, endpoints: Endpoints) -> None:
    place = (own_address(), 80)
    proxy.apply(proxied(place, endpoints, send_proxy="v1", accept=True))
    client = await connect(place)
    await send(client, SIGNATURE + b"\x20\x00\x00\x00" + b"hi")
    accepted = await endpoints.accept(0)
    expected = write("v1", Origin(client.getsockname(), place)) + b"hi"
    assert await receive(accepted, len(expected)) == expected
    client.close()
    accepted.close()


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"PROXY TCP4 nonsense\r\n", b""])
async def test_who_sends_no_header_is_reset(
    proxy: Proxy, endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    monkeypatch.setattr(opening, "HEADER_TIMEOUT", 0.1)
    place = (own_address(), 80)
    proxy.apply(proxied(place, endpoints, accept=True))
    client = await connect(place)
    await send(client, data)
    with pytest.raises(ConnectionResetError):
        await receive(client, 1)
    assert proxy.status()["counters"]["refused"] == 1
    assert not endpoints.waiting(0)
    client.close()


async def test_a_client_that_leaves_within_the_header_is_forgotten(proxy: Proxy, endpoints: Endpoints) -> None:
    place = (own_address(), 80)
    proxy.apply(proxied(place, endpoints, accept=True))
    client = await connect(place)
    await send(client, b"PROXY TCP4")
    client.close()
    await until(lambda: proxy.status()["counters"]["refused"] == 1, "forgotten")
    assert proxy.busy == 0


async def test_ports_that_expect_no_header_pass_it_on_as_it_is(proxy: Proxy, endpoints: Endpoints) -> None:
    place = (own_address(), 80)
    proxy.apply(proxied(place, endpoints))
    client = await connect(place)
    await send(client, b"PROXY TCP4 203.0.113.7 198.51.100.1 1 2\r\n")
    accepted = await endpoints.accept(0)
    assert await receive(accepted, 41) == b"PROXY TCP4 203.0.113.7 198.51.100.1 1 2\r\n"
    client.close()
    accepted.close()
