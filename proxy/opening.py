"""A client that must say first where it is from: its PROXY protocol header is awaited, checked and taken away."""

from __future__ import annotations

import asyncio
import socket

from proxy.dialer import Dial, endpoint_socket
from proxy.logs import EventLog
from proxy.poller import SPECIAL
from proxy.proxyprotocol import V2_LONGEST, Address, Malformed, read
from proxy.relay import RelayContext
from proxy.service import ServicePort
from proxy.sockopts import reset_on_close

log = EventLog("proxy.opening")

# Seconds a balancer may take to send its header: it sends it before anything else, in one piece.
HEADER_TIMEOUT = 5.0


class Opening:
    """One accepted client until its header is complete; malformed, late or missing, the client is reset.

    Only ports that are told to expect a header read one: elsewhere it is the client's own bytes, and nobody can
    pretend to be from another address.
    """

    __slots__ = ("_address", "_all", "_client", "_context", "_service", "_timer")

    def __init__(
        self,
        context: RelayContext,
        service: ServicePort,
        client: socket.SocketType,
        address: Address,
        openings: set[Opening],
    ) -> None:
        self._context = context
        self._service = service
        self._client = client
        self._address = address
        self._all = openings
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._all.add(self)
        self._timer = self._context.loop.call_later(HEADER_TIMEOUT, self.fail, "no header in time")
        self._context.poller.watch(self._client, self._readable)

    def _readable(self, mask: int) -> None:
        try:
            # Only looked at: what follows the header belongs to the relay.
            data = self._client.recv(V2_LONGEST, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.fail(str(error))
            return
        try:
            header = read(data)
        except Malformed as error:
            self.fail(str(error))
            return
        if header is None:
            if not data or mask & SPECIAL:
                self.fail("closed within the header")
            return
        self._client.recv(header.size)
        self._end()
        self._context.poller.unwatch(self._client)
        address = header.origin.source if header.origin else self._address
        try:
            sock = endpoint_socket()
        except OSError as error:
            self._reset(str(error))
            return
        Dial(self._context, self._service, self._client, address, header.origin).start(sock)

    def fail(self, reason: str) -> None:
        """Resets the client."""
        self._end()
        self._reset(reason)

    def _end(self) -> None:
        self._all.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def _reset(self, reason: str) -> None:
        self._service.refused += 1
        log.info("client.no_proxy_header", client=self._address[0], key=self._service.key, reason=reason)
        reset_on_close(self._client)
        self._context.poller.close(self._client)
