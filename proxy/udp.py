"""UDP services: a client's datagrams go to one endpoint by a socket of their own, replies leave from the service's."""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import partial

from common.routing import Endpoint
from proxy.logs import EventLog
from proxy.plan import Place
from proxy.proxyprotocol import Address
from proxy.service import ServicePort

log = EventLog("proxy.udp")

# Seconds without a datagram after which a session ends: as conntrack has it, for one that was never answered and one
# that was (net.netfilter.nf_conntrack_udp_timeout and .._timeout_stream).
UNANSWERED_IDLE = 30.0
ANSWERED_IDLE = 180.0
# Sessions of one process, each a descriptor; when there are more, the one idle for longest makes room.
CAPACITY = 4096
DATAGRAMS_PER_TURN = 64
SWEEP = 5.0
LARGEST = 65_535

_Key = tuple[Place, Address]


@dataclass(eq=False, slots=True)
class _Session:
    key: _Key
    service: ServicePort
    front: socket.socket
    back: socket.socket
    endpoint: Endpoint
    moved: float
    answered: bool = False


@dataclass(eq=False)
class Datagrams:
    """All UDP places of a process and their clients' sessions."""

    loop: asyncio.AbstractEventLoop
    capacity: int = CAPACITY
    received: int = 0
    dropped: int = 0
    _services: dict[Place, ServicePort] = field(default_factory=dict)
    _open: dict[Place, list[socket.socket]] = field(default_factory=dict)
    # Longest idle first.
    _sessions: OrderedDict[_Key, _Session] = field(default_factory=OrderedDict)
    _buffer: memoryview = field(default_factory=lambda: memoryview(bytearray(LARGEST)))
    _sweeper: asyncio.TimerHandle | None = None

    @property
    def sessions(self) -> int:
        """Clients that are remembered."""
        return len(self._sessions)

    def assign(self, place: Place, service: ServicePort) -> None:
        """New sessions there go to this service from now on."""
        self._services[place] = service

    def unassign(self, place: Place) -> None:
        self._services.pop(place, None)

    def open(self, place: Place, socks: list[socket.socket]) -> None:
        """Begins to read from the bound sockets of a place."""
        self._open.setdefault(place, []).extend(socks)
        for sock in socks:
            self.loop.add_reader(sock, self._from_clients, place, sock)

    def close(self, place: Place) -> None:
        """Reads no more there; replies to what was read still go out while the sockets are open."""
        for sock in self._open.pop(place, ()):
            self._from_clients(place, sock)
            self.loop.remove_reader(sock)

    def close_all(self) -> None:
        for place in list(self._open):
            self.close(place)

    def end(self) -> None:
        """Forgets all sessions at once."""
        self.close_all()
        while self._sessions:
            self._end(next(iter(self._sessions.values())))
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    def _from_clients(self, place: Place, front: socket.socket) -> None:
        service = self._services.get(place)
        for _ in range(DATAGRAMS_PER_TURN):
            try:
                size, client = front.recvfrom_into(self._buffer)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                continue  # an ICMP answer to a reply: that client is gone
            self.received += 1
            if service is None or not self._forward(place, front, service, client, self._buffer[:size]):
                self.dropped += 1

    def _forward(
        self, place: Place, front: socket.socket, service: ServicePort, client: Address, data: memoryview
    ) -> bool:
        """Sends one client's datagram on; an endpoint that refused earlier ones is left for the next."""
        key = (place, client)
        tried: set[Endpoint] = set()
        while True:
            session = self._sessions.get(key)
            # The endpoint was removed, or the place belongs to another service now: the client moves.
            if session is not None and (session.service is not service or session.endpoint not in service.balancer):
                self._end(session)
                session = None
            if session is None:
                session = self._begin(key, front, service, tried)
                if session is None:
                    service.refused += 1
                    return False
            session.moved = self.loop.time()
            session.front = front
            self._sessions.move_to_end(key)
            try:
                session.back.send(data)
            except (BlockingIOError, InterruptedError):
                return False  # its queue is full: UDP loses what is too much
            except OSError:
                # Refused, which a datagram before this one has found out: this one need not be lost too.
                tried.add(session.endpoint)
                if tried != {session.endpoint}:
                    service.retries += 1
                self._refused(session)
                continue
            return True

    def _begin(self, key: _Key, front: socket.socket, service: ServicePort, tried: set[Endpoint]) -> _Session | None:
        endpoint = service.balancer.pick(self.loop.time(), tried, key[1][0])
        if endpoint is None:
            return None
        if len(self._sessions) >= self.capacity:
            self._end(next(iter(self._sessions.values())))
        back: socket.socket | None = None
        try:
            back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            back.connect((endpoint.ip, endpoint.port))
        except OSError as error:
            log.warning("udp.no_session", key=service.key, error=str(error))
            if back is not None:
                back.close()
            service.balancer.released(endpoint)
            return None
        session = _Session(key, service, front, back, endpoint, self.loop.time())
        self._sessions[key] = session
        self.loop.add_reader(back, partial(self._from_endpoint, session))
        if self._sweeper is None:
            self._sweeper = self.loop.call_later(SWEEP, self._sweep)
        return session

    def _from_endpoint(self, session: _Session) -> None:
        for _ in range(DATAGRAMS_PER_TURN):
            try:
                size = session.back.recv_into(self._buffer)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self._refused(session)
                return
            session.moved = self.loop.time()
            if not session.answered:
                session.answered = True
                session.service.served(session.endpoint)
            self._sessions.move_to_end(session.key)
            try:
                session.front.sendto(self._buffer[:size], session.key[1])
            except OSError:
                self.dropped += 1  # the client's queue is full, or the service is gone

    def _refused(self, session: _Session) -> None:
        session.service.failed(session.endpoint, self.loop.time(), "refused a datagram")
        self._end(session, failed=True)

    def _end(self, session: _Session, *, failed: bool = False) -> None:
        del self._sessions[session.key]
        self.loop.remove_reader(session.back)
        session.back.close()
        if not failed:
            session.service.balancer.released(session.endpoint)

    def _sweep(self) -> None:
        now = self.loop.time()
        for session in list(self._sessions.values()):
            idle = now - session.moved
            if idle < UNANSWERED_IDLE:
                break  # the rest moved later
            if idle >= (ANSWERED_IDLE if session.answered else UNANSWERED_IDLE):
                self._end(session)
        self._sweeper = self.loop.call_later(SWEEP, self._sweep) if self._sessions else None
