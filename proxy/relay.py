"""Carries bytes between two connected TCP sockets exactly as one connection would: data, ends and resets.

Each direction is a source leg and the other leg. End of stream closes that direction only; a reset on one leg becomes
a reset on the other, behind the data that came before it. There is no idle time-out, except between bytes once one
direction has closed. What a slow reader holds up is at most one buffer (or pipe) per direction; the rest waits in the
sender. Small pieces are copied, bulk goes through a pipe (`splice.py`) until anything but plain data shows up.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from common.pacing import paced
from proxy.leg import BUFFER_SIZE, Leg
from proxy.poller import IN, OUT, SPECIAL, Poller
from proxy.sockopts import keep_alive, reset_on_close, unsent
from proxy.splice import Pipes
from proxy.vanished import Watch

# Seconds that data received before a reset may take to reach the other side before the reset overtakes it.
RESET_FLUSH = 2.0
RESET_POLL = 0.02
# Seconds between two looks for connections whose endpoint's leg has no keepalive yet. It is of use from the first idle
# minute on, and most connections are over by then.
KEEP_EVERY = 15.0


@dataclass(eq=False)
class RelayContext:
    """What all relays of a process share; `half_close_idle` in seconds."""

    loop: asyncio.AbstractEventLoop
    poller: Poller
    half_close_idle: float = 3600.0
    # One buffer for all: it is empty again before the next read, what could not be written is copied out.
    buffer: memoryview = field(default_factory=lambda: memoryview(bytearray(BUFFER_SIZE)))
    open: set[Relay] = field(default_factory=set)
    half_closed: dict[Relay, int] = field(default_factory=dict)
    pipes: Pipes = field(default_factory=Pipes)
    # Connections are paced unless told otherwise.
    paced: bool = field(default_factory=paced)
    watch: Watch = field(init=False)
    dialing: int = 0  # clients accepted that have no endpoint yet
    bytes_in: int = 0
    bytes_out: int = 0

    def __post_init__(self) -> None:
        self.watch = Watch(self.loop, lambda: list(self.open))

    def start_sweeping(self) -> None:
        """Looks for half-closed relays in which nothing moved, for those that last, for vanished peers, from now on."""
        self.loop.call_later(self.half_close_idle, self._sweep)
        self.loop.call_later(KEEP_EVERY, self._keep)
        self.watch.start()

    def keep_alive(self) -> None:
        """Gives the endpoints' legs that have none yet their keepalive; clients' legs have it from their listener."""
        for relay in self.open:
            if not relay.kept:
                relay.kept = True
                with contextlib.suppress(OSError):  # it is on its way out
                    keep_alive(relay.endpoint.sock)

    def _keep(self) -> None:
        self.keep_alive()
        self.loop.call_later(KEEP_EVERY, self._keep)

    def _sweep(self) -> None:
        for relay, moved in list(self.half_closed.items()):
            now = relay.client.received + relay.endpoint.received
            if now == moved:
                relay.abort()
            else:
                self.half_closed[relay] = now
        self.loop.call_later(self.half_close_idle, self._sweep)


class Relay:
    """Two legs and how they end; closes both sockets and calls `on_end` once."""

    __slots__ = ("client", "closed", "context", "deadline", "endpoint", "kept", "on_end")

    def __init__(
        self,
        context: RelayContext,
        client: socket.SocketType,
        endpoint: socket.SocketType,
        on_end: Callable[[], None],
    ) -> None:
        self.context = context
        self.on_end = on_end
        self.closed = False
        self.kept = False  # the endpoint's leg has its keepalive
        self.deadline = 0.0  # loop time at which a reset no longer waits for data; 0: nothing broke
        self.client = one = Leg(self, client)
        self.endpoint = two = Leg(self, endpoint)
        one.other, two.other = two, one

    def start(self, mask: int) -> None:
        """Begins; `mask` is what the poller told of the endpoint's socket, 0: nothing yet, it is not watched."""
        context = self.context
        context.open.add(self)
        context.poller.carry(self.client)
        context.poller.carry(self.endpoint, watched=bool(mask))
        if mask & (IN | SPECIAL):
            self.endpoint.on_event(mask & ~OUT)

    def ended(self, source: Leg) -> None:
        """`source` has given all it will give: once that is written, its end (or reset) goes the same way."""
        if self.closed:
            return
        target = source.other
        if (target.pending or target.pipe is not None) and not target.broken:
            return  # _flush comes back here
        if source.broken or target.broken:
            self._reset_behind_data(target)
            return
        if source.shut and target.eof:
            self._close()  # which sends the last end itself
            return
        if not target.shut:
            target.shut = True
            try:
                target.sock.shutdown(socket.SHUT_WR)
            except OSError:
                self.broke(target)
                return
        self.context.half_closed.setdefault(self, self.client.received + self.endpoint.received)

    def broke(self, leg: Leg) -> None:
        """`leg` was reset or failed: what it still holds goes to the other leg, then a reset, within `RESET_FLUSH`."""
        if leg.broken or self.closed:
            return
        leg.broken = True
        leg.plain = leg.other.plain = False
        leg.pending = b""
        leg._drop_pipe()
        leg.never_short = True
        if not self.deadline:
            self.deadline = self.context.loop.time() + RESET_FLUSH
            self.context.loop.call_later(RESET_FLUSH, self._out_of_time)
        if leg.eof:
            self.ended(leg)
        elif not leg.readable:
            leg.readable = True
            self.context.loop.call_soon(leg._again)

    def _reset_behind_data(self, target: Leg) -> None:
        if target.broken or not unsent(target.sock) or self.context.loop.time() >= self.deadline:
            self.abort()
        else:
            self.context.loop.call_later(RESET_POLL, self._reset_again, target)

    def _reset_again(self, target: Leg) -> None:
        if not self.closed:
            self._reset_behind_data(target)

    def _out_of_time(self) -> None:
        if not self.closed:
            self.abort()

    def abort(self) -> None:
        """Resets both sides at once."""
        if not self.closed:
            reset_on_close(self.client.sock)
            reset_on_close(self.endpoint.sock)
            self._close()

    def _close(self) -> None:
        self.closed = True
        context, client, endpoint = self.context, self.client, self.endpoint
        context.open.discard(self)
        context.half_closed.pop(self, None)
        context.bytes_in += client.received
        context.bytes_out += endpoint.received
        context.poller.close(client.sock)
        context.poller.close(endpoint.sock)
        client.pending = endpoint.pending = b""
        client._drop_pipe()
        endpoint._drop_pipe()
        # No circles are left behind for the garbage collector.
        del self.client, self.endpoint, client.other, endpoint.other
        self.on_end()
