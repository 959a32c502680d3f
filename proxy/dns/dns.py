"""The DNS half of a proxy: a table goes in, names are answered; it can fail without anything else noticing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from common.routing import NodeInfo
from proxy.dns.forward import Forwarder
from proxy.dns.resolvers import RESOLV_CONF, Resolvers
from proxy.dns.responder import Responder
from proxy.dns.server import Server
from proxy.dns.zone import Zone
from proxy.logs import EventLog
from proxy.plan import PortError
from proxy.table import Change, Table

log = EventLog("proxy.dns")

PORT = 53
# The service whose port errors these are, whether it exists or not.
SERVICE = "kube-system/kube-dns"
BIND_RETRY = 1.5


class Dns:
    """Answers at the DNS address of the last table applied; none before the first, none when it names no address.

    Make it inside a running loop. `resolv_conf` says whom to ask for names outside the cluster.
    """

    def __init__(
        self,
        *,
        resolv_conf: Path = RESOLV_CONF,
        port: int = PORT,
        upstream_port: int = PORT,
        on_errors_changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._resolvers = Resolvers(resolv_conf, self._loop.time, upstream_port)
        self._forwarder = Forwarder(self._resolvers)
        self._responder: Responder | None = None
        self._node = NodeInfo()
        self._port = port
        self._server: Server | None = None
        self._stopped: list[Server] = []
        self._error = ""
        self._retry: asyncio.TimerHandle | None = None
        self._closed = False
        self.on_errors_changed = on_errors_changed

    @property
    def responder(self) -> Responder | None:
        """What answers now."""
        return self._responder

    def apply(self, table: Table, change: Change) -> None:
        """Answers from this table before it returns; `change` is how it differs from the table before. Never raises."""
        try:
            self._apply(table, change)
        except Exception as error:  # the boundary: without names, services still work
            log.error("dns.table_failed", exc_info=error, revision=table.revision)
            self._give_up(table.node, f"cannot serve names: {error}")

    def _apply(self, table: Table, change: Change) -> None:
        node = table.node
        if not (node.dns and node.domain):
            self._responder = None
            self._node = node
            self._take_place("")
            return
        if self._responder is None or _identity(node) != _identity(self._node):
            try:
                self._begin(table)
            except ValueError as error:
                self._give_up(node, f"cannot serve names: {error}")
                return
        else:
            for route in change.upserts.values():
                self._responder.zone.put(route)
            for key in change.removed:
                self._responder.zone.remove(key)
        assert self._responder is not None
        self._responder.zone.revision = table.revision
        self._node = node
        self._take_place(node.dns)

    def _begin(self, table: Table) -> None:
        """Everything anew. Raises ValueError for a node whose domain, address or ranges are none."""
        node = table.node
        zone = Zone(node)
        own = [IPv4Network(cidr) for cidr in (f"{node.dns}/32", node.service_cidr) if cidr]
        for route in table.routes.values():
            zone.put(route)
        self._responder = Responder(zone, self._forwarder)
        self._resolvers.exclude(*own)

    def _give_up(self, node: NodeInfo, message: str) -> None:
        """Until the next table, which is then taken in whole."""
        self._responder, self._node = None, node
        self._take_place("")
        self._fail(message)

    def _take_place(self, address: str) -> None:
        if self._closed or (self._server is not None and self._server.place[0] == address):
            return
        if self._server is not None:
            self._server.stop_listening()
            self._stopped.append(self._server)
            self._server = None
        if not address:
            self._error = ""
            return
        try:
            self._server = Server((address, self._port), self._answering)
        except OSError as error:
            self._fail(f"cannot listen on {address}:{self._port}: {(error.strerror or str(error)).lower()}")
            if self._retry is None:
                self._retry = self._loop.call_later(BIND_RETRY, self._try_again)
            return
        self._error = ""
        log.info("dns.open", address=address, port=self._server.place[1])

    def _fail(self, message: str) -> None:
        if message != self._error:
            self._error = message
            log.warning("dns.failed", address=self._node.dns, port=self._port, error=message)

    def _try_again(self) -> None:
        self._retry = None
        before = self._error
        if self._responder is not None:
            self._take_place(self._node.dns)
        if self._error != before:
            self.on_errors_changed()

    def _answering(self) -> Responder:
        assert self._responder is not None  # set as long as a server listens
        return self._responder

    def errors(self) -> list[PortError]:
        """Why names are not answered."""
        if not self._error:
            return []
        return [PortError(SERVICE, "", self._port, self._node.dns, self._error)]

    def status(self) -> dict[str, Any]:
        """For `sampan proxy status`, as JSON data."""
        responder = self._responder
        return {
            "address": self._node.dns,
            "port": self._port,
            "domain": self._node.domain,
            "listening": self._server is not None,
            "error": self._error,
            "services": len(responder.zone) if responder else 0,
            "queries": responder.queries if responder else 0,
            "faulty": responder.faulty if responder else 0,
            "forwarded": self._forwarder.asked,
            "forwardFailures": self._forwarder.failed,
            "resolvers": [address for address, _ in self._resolvers.servers()],
        }

    def stop_listening(self) -> None:
        """Frees the place for another proxy; there is no way back."""
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._server is not None:
            self._server.stop_listening()

    async def close(self) -> None:
        """Ends everything."""
        self.stop_listening()
        for server in (*self._stopped, *([self._server] if self._server else [])):
            await server.close()
        await self._forwarder.close()


def _identity(node: NodeInfo) -> tuple[str, ...]:
    """What the zone is made from; when it changes, the zone is made anew."""
    return node.dns, node.domain, node.service_cidr, node.cluster_cidr
