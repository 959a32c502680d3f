"""Hands the routing table to the proxy over its unix socket, and hears what it has applied and what it could not."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from common.backoff import Backoff
from common.frames import Delta, FrameWriter, Snapshot
from common.routing import Endpoint, NodeInfo, Route, RoutePort, node_to_json, route_to_json
from common.tasks import apart
from node_agent.hostports import pod_of
from protos import agent_pb2

log = structlog.get_logger()

# A line of the proxy's answer; a table's worth of errors fits.
LINE_BYTES = 16 * 1024 * 1024
# Changes remembered that the proxy has not applied yet.
REVISIONS_KEPT = 10_000

Routes = FrameWriter[dict[str, Any]]


def to_route(service: agent_pb2.ServiceRoute) -> Route:
    """The proxy's form of a service."""
    return Route(
        key=f"{service.namespace}/{service.name}",
        uid=service.uid,
        cluster_ip="" if service.cluster_ip == "None" else service.cluster_ip,
        ports=tuple(
            RoutePort(
                name=port.name,
                port=port.port,
                node_port=port.node_port,
                endpoints=tuple(
                    Endpoint(end.ip, end.port, end.node_name, end.pod, end.hostname) for end in port.endpoints
                ),
                protocol=port.protocol or "TCP",
                send_proxy=port.send_proxy,
                accept_proxy=port.accept_proxy,
            )
            for port in service.ports
        ),
        external_name=service.external_name,
        external_ips=tuple(service.external_ips),
        affinity_seconds=service.affinity_seconds,
        internal_policy=service.internal_policy or "Cluster",
        external_policy=service.external_policy or "Cluster",
        balance=service.balance or "RoundRobin",
        mode=service.mode,
        node_port_addresses=tuple(service.node_port_addresses),
        addresses=tuple(Endpoint(end.ip, end.port, end.node_name, end.pod, end.hostname) for end in service.addresses),
    )


def line(frame: Snapshot[dict[str, Any]] | Delta[dict[str, Any]], node: NodeInfo) -> bytes:
    """One JSON line of the seam to the proxy."""
    body: dict[str, Any] = {"epoch": frame.epoch, "revision": frame.revision}
    if isinstance(frame, Snapshot):
        # The addresses a second time: a proxy of an older version runs until its node is restarted.
        body |= {"node": node_to_json(node), "addresses": list(node.addresses)}
        message = {"snapshot": {**body, "routes": list(frame.items.values())}}
    else:
        upserts, removed = list(frame.upserts.values()), list(frame.removed)
        message = {"delta": {**body, "base": frame.base, "upserts": upserts, "removed": removed}}
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def port_events(
    known: set[tuple[str, str, int, str]], errors: Iterable[Mapping[str, Any]]
) -> tuple[set[tuple[str, str, int, str]], list[agent_pb2.AgentEvent]]:
    """The errors that stand now, and an Event for each that did not before: one that clears may speak again."""
    standing: set[tuple[str, str, int, str]] = set()
    events = []
    for error in errors:
        key, address = str(error["key"]), str(error.get("address", ""))
        port, message = int(error["port"]), str(error["message"])
        identity = (key, address, port, message)
        if identity not in known and identity not in standing:
            events.append(_event(key, str(error.get("uid", "")), address, port, message))
        standing.add(identity)
    return standing, events


def _event(key: str, uid: str, address: str, port: int, message: str) -> agent_pb2.AgentEvent:
    namespace, _, name = key.partition("/")
    event = agent_pb2.AgentEvent(
        type="Warning",
        reason="PortInUse" if "in use" in message.lower() else "PortNotServed",
        message=f"{address}:{port}: {message}" if address and address not in message else message,
    )
    pod = pod_of(key)
    if pod is not None:
        namespace, name = pod
    event.involved.kind = "Service" if pod is None else "Pod"
    event.involved.namespace = namespace
    event.involved.name = name
    event.involved.uid = uid
    event.time.GetCurrentTime()
    return event


class ProxyLink:
    """Keeps the proxy at the latest table. Node ports are opened on the `node`'s addresses.

    `news` is called when the proxy has applied something, or drains something else than before. For up to
    `patience` seconds nothing is said before `use_addresses`: a proxy that serves already would close its node ports
    on addresses that this agent has only not found yet.
    """

    def __init__(
        self,
        socket: Path,
        node: NodeInfo,
        event: Callable[[agent_pb2.AgentEvent], None],
        news: Callable[[], None] = lambda: None,
        *,
        patience: float = 0.0,
    ) -> None:
        self._socket = socket
        self._node = node
        self._event = event
        self._news = news
        self._patience = patience
        self._found = asyncio.Event()
        # Connections to endpoints that have left the table, by IP and port.
        self.draining: Mapping[tuple[str, int], int] = {}
        self._table: Routes = FrameWriter(lambda route: 256, part_bytes=LINE_BYTES * 1000)
        self._here: dict[str, dict[str, Any]] = {}
        self._known = False
        self._changed = asyncio.Event()
        # The proxy needs a complete table next.
        self._resync = True
        # The master's revisions by ours, oldest first, until the proxy has applied them. While it is away the oldest
        # go: when it is back it applies the newest.
        self._revisions: deque[tuple[int, tuple[str, int]]] = deque(maxlen=REVISIONS_KEPT)
        self._standing: set[tuple[str, str, int, str]] = set()
        # Epoch and revision of the master's table that the proxy serves; ("", 0) when none.
        self.applied: tuple[str, int] = ("", 0)
        # Our revision that the proxy has applied.
        self._served = -1
        self.connected = False

    def use_addresses(self, addresses: Iterable[str]) -> None:
        """Opens node ports on these addresses from now on; they travel with a complete table only."""
        self._found.set()
        node = replace(self._node, addresses=tuple(addresses))
        if node != self._node:
            self._node = node
            self._resync = True
            self._changed.set()

    def update(self, items: Mapping[str, agent_pb2.Item], epoch: str, revision: int) -> None:
        """The complete table as the master has it at `revision`; only what differs goes to the proxy."""
        routes = [to_route(item.service) for item in items.values() if item.HasField("service")]
        self._table.replace({**{route.key: route_to_json(route) for route in routes}, **self._here})
        self._note(epoch, revision)

    def change(self, upserts: Iterable[agent_pb2.Item], removed: Iterable[str], epoch: str, revision: int) -> None:
        """What one delta of the master's changed."""
        for item in upserts:
            if item.HasField("service"):
                route = to_route(item.service)
                self._table.put(route.key, route_to_json(route))
        for key in removed:
            if key.startswith("service/"):
                self._table.remove(key.removeprefix("service/"))
        self._note(epoch, revision)

    def open_here(self, route: Route) -> None:
        """One more route, for this node's proxy alone (a pod's host ports); the master's table leaves it alone."""
        self._here[route.key] = route_to_json(route)
        self._table.put(route.key, self._here[route.key])
        self._changed.set()

    def close_here(self, key: str) -> None:
        """The route that `open_here` made, if it is there."""
        if self._here.pop(key, None) is not None:
            self._table.remove(key)
            self._changed.set()

    def _note(self, epoch: str, revision: int) -> None:
        self._known = True
        if self._revisions and self._revisions[-1][0] == self._table.revision:
            # Nothing in it was for the proxy.
            self._revisions.pop()
        self._revisions.append((self._table.revision, (epoch, revision)))
        self._settle(None)
        self._changed.set()

    def _settle(self, served: int | None) -> None:
        """Moves `applied` to what the proxy's revision `served` stands for; None: it is where it was."""
        if served is not None:
            self._served = served
        before = self.applied
        while self._revisions and self._revisions[0][0] <= self._served:
            self.applied = self._revisions.popleft()[1]
        # Of a change that was none for the proxy (a node joined) the next heartbeat tells.
        if served is not None and self.applied != before:
            self._news()

    async def run(self) -> None:
        """Connects and keeps connected until cancelled; the proxy serves its last table in between."""
        backoff = Backoff(0.1, 2.0, jitter=0.2)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._patience):
                await self._found.wait()
        while True:
            try:
                async with asyncio.timeout(5.0):
                    reader, writer = await asyncio.open_unix_connection(str(self._socket), limit=LINE_BYTES)
            except (OSError, TimeoutError) as error:
                log.debug("proxy.away", socket=str(self._socket), cause=str(error))
            else:
                log.info("proxy.connected")
                self.connected = True
                backoff.reset()
                try:
                    await apart("proxy/talk", self._converse(reader, writer))
                except* (OSError, EOFError, ValueError, KeyError, TypeError) as errors:
                    log.warning("proxy.lost", cause=str(errors.exceptions[0]))
                finally:
                    self.connected = False
                    self._drains({})
                    writer.close()
                    with contextlib.suppress(OSError):
                        await writer.wait_closed()
            await asyncio.sleep(next(backoff))

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._resync = True
        async with asyncio.TaskGroup() as group:
            group.create_task(self._send(writer), name="proxy/send")
            group.create_task(self._receive(reader), name="proxy/receive")

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        sent: int | None = None
        self._changed.set()
        while True:
            await self._changed.wait()
            self._changed.clear()
            if not self._known:
                continue
            if self._resync:
                self._resync, sent = False, None
            for frame in self._table.frames(sent):
                writer.write(line(frame, self._node))
                sent = frame.revision
            await writer.drain()

    async def _receive(self, reader: asyncio.StreamReader) -> None:
        while True:
            data = await reader.readline()
            if not data:
                raise EOFError("the proxy closed the connection")
            message = json.loads(data)
            if "resync" in message:
                self._resync = True
                self._changed.set()
            elif "draining" in message:
                places = message["draining"]
                self._drains({(str(ip), int(port)): int(connections) for ip, port, connections in places})
            elif "applied" in message:
                self._applied(message["applied"])

    def _drains(self, draining: Mapping[tuple[str, int], int]) -> None:
        if draining != self.draining:
            self.draining = draining
            self._news()

    def _applied(self, answer: Mapping[str, Any]) -> None:
        if answer["epoch"] == self._table.epoch:
            self._settle(int(answer["revision"]))
        self._standing, events = port_events(self._standing, answer.get("errors", ()))
        for event in events:
            self._event(event)
