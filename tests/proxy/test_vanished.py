"""A peer that vanishes with bytes on the way to it ends its connection; one that only does not read never does."""

from __future__ import annotations

import array
import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.leg import Leg
from proxy.server import Proxy
from proxy.vanished import _INFO, PROBES, VANISHED, Suspects, silence
from tests.proxy.support import Pair, read_to_end, receive, send, until

SO_ATTACH_FILTER = 26


def vanish(sock: socket.socket) -> None:
    """From now on nothing that is sent to it arrives or is acknowledged, as if its machine were gone."""
    code = array.array("B", struct.pack("HBBI", 6, 0, 0, 0))  # return 0: no byte of any packet
    address, _ = code.buffer_info()
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", 1, address))


async def looked(proxy: Proxy, done: Callable[[], bool], what: str) -> None:
    """Looks again and again until it is done."""

    def look() -> bool:
        for relay in list(proxy._context.open):
            proxy._context.watch.look(relay)
        return done()

    await until(look, what)


@pytest.mark.parametrize("which", ["endpoint", "client"])
async def test_a_vanished_peer_is_passed_on_as_a_reset(
    pair: Callable[[], Awaitable[Pair]], proxy: Proxy, which: str
) -> None:
    client, endpoint = await pair()
    await send(client, b"x")
    assert await receive(endpoint, 1) == b"x"
    gone, left = (endpoint, client) if which == "endpoint" else (client, endpoint)
    proxy._context.watch.suspects.limit = 0.3
    vanish(gone)
    await send(left, b"are you there?")
    await looked(proxy, lambda: not proxy._context.open, "the connection ends")
    assert await read_to_end(left) == (b"", "rst")
    gone.close()
    left.close()


async def test_a_reader_that_does_not_read_is_left_alone(pair: Callable[[], Awaitable[Pair]], proxy: Proxy) -> None:
    client, endpoint = await pair()
    sent = 0
    watch = proxy._context.watch
    watch.suspects.limit = 0.2

    def full() -> bool:
        nonlocal sent
        try:
            while True:
                sent += client.send(b"z" * 100_000)
        except BlockingIOError:
            (relay,) = proxy._context.open
            return bool(relay.endpoint.pending or relay.endpoint.pipe)

    await until(full, "the endpoint's window is closed")
    (relay,) = proxy._context.open
    # Several probes of the closed window: the first after 0.2 s, each twice as late as the one before.
    end = asyncio.get_running_loop().time() + 2
    while asyncio.get_running_loop().time() < end:
        watch.look(relay)
        await asyncio.sleep(0.02)
    assert not relay.closed and not relay.endpoint.broken
    client.shutdown(socket.SHUT_WR)
    got, how = await read_to_end(endpoint)
    assert (len(got), how) == (sent, "fin")
    client.close()
    endpoint.close()


def info(retransmits: int, probes: int, unacked: int, heard: int) -> bytes:
    return _INFO.pack(retransmits, probes, unacked, heard)


def test_silence_counts_only_what_was_sent_again_or_probed_in_vain() -> None:
    assert silence(info(0, 0, 0, 9_000_000)) is None, "idle for hours: keepalive's affair"
    assert silence(info(0, 0, 5, 100)) is None, "on its way for the first time"
    assert silence(info(0, PROBES, 0, 60_000)) is None, "a closed window, a probe on its way"
    assert silence(info(3, 0, 1, 4_508)) == pytest.approx(4.508)
    assert silence(info(0, PROBES + 1, 0, 130_000)) == pytest.approx(130.0)


def leg() -> Leg:
    return object.__new__(Leg)


def test_an_hour_of_idleness_before_the_first_lost_segment_does_not_count() -> None:
    one, suspects = leg(), Suspects()
    assert not suspects.gone(one, 3600.0, 1000.0)
    assert not suspects.gone(one, 3600.0 + VANISHED - 1, 1000.0 + VANISHED - 1)
    assert suspects.gone(one, 3600.0 + VANISHED, 1000.0 + VANISHED)


def test_one_that_was_heard_of_in_between_begins_anew() -> None:
    one, suspects = leg(), Suspects()
    assert not suspects.gone(one, 1.0, 0.0)
    assert not suspects.gone(one, 50.0, VANISHED), "it answered something 50 s ago"
    assert not len(suspects)
    assert not suspects.gone(one, None, VANISHED)
    suspects.gone(one, 1.0, VANISHED)
    suspects.keep(set())
    assert not len(suspects), "what is over is forgotten"


@given(st.lists(st.tuples(st.booleans(), st.floats(0.1, 40.0)), max_size=40))
def test_nobody_is_gone_who_answered_within_the_limit(looks: list[tuple[bool, float]]) -> None:
    one, suspects = leg(), Suspects()
    now = heard = 0.0
    for answers, pause in looks:
        now += pause
        if answers:
            heard = now
        gone = suspects.gone(one, now - heard, now)
        assert not gone or now - heard >= VANISHED
