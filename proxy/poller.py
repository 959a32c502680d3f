"""Edge-triggered readiness of many sockets inside the asyncio loop: on the loop's own epoll, or one nested in it.

Why not add_reader/add_writer: they are level-triggered, so every pause for back-pressure and every end of stream
costs a system call to change interest, and while interest is nothing a reset by the peer stays unseen. Here a socket
is registered once, for everything, and says each change once. On a `ProxyLoop` the events come without passing through
asyncio; on any other loop by an epoll of the poller's own.

Nearly every event of a relayed socket is one small piece for the other one. It is carried in the very loop that goes
through the events (`_deal`): a call into the leg for each would cost as much Python as the piece itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from proxy.logs import EventLog
from proxy.loop import BATCH, ProxyLoop

if TYPE_CHECKING:
    from proxy.leg import Leg

log = EventLog("proxy.poller")

IN = select.EPOLLIN
OUT = select.EPOLLOUT
ERR = select.EPOLLERR
RDHUP = select.EPOLLRDHUP
# Anything after which a short read no longer means "nothing more to read".
SPECIAL = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR | select.EPOLLPRI
INTEREST = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLPRI | select.EPOLLET
# Data came, and nothing else is to be said of the socket.
PLAIN = IN | OUT
# What is read at once while pieces are small.
PIECE = 16 * 1024
# Pieces shorter than this are sent from a view of the buffer that is kept for their length: no object for each piece.
VIEWS = 1024


class _Told:
    """A registered socket that is no leg: to the poller one that is never plain, so that its handler hears all."""

    __slots__ = ("on_event",)
    plain = False

    def __init__(self, handler: Callable[[int], None]) -> None:
        self.on_event = handler


class Poller:
    """Calls a handler with epoll's mask for each registered socket; handlers must not raise."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._watched: dict[int, Leg] = {}
        self._buffer = memoryview(bytearray(PIECE))
        self._views: list[memoryview | None] = [None] * VIEWS
        self._in_round = False
        self._closing: list[socket.SocketType] = []
        # A loop's epoll serves one poller; a second one on the same loop nests.
        self._direct = isinstance(loop, ProxyLoop) and loop.direct.on_events is None
        if isinstance(loop, ProxyLoop) and self._direct:
            self._epoll = loop.direct.epoll
            loop.direct.on_events = self._deal
        else:
            self._epoll = select.epoll()
            loop.add_reader(self._epoll.fileno(), self._round)

    def __len__(self) -> int:
        return len(self._watched)

    def watch(self, sock: socket.SocketType, handler: Callable[[int], None]) -> None:
        """Registers a stream socket for every change, each told once (edge-triggered)."""
        fd = sock.fileno()
        self._watched[fd] = cast("Leg", _Told(handler))
        self._epoll.register(fd, INTEREST)

    def carry(self, leg: Leg, *, watched: bool = False) -> None:
        """The same for a leg, whose pieces are carried here while it is plain; `watched`: its socket is registered."""
        fd = leg.sock.fileno()
        self._watched[fd] = leg
        if not watched:
            self._epoll.register(fd, INTEREST)

    def watch_listener(self, sock: socket.SocketType, handler: Callable[[int], None]) -> None:
        """Registers a listening socket, told again for as long as connections wait (level-triggered)."""
        fd = sock.fileno()
        self._watched[fd] = cast("Leg", _Told(handler))
        self._epoll.register(fd, IN)

    def pause(self, sock: socket.SocketType) -> None:
        """Tells nothing of a listening socket until `resume`."""
        self._epoll.modify(sock.fileno(), 0)

    def resume(self, sock: socket.SocketType) -> None:
        self._epoll.modify(sock.fileno(), IN)

    def unwatch(self, sock: socket.SocketType) -> None:
        """Forgets a registered socket and leaves it open: for another handler's registration, or another process's use.

        Closing alone does not end a registration while other processes hold the same socket.
        """
        self._watched.pop(sock.fileno(), None)
        self._epoll.unregister(sock.fileno())

    def close(self, sock: socket.SocketType) -> None:
        """Forgets and closes a socket, registered or not.

        The descriptor itself closes at the end of the round: closed now, its number could be given to a new socket,
        which would then get the old one's events of this round.
        """
        fd = sock.fileno()
        if fd < 0:
            return
        self._watched.pop(fd, None)
        if self._in_round:
            self._closing.append(sock)
        else:
            sock.close()

    def shut(self) -> None:
        """Stops; sockets still registered are not closed."""
        if isinstance(self._loop, ProxyLoop) and self._direct:
            for fd in self._watched:
                with contextlib.suppress(OSError):
                    self._epoll.unregister(fd)
            self._loop.direct.on_events = None
        else:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
        self._watched.clear()

    def _round(self) -> None:
        self._deal(self._epoll.poll(0, BATCH))

    def _deal(self, events: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Calls the handlers; returns the events that have none."""
        # Locals all the way, and methods taken before they are called: a lookup less each, twice a request.
        watched, buffer, views = self._watched, self._buffer, self._views
        others: list[tuple[int, int]] = []
        self._in_round = True
        try:
            for fd, mask in events:
                try:
                    leg = watched[fd]
                except KeyError:
                    others.append((fd, mask))
                    continue
                try:
                    if mask != PLAIN or not leg.plain:
                        leg.on_event(mask)
                        continue
                    receive = leg.recv_into
                    try:
                        count = receive(buffer)
                    except (BlockingIOError, InterruptedError):
                        continue
                    except OSError:
                        leg.failed()
                        continue
                    if not count:
                        leg.ended()
                        continue
                    if count < VIEWS:
                        piece = views[count]
                        if piece is None:
                            piece = views[count] = buffer[:count]
                    else:
                        piece = buffer[:count]
                    leg.received += count
                    other = leg.other
                    send = other.send
                    try:
                        sent = send(piece)
                    except (BlockingIOError, InterruptedError):
                        sent = 0
                    except OSError:
                        leg.relay.broke(other)
                        sent = count
                    if sent != count:
                        other.hold(bytes(piece[sent:]))
                    if count == PIECE:
                        leg.more()
                except Exception as error:  # the boundary: one connection's fault must not reach the others
                    log.error("poller.handler_failed", exc_info=error, fd=fd)
        finally:
            self._in_round = False
            for sock in self._closing:
                sock.close()
            self._closing.clear()
        return others
