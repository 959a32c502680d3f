"""One data plane in user space: a table goes in, listeners and balancers follow, and what happens can be looked at."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from common.looplag import LoopLag
from common.routing import NodeInfo
from proxy.balancer import Share
from proxy.listener import Listeners
from proxy.logs import EventLog
from proxy.plan import InKernel, Moves, Place, Planner, PortError, PortKey, by_mode
from proxy.poller import Poller
from proxy.relay import RelayContext
from proxy.service import Drains, ServicePort
from proxy.sockets import Sockets
from proxy.table import Delta, Resync, Table
from proxy.udp import Datagrams

log = EventLog("proxy.server")

DRAIN_POLL = 0.02


class SocketSource(Protocol):
    """Where listening sockets come from: opened here (`Sockets`) or in another process (`Given`)."""

    @property
    def errors(self) -> Mapping[Place, str]: ...

    on_open: Callable[[Place, list[Any]], None]
    on_close: Callable[[Place], None]
    on_errors: Callable[[], None]

    def want(self, added: Mapping[Place, bool], removed: Iterable[Place]) -> None: ...
    def close(self) -> None: ...


class Commons(Protocol):
    """What several data planes of one node share of their service ports."""

    def get(self, key: PortKey) -> Share | None: ...
    def forget(self, key: PortKey) -> None: ...


class Proxy:
    """Serves the last table applied; before the first it listens on nothing. Make it inside a running loop."""

    def __init__(
        self,
        *,
        half_close_idle: float = 3600.0,
        sockets: SocketSource | None = None,
        in_kernel: InKernel = by_mode,
        commons: Commons | None = None,
    ) -> None:
        """`half_close_idle`: seconds without a byte after which a half-closed connection is reset.

        `commons`: what this one has in common with other workers, whose turns are its turns.
        """
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._poller = Poller(loop)
        self._context = RelayContext(loop, self._poller, half_close_idle)
        self._context.start_sweeping()
        self._listeners = Listeners(self._poller, self._context)
        self._datagrams = Datagrams(loop)
        self._sockets: SocketSource = sockets if sockets is not None else Sockets(loop)
        self._sockets.on_open = self._opened
        self._sockets.on_close = self._closing
        self._sockets.on_errors = lambda: self.on_errors_changed()
        self._services: dict[PortKey, ServicePort] = {}
        self._planner = Planner(in_kernel)
        self._commons = commons
        self._lag = LoopLag(loop)
        self._lag.start()
        self._table: Table | None = None
        self._started = time.time()
        self.drains = Drains(lambda: self.on_draining())
        self.on_errors_changed: Callable[[], None] = lambda: None
        self.on_draining: Callable[[], None] = lambda: None
        self.on_applied: Callable[[], None] = lambda: None

    @property
    def table(self) -> Table | None:
        """The table that is served."""
        return self._table

    @property
    def applied(self) -> tuple[str, int]:
        """Epoch and revision that are served."""
        return (self._table.epoch, self._table.revision) if self._table else ("", 0)

    def apply(self, table: Table, line: bytes = b"") -> None:
        """Makes listeners and balancers follow the table before it returns; established connections stay."""
        change = table.since(self._table)
        self._table = table
        self._move(self._planner.update(table, change))
        self.on_applied()

    def change(self, delta: Delta, line: bytes = b"") -> None:
        """The same for what changed in the table. Raises Resync."""
        if self._table is None:
            raise Resync("there is no table yet")
        self._move(self._planner.update(self._table, self._table.follow(delta)))
        self.on_applied()

    def _move(self, moves: Moves) -> None:
        for key, serving in moves.serve.items():
            service = self._services.get(key)
            share = self._commons.get(key) if self._commons is not None else None
            if service is None:
                self._services[key] = ServicePort(key, serving, self.drains, share)
            else:
                service.update(serving, share)
        added: dict[Place, bool] = {}
        for place, key in moves.listen.items():
            service = self._services[key]
            (self._datagrams if place.protocol == "UDP" else self._listeners).assign(place, service)
            added[place] = bool(service.serving.affinity_seconds)
        self._sockets.want(added, moves.unlisten)
        for place in moves.unlisten:
            (self._datagrams if place.protocol == "UDP" else self._listeners).unassign(place)
        for key in moves.unserve:
            self._services.pop(key).withdraw()
            if self._commons is not None:
                self._commons.forget(key)

    def _opened(self, place: Place, socks: list[Any]) -> None:
        (self._datagrams if place.protocol == "UDP" else self._listeners).open(place, socks)

    def _closing(self, place: Place) -> None:
        (self._datagrams if place.protocol == "UDP" else self._listeners).close(place)

    def errors(self) -> list[PortError]:
        """What of the table is not served, and why."""
        found = self._planner.errors()
        found += [self._planner.error_at(place, message) for place, message in sorted(self._sockets.errors.items())]
        return found

    def draining(self) -> list[tuple[str, int, int]]:
        """Address, port and number of connections that removed endpoints still have."""
        return self.drains.counts()

    async def full_status(self) -> dict[str, Any]:
        return self.status()

    def status(self) -> dict[str, Any]:
        """Everything for `sampan proxy status`, as JSON data."""
        now = self._loop.time()
        table = self._table
        return {
            "epoch": table.epoch if table else "",
            "revision": table.revision if table else 0,
            "complete": table is not None,
            "node": (table.node if table else NodeInfo()).name,
            "startedAt": self._started,
            "listeners": [
                {
                    "address": place.address,
                    "port": place.port,
                    "protocol": place.protocol,
                    "key": key.key,
                    "service_port": self._services[key].port_name,
                    "error": self._sockets.errors.get(place, ""),
                }
                for place, key in sorted(self._planner.listeners.items())
            ],
            "services": [service.status(now) for _, service in sorted(self._services.items())],
            "counters": self._counters(),
            "loopLag": self._lag.seconds.to_json(),
        }

    async def counted(self) -> dict[str, Any]:
        """The figures for `proxy.metrics`: what a status says, counted, so that a scrape costs little."""
        table = self._table
        return {
            **self.tallies(),
            "revision": table.revision if table else 0,
            "complete": table is not None,
            "listening": len(self._planner.listeners),
            "failing": len(self.errors()),
            "servicePorts": len(self._planner.services),
            "endpoints": sum(len(serving.endpoints) for serving in self._planner.services.values()),
        }

    def tallies(self) -> dict[str, Any]:
        """The part of it that each worker has for itself."""
        return {
            "startedAt": self._started,
            "services": [],
            "counters": self._counters(),
            "loopLag": self._lag.seconds.to_json(),
        }

    def _counters(self) -> dict[str, int]:
        context = self._context
        services = self._services.values()
        return {
            "accepted": self._listeners.accepted,
            "open": len(context.open),
            "connecting": context.dialing + self._listeners.opening,
            "bytesIn": context.bytes_in + sum(relay.client.received for relay in context.open),
            "bytesOut": context.bytes_out + sum(relay.endpoint.received for relay in context.open),
            "failures": sum(service.failures for service in services),
            "retries": sum(service.retries for service in services),
            "refused": sum(service.refused for service in services),
            "datagrams": self._datagrams.received,
            "datagramsDropped": self._datagrams.dropped,
            "sessions": self._datagrams.sessions,
        }

    @property
    def busy(self) -> int:
        """Connections that are established or being made."""
        return len(self._context.open) + self._context.dialing + self._listeners.opening

    def stop_listening(self) -> None:
        """Accepts no more: what waits is still taken in, established connections go on. Sockets of one's own close."""
        self._listeners.close_all()
        self._datagrams.close_all()
        self._sockets.close()

    async def drain(self, timeout: float) -> int:
        """Waits until no connection is left, at most `timeout` seconds; resets the rest and returns their number."""
        limit = self._loop.time() + timeout
        while self.busy and self._loop.time() < limit:  # noqa: ASYNC110
            # Polled: an event would cost something at every connection's end, this only at the proxy's.
            await asyncio.sleep(DRAIN_POLL)
        left = list(self._context.open)
        for relay in left:
            relay.abort()
        self._listeners.abort_openings()
        return len(left)

    def close(self) -> None:
        """Closes everything at once."""
        self.stop_listening()
        self._lag.close()
        self._listeners.abort_openings()
        for relay in list(self._context.open):
            relay.abort()
        self._datagrams.end()
        self._context.pipes.close()
        self._poller.shut()
