"""Listening sockets: opened, kept, given away and closed as a plan asks; who reads from them is not decided here.

With several workers a place gets one socket for each, in one SO_REUSEPORT group: the kernel spreads what comes in
evenly. The process that opened them holds all of them, so a worker's death closes none.
"""

from __future__ import annotations

import array
import asyncio
import errno
import resource
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Self

from proxy.logs import EventLog
from proxy.plan import Place
from proxy.sockopts import tune

log = EventLog("proxy.sockets")

BACKLOG = 4096
# Seconds until a port in use is tried again.
BIND_RETRY = 1.5
# The part of a process's descriptors that listening sockets may have: connections, files and the agent need some too.
LISTENING_PART = 0.75
# Bytes that datagrams may wait in; the default is for one program, this is for a service.
DATAGRAM_BUFFER = 1 << 20

# asm-generic/socket.h; Python has no name for it.
_SO_ATTACH_REUSEPORT_CBPF = 51
_SO_REUSEPORT_GROUP_MAX = 64


class SharedSocket(socket.socket):
    """A socket that several parts of this process hold by one descriptor: `close` of the last holder closes it."""

    __slots__ = ("_more",)
    _more: int

    def hold(self) -> Self:
        """One holder more, who closes it too."""
        self._more = getattr(self, "_more", 0) + 1
        return self

    def close(self) -> None:
        more = getattr(self, "_more", 0)
        if more:
            self._more = more - 1
        else:
            super().close()


def most_listening(limit: int) -> int:
    """How many listening sockets a process may have whose limit of descriptors that is."""
    return int(limit * LISTENING_PART)


def open_socket(place: Place, *, group: bool = False) -> SharedSocket:
    """A socket that listens there. OSError when the address is not local or the port is in use."""
    datagrams = place.protocol == "UDP"
    kind, number = (socket.SOCK_DGRAM, socket.IPPROTO_UDP) if datagrams else (socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock = SharedSocket(socket.AF_INET, kind | socket.SOCK_NONBLOCK, number)
    try:
        if group:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if datagrams:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, DATAGRAM_BUFFER)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tune(sock)
        sock.bind((place.address, place.port))
        if not datagrams:
            sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def steer_by_client(sock: socket.socket, count: int) -> None:
    """Makes the group of `count` sockets choose by the client's address alone, so that one worker sees all of it."""
    instructions = (
        (0x20, 0, 0, 0xFFF00000 + 12),  # A = the IPv4 header's source address (SKF_NET_OFF)
        (0x94, 0, 0, count),  # A %= count
        (0x16, 0, 0, 0),  # return A: the index in the group
    )
    code = array.array("B", b"".join(struct.pack("HBBI", *instruction) for instruction in instructions))
    address, _ = code.buffer_info()
    program = struct.pack("HL", len(instructions), address)
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, program)


class Sockets:
    """All listening sockets of a proxy, `count` for each place; a place that fails is tried again."""

    def __init__(self, loop: asyncio.AbstractEventLoop, count: int = 1) -> None:
        self._loop = loop
        self._count = count
        self._wanted: dict[Place, bool] = {}
        self._open: dict[Place, list[SharedSocket]] = {}
        self._inherited: dict[Place, list[SharedSocket]] = {}
        self._errors: dict[Place, str] = {}
        self._retry: asyncio.TimerHandle | None = None
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        # Beyond, a place has one socket that all workers share: descriptors are for connections too.
        self._many = soft // (4 * count) if count > 1 else soft
        self.limit = soft
        self._most = most_listening(soft)
        self._full = (
            f"all {self._most} descriptors for listening sockets are in use: raise the limit of open files ({soft})"
        )
        self._held = 0
        self._unclaimed = 0  # inherited, and no place has asked for it yet
        self._short = False
        self.on_open: Callable[[Place, list[SharedSocket]], None] = lambda place, socks: None
        self.on_close: Callable[[Place], None] = lambda place: None
        self.on_errors: Callable[[], None] = lambda: None

    @property
    def errors(self) -> Mapping[Place, str]:
        """Why a wanted place is not listened on."""
        return self._errors

    @property
    def open(self) -> Mapping[Place, list[SharedSocket]]:
        return self._open

    def inherit(self, place: Place, sock: SharedSocket) -> None:
        """A socket of an earlier proxy's, to be used when its place is asked for; then `disown` the rest.

        One beyond what this process may have of them is closed: connections need descriptors, too.
        """
        if self._held + self._unclaimed >= self._most:
            sock.close()
            return
        self._unclaimed += 1
        self._inherited.setdefault(place, []).append(sock)

    def disown(self) -> None:
        """Closes inherited sockets whose place nobody asked for."""
        for socks in self._inherited.values():
            for sock in socks:
                sock.close()
        self._inherited.clear()
        self._unclaimed = 0

    def want(self, added: Mapping[Place, bool], removed: Iterable[Place]) -> None:
        """Opens and closes; the flag says whether one client always comes to the same worker."""
        for place in removed:
            del self._wanted[place]
            self._errors.pop(place, None)
            if place in self._open:
                self.on_close(place)
                for sock in self._open.pop(place):
                    sock.close()
                    self._held -= 1
                log.info("listener.closed", address=place.address, port=place.port, protocol=place.protocol)
        self._wanted.update(added)
        for place in added:
            if place not in self._open:
                self._try_open(place)
            else:
                self._steer(place)
        self._schedule_retry()

    def close(self) -> None:
        """Closes all."""
        self.want({}, list(self._wanted))
        self.disown()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _try_open(self, place: Place) -> None:
        socks = self._inherited.pop(place, [])
        self._unclaimed -= len(socks)
        count = self._count if len(self._open) < self._many else 1
        try:
            # Inherited ones that are asked for later count by now: they are open.
            if self._held + self._unclaimed >= self._most and not socks:
                raise OSError(errno.EMFILE, self._full)
            while len(socks) < count:
                socks.append(open_socket(place, group=True))
        except OSError as error:
            for sock in socks:
                sock.close()
            self._fail(place, error)
            return
        self._errors.pop(place, None)
        self._open[place] = socks
        self._held += len(socks)
        self._short = False
        self._steer(place)
        log.info("listener.open", address=place.address, port=place.port, protocol=place.protocol)
        self.on_open(place, socks)

    def _fail(self, place: Place, error: OSError) -> None:
        why = error.strerror or str(error)
        message = f"cannot listen on {place.address}:{place.port}: {why[:1].lower()}{why[1:]}"
        if self._errors.get(place) != message:
            # What holds for all that follow is logged once.
            if error.errno != errno.EMFILE or not self._short:
                log.warning("listener.failed", address=place.address, port=place.port, error=message)
            self._short = error.errno == errno.EMFILE
            self._errors[place] = message

    def _steer(self, place: Place) -> None:
        socks = self._open[place]
        if self._wanted[place] and 1 < len(socks) <= _SO_REUSEPORT_GROUP_MAX:
            try:
                steer_by_client(socks[0], len(socks))
            except OSError as error:
                # Each worker's hash gives the same answer: affinity holds without, but for changes of the set.
                log.warning("listener.not_steered", address=place.address, port=place.port, error=str(error))

    def _schedule_retry(self) -> None:
        if self._errors and self._retry is None:
            self._retry = self._loop.call_later(BIND_RETRY, self._retry_failed)

    def _retry_failed(self) -> None:
        self._retry = None
        before = dict(self._errors)
        for place in before:
            self._try_open(place)
        self._schedule_retry()
        if self._errors != before:
            self.on_errors()


class Given:
    """Listening sockets that another process opened and sends: a worker's."""

    def __init__(self) -> None:
        self._offered: dict[Place, list[socket.socket]] = {}
        self._wanted: set[Place] = set()
        # Places whose sockets were sent and did not arrive: this process has no descriptors left.
        self.missing: set[Place] = set()
        self.errors: Mapping[Place, str] = {}
        self.on_open: Callable[[Place, list[socket.socket]], None] = lambda place, socks: None
        self.on_close: Callable[[Place], None] = lambda place: None
        self.on_errors: Callable[[], None] = lambda: None

    def offer(self, place: Place, sock: socket.socket) -> None:
        """A socket arrived; it is listened on when a table asks for its place. It may not be the only one there."""
        self.missing.discard(place)
        self._offered.setdefault(place, []).append(sock)
        if place in self._wanted:
            self.on_open(place, [sock])

    def want(self, added: Mapping[Place, bool], removed: Iterable[Place]) -> None:
        for place in removed:
            self._wanted.discard(place)
            self.missing.discard(place)
            if place in self._offered:
                self.on_close(place)
                for sock in self._offered.pop(place):
                    sock.close()
        for place in added:
            if place not in self._wanted:
                self._wanted.add(place)
                if place in self._offered:
                    self.on_open(place, self._offered[place])

    def close(self) -> None:
        self.want({}, list(self._wanted))
        for socks in self._offered.values():
            for sock in socks:
                sock.close()
        self._offered.clear()
