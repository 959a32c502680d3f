"""Finds peers that vanished with bytes on the way to them, and never takes a slow reader for one.

Keepalive finds a peer that vanished while nothing was under way. With bytes under way the kernel sends them again for a
quarter of an hour. TCP_USER_TIMEOUT would end that earlier, but it also ends a connection whose reader merely
does not read (its window is zero, every probe is answered): docs/adr/0004-relay.md. So the kernel is asked from time to
time what it hears.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from proxy.logs import EventLog
from proxy.sockopts import KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_PROBES

if TYPE_CHECKING:
    from proxy.leg import Leg
    from proxy.relay import Relay

log = EventLog("proxy.relay")

# Seconds of silence on bytes that were sent again and again: as long as keepalive waits for an idle peer.
VANISHED = float(KEEPALIVE_IDLE + KEEPALIVE_PROBES * KEEPALIVE_INTERVAL)
# Seconds between two looks at a connection.
LOOK_EVERY = 15.0
# Connections looked at in one turn of the loop: some 2 µs each.
LOOKS_PER_TURN = 256
# Probes of a closed window that stay unanswered while the reader is there: the one on its way, and one lost.
PROBES = 2
# linux/tcp.h, struct tcp_info: retransmits and probes that were not answered, segments in flight, milliseconds since
# anything was acknowledged.
_INFO = struct.Struct("=2xBB20xI28xI")


def silence(info: bytes) -> float | None:
    """Seconds since the peer was heard of; None when nothing that was sent waits for its answer too long.

    `info`: the beginning of the kernel's `tcp_info`. A window that is closed is open to probes, and their answers
    count: whoever does not read is heard of all the time.
    """
    retransmits, probes, unacked, heard = _INFO.unpack(info)
    if (unacked and retransmits) or probes > PROBES:
        return float(heard) / 1000
    return None


class Suspects:
    """Those that did not answer at an earlier look, and since when; pure (takes `now`).

    How long the kernel has heard nothing is not enough: on a connection that was idle for an hour that is an hour at
    the first lost segment.
    """

    def __init__(self, limit: float = VANISHED) -> None:
        """`limit` in seconds."""
        self.limit = limit
        self._since: dict[Leg, float] = {}

    def __len__(self) -> int:
        return len(self._since)

    def gone(self, leg: Leg, quiet: float | None, now: float) -> bool:
        """Whether `leg`'s peer has not answered for the limit; `quiet` is what `silence` says of it at `now`."""
        since = self._since.get(leg)
        if quiet is None or (since is not None and quiet < now - since):
            self._since.pop(leg, None)
            return False
        if since is None:
            self._since[leg] = now
            return False
        return now - since >= self.limit

    def keep(self, legs: set[Leg]) -> None:
        """Forgets all others: they are over."""
        self._since = {leg: since for leg, since in self._since.items() if leg in legs}


class Watch:
    """Looks at all relays in turn, a few at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, relays: Callable[[], list[Relay]]) -> None:
        self._loop = loop
        self._relays = relays
        self.suspects = Suspects()

    def start(self) -> None:
        self._loop.call_later(LOOK_EVERY, self._begin)

    def _begin(self) -> None:
        relays = self._relays()
        if self.suspects:
            self.suspects.keep({leg for relay in relays for leg in (relay.client, relay.endpoint)})
        self._some(relays)

    def _some(self, relays: list[Relay]) -> None:
        for relay in relays[-LOOKS_PER_TURN:]:
            self.look(relay)
        del relays[-LOOKS_PER_TURN:]
        if relays:
            self._loop.call_soon(self._some, relays)
        else:
            self.start()

    def look(self, relay: Relay) -> None:
        """Ends the relay as a reset would if one of its peers has vanished."""
        if relay.closed:
            return
        for leg in (relay.client, relay.endpoint):
            try:
                info = leg.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
                quiet = silence(info)
            except (OSError, struct.error):
                continue  # it is on its way out, or a kernel that does not tell
            if self.suspects.gone(leg, quiet, self._loop.time()):
                log.info("relay.peer_vanished", leg="client" if leg is relay.client else "endpoint", silent=quiet)
                relay.broke(leg)
                return
