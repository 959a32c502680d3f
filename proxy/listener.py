"""Accepts clients on listening sockets that it is given; accepting never waits for a connect."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Mapping
from functools import partial

from proxy.dialer import dial, endpoint_socket
from proxy.logs import EventLog
from proxy.opening import Opening
from proxy.plan import Place
from proxy.poller import Poller
from proxy.proxyprotocol import Address
from proxy.relay import RelayContext
from proxy.service import ServicePort
from proxy.sockets import BACKLOG
from proxy.sockopts import reset_on_close

log = EventLog("proxy.listener")

# Connections taken from one listener in one turn; then the others get theirs.
ACCEPTS_PER_TURN = 64
# Seconds until accepting goes on after descriptors ran out.
ACCEPT_PAUSE = 0.1
# Seconds between two lines about the same shortage.
SHORTAGE_LOG = 10.0

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Listeners:
    """Who serves each place, and the accepting on those that have a socket. Sockets are others' to open and close."""

    def __init__(self, poller: Poller, context: RelayContext) -> None:
        self._poller = poller
        self._context = context
        self._services: dict[Place, ServicePort] = {}
        self._open: dict[Place, list[socket.socket]] = {}
        self._paused: asyncio.TimerHandle | None = None
        # Made before a client is accepted, so that running out of descriptors leaves the client in the backlog.
        self._spare: socket.SocketType | None = None
        self._shortage_logged = float("-inf")
        self._openings: set[Opening] = set()
        self.accepted = 0

    @property
    def places(self) -> Mapping[Place, ServicePort]:
        """What is wanted, listening or not."""
        return self._services

    @property
    def opening(self) -> int:
        """Clients whose PROXY protocol header is awaited."""
        return len(self._openings)

    def assign(self, place: Place, service: ServicePort) -> None:
        """New connections there go to this service from now on."""
        self._services[place] = service

    def unassign(self, place: Place) -> None:
        self._services.pop(place, None)

    def open(self, place: Place, socks: list[socket.socket]) -> None:
        """Begins to accept on listening sockets of a place that is assigned."""
        self._open.setdefault(place, []).extend(socks)
        for sock in socks:
            self._poller.watch_listener(sock, partial(self._readable, place, sock))
            if self._paused is not None:
                self._poller.pause(sock)

    def close(self, place: Place) -> None:
        """Accepts no more there; who waits in the backlog is still taken in. The sockets stay open."""
        for sock in self._open.get(place, ()):
            self._accept(place, sock, limit=BACKLOG)
            self._poller.unwatch(sock)
        self._open.pop(place, None)

    def close_all(self) -> None:
        for place in list(self._open):
            self.close(place)
        if self._paused is not None:
            self._paused.cancel()
            self._paused = None
        if self._spare is not None:
            self._spare.close()
            self._spare = None

    def abort_openings(self) -> None:
        """Resets clients that have not told where they are from."""
        for opening in list(self._openings):
            opening.fail("the proxy ends")

    def _readable(self, place: Place, listener: socket.socket, mask: int) -> None:
        self._accept(place, listener, ACCEPTS_PER_TURN)

    def _accept(self, place: Place, listener: socket.socket, limit: int) -> None:
        service = self._services.get(place)
        if self._paused is not None or service is None or place not in self._open:
            return
        header = service.serving.accept_proxy
        for _ in range(limit):
            try:
                if self._spare is None:
                    self._spare = endpoint_socket()
                client, address = _taken(listener)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._pause(error)
                    return
                continue  # this client is gone already (ECONNABORTED and the like)
            self.accepted += 1
            if header:
                Opening(self._context, service, client, address, self._openings).start()
                continue
            spare, self._spare = self._spare, None
            try:
                dial(self._context, service, client, address, spare)
            except Exception as error:  # the boundary: one client's fault must not stop the accepting
                log.error("listener.dial_failed", exc_info=error, address=place.address, port=place.port)
                reset_on_close(client)
                self._poller.close(client)
                self._poller.close(spare)

    def _pause(self, error: OSError) -> None:
        now = self._context.loop.time()
        if now >= self._shortage_logged + SHORTAGE_LOG:
            self._shortage_logged = now
            log.warning("listener.out_of_descriptors", error=error.strerror, open=len(self._poller))
        for socks in self._open.values():
            for sock in socks:
                self._poller.pause(sock)
        self._paused = self._context.loop.call_later(ACCEPT_PAUSE, self._resume)

    def _resume(self) -> None:
        self._paused = None
        for socks in self._open.values():
            for sock in socks:
                self._poller.resume(sock)


def _taken(listener: socket.socket) -> tuple[socket.SocketType, Address]:
    """A waiting client and its address, without what `accept` adds in Python. OSError as `accept` gives it."""
    descriptor, address = listener._accept()  # type: ignore[attr-defined]
    try:
        client = socket.SocketType(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, descriptor)
    except OSError:
        os.close(descriptor)
        raise
    client.setblocking(False)
    return client, address
