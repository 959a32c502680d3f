"""From an accepted connection to a relay: connects to an endpoint, and to the next one when that fails."""

from __future__ import annotations

import asyncio
import errno
import os
import socket

from common.pacing import unpace
from common.routing import Endpoint
from proxy.logs import EventLog
from proxy.poller import OUT, SPECIAL
from proxy.proxyprotocol import Address, Origin, write
from proxy.relay import Relay, RelayContext
from proxy.service import ServicePort
from proxy.sockopts import carry, reset_on_close

log = EventLog("proxy.dialer")

# Seconds a connect may take; each time-out moves one rung on, after the last the client is reset. A refusal costs
# nothing and uses up no rung. The last endpoint to try gets the last rung: there is nobody to turn to, and a lost SYN
# is sent again after 1 s.
LADDER = (0.25, 0.5, 1.0, 2.0)


def endpoint_socket() -> socket.SocketType:
    """A socket for the endpoint's leg. OSError when there are no descriptors."""
    # The type that sockets are made of: without what `socket.socket` adds in Python.
    sock = socket.SocketType(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK, socket.IPPROTO_TCP)
    carry(sock)
    return sock


def dial(
    context: RelayContext, service: ServicePort, client: socket.SocketType, address: Address, sock: socket.SocketType
) -> None:
    """From a client to a relay where that takes no waiting, else to a `Dial`; `sock` comes from `endpoint_socket`."""
    if service.serving.send_proxy:
        Dial(context, service, client, address).start(sock)
        return
    endpoint = service.balancer.pick(context.loop.time(), (), address[0])
    if endpoint is None:
        Dial(context, service, client, address).start(sock)
        return
    result = _connect(sock, endpoint)
    if result:
        Dial(context, service, client, address).begun(sock, endpoint, result)
    else:
        if context.paced:
            unpace(sock)  # who answers within the call is on this machine
        Relay(context, client, sock, service.opened(endpoint).closed).start(0)


def _connect(sock: socket.SocketType, endpoint: Endpoint) -> int:
    """0 when it is connected already, EALREADY while it is not, else why not."""
    place = (endpoint.ip, endpoint.port)
    result = sock.connect_ex(place)
    # On one machine the handshake is done by now, and asking again says so; else that it is under way.
    return sock.connect_ex(place) if result == errno.EINPROGRESS else result


class Dial:
    """One client's search for an endpoint that answers; each endpoint is tried once."""

    __slots__ = (
        "_address", "_client", "_context", "_endpoint", "_origin", "_rung", "_service", "_sock", "_timer", "_tried",
    )  # fmt: skip

    def __init__(
        self,
        context: RelayContext,
        service: ServicePort,
        client: socket.SocketType,
        address: Address,
        origin: Origin | None = None,
    ) -> None:
        """`address` is the client's own; `origin` what a balancer in front told of it and of where it went."""
        self._context = context
        self._service = service
        self._client = client
        self._address = address
        self._origin = origin
        self._tried: tuple[Endpoint, ...] = ()
        self._rung = 0
        self._endpoint: Endpoint | None = None
        self._sock: socket.SocketType | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self, sock: socket.SocketType) -> None:
        """Begins; `sock` comes from `endpoint_socket`, made before the client was accepted."""
        self._context.dialing += 1
        self._next(sock)

    def begun(self, sock: socket.SocketType, endpoint: Endpoint, result: int) -> None:
        """The same when a connect to the first endpoint has been asked for, with this result."""
        self._context.dialing += 1
        self._tried = (endpoint,)
        if not self._settled(sock, endpoint, result):
            self._next(None)

    def _next(self, sock: socket.SocketType | None) -> None:
        now = self._context.loop.time()
        while True:
            balancer = self._service.balancer
            endpoint = balancer.pick(now, self._tried, self._address[0]) if self._rung < len(LADDER) else None
            if endpoint is None:
                self._give_up(sock)
                return
            if self._tried:
                self._service.retries += 1
            self._tried = (*self._tried, endpoint)
            if sock is None:
                try:
                    sock = endpoint_socket()
                except OSError as error:
                    log.error("dial.no_socket", key=self._service.key, error=str(error))
                    balancer.released(endpoint)
                    self._give_up(None)
                    return
            if self._settled(sock, endpoint, _connect(sock, endpoint)):
                return
            sock = None

    def _settled(self, sock: socket.SocketType, endpoint: Endpoint, result: int) -> bool:
        """Goes on with a connect that succeeded or is under way; False when it failed."""
        context = self._context
        if not result:
            self._endpoint, self._sock = endpoint, sock
            self._connected(sock, endpoint, 0)
            return True
        if result in (errno.EALREADY, errno.EINPROGRESS):
            self._endpoint, self._sock = endpoint, sock
            context.poller.watch(sock, self._connecting)
            last = len(self._tried) >= len(self._service.balancer)
            self._timer = context.loop.call_later(LADDER[-1] if last else LADDER[self._rung], self._timed_out)
            return True
        self._service.failed(endpoint, context.loop.time(), os.strerror(result))
        sock.close()
        return False

    def _connecting(self, mask: int) -> None:
        sock, endpoint = self._sock, self._endpoint
        assert sock is not None and endpoint is not None
        if not mask & (OUT | SPECIAL):
            return
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        # Reset means that it was connected before: what the endpoint sent until then belongs to the client.
        if error and error != errno.ECONNRESET:
            self._attempt_failed(os.strerror(error))
            return
        if self._timer is not None:
            self._timer.cancel()
        self._connected(sock, endpoint, mask)

    def _connected(self, sock: socket.SocketType, endpoint: Endpoint, mask: int) -> None:
        """`mask` is what the poller told of the socket; 0: it is not watched yet."""
        if endpoint not in self._service.balancer:
            # Removed meanwhile: who was told that this endpoint is left alone may stop it any moment.
            self._context.poller.close(sock)
            self._sock = None
            self._service.balancer.released(endpoint)
            self._next(None)
            return
        if self._service.serving.send_proxy:
            self._introduce(sock)
        self._context.dialing -= 1
        state = self._service.opened(endpoint)
        Relay(self._context, self._client, sock, state.closed).start(mask)

    def _introduce(self, sock: socket.SocketType) -> None:
        """Tells the endpoint where the client is from; an empty send buffer takes the few bytes at once."""
        try:
            origin = self._origin or Origin(self._address, self._client.getsockname())
            sock.send(write(self._service.serving.send_proxy, origin))
        except OSError as error:
            log.info("dial.not_introduced", key=self._service.key, error=str(error))  # the relay finds out why

    def _timed_out(self) -> None:
        self._rung += 1
        self._attempt_failed("no answer in time")

    def _attempt_failed(self, why: str) -> None:
        sock, endpoint = self._sock, self._endpoint
        assert sock is not None and endpoint is not None
        if self._timer is not None:
            self._timer.cancel()
        self._context.poller.close(sock)
        self._sock = None
        self._service.failed(endpoint, self._context.loop.time(), why)
        self._next(None)

    def _give_up(self, sock: socket.SocketType | None) -> None:
        """Nothing to try: the client learns it at once, by a reset."""
        self._context.dialing -= 1
        self._service.refused += 1
        if sock is not None:
            sock.close()
        reset_on_close(self._client)
        self._context.poller.close(self._client)
