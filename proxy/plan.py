"""What a table asks of the data plane in user space: places to listen on and who serves them; pure and incremental.

A change costs what it changes: the planner keeps who claims which place, and answers with the moves alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import NamedTuple

from common.routing import Endpoint, NodeInfo, Route, RoutePort
from proxy.table import Change, Table


class Place(NamedTuple):
    """Where one socket listens."""

    address: str
    port: int
    protocol: str = "TCP"


class PortKey(NamedTuple):
    """One service port's identity. `outside`: what clients from outside get, where that is not what all get."""

    key: str
    port: int
    protocol: str = "TCP"
    outside: bool = False


@dataclass(frozen=True)
class Serving:
    """What one service port is served with."""

    name: str
    uid: str
    endpoints: tuple[Endpoint, ...]
    send_proxy: str = ""
    accept_proxy: bool = False
    affinity_seconds: int = 0
    balance: str = "RoundRobin"


@dataclass(frozen=True)
class PortError:
    """Why a port is not served; `address` is where it would have been."""

    key: str
    uid: str
    port: int
    address: str
    message: str


@dataclass(frozen=True)
class Moves:
    """What changes: places opened, given to another service port or closed, service ports set or gone."""

    listen: Mapping[Place, PortKey]
    unlisten: tuple[Place, ...]
    serve: Mapping[PortKey, Serving]
    unserve: tuple[PortKey, ...]


class _Planned(NamedTuple):
    claims: Mapping[Place, PortKey]
    services: Mapping[PortKey, Serving]
    errors: tuple[PortError, ...]


InKernel = Callable[[Route, NodeInfo], bool]


def by_mode(route: Route, node: NodeInfo) -> bool:
    """Whether the kernel serves the route: its own wish, else the node's."""
    return (route.mode or node.mode) == "nftables"


class Planner:
    """Follows a table. Two services on one place: the first by key has it, the other is an error, until it goes."""

    def __init__(self, in_kernel: InKernel = by_mode, *, also_empty: bool = False) -> None:
        """`in_kernel` says which services somebody else serves: they get no place here. `also_empty`: a service port
        without endpoints has its places too, for a data plane that must refuse by itself."""
        self._in_kernel = in_kernel
        self._also_empty = also_empty
        self._node = NodeInfo()
        self._planned: dict[str, _Planned] = {}
        self._claims: dict[Place, dict[PortKey, None]] = {}
        self._faulty: dict[str, None] = {}
        self._contested: dict[Place, None] = {}
        self.listeners: dict[Place, PortKey] = {}
        self.services: dict[PortKey, Serving] = {}

    def update(self, table: Table, change: Change) -> Moves:
        """The moves that a change of the table (which has it already) asks for."""
        upserts: Mapping[str, Route] = change.upserts
        if change.whole and table.node != self._node:
            self._node = table.node
            upserts = table.routes
        touched: set[Place] = set()
        serve: dict[PortKey, Serving] = {}
        unserve: dict[PortKey, None] = {}
        for key in change.removed:
            self._replace(key, None, touched, serve, unserve)
        for key, route in upserts.items():
            planned = plan_route(route, self._node, self._in_kernel, also_empty=self._also_empty)
            self._replace(key, planned, touched, serve, unserve)
        listen: dict[Place, PortKey] = {}
        unlisten: list[Place] = []
        for place in touched:
            self._settle(place, listen, unlisten)
        return Moves(listen, tuple(unlisten), serve, tuple(unserve))

    def _replace(
        self,
        key: str,
        new: _Planned | None,
        touched: set[Place],
        serve: dict[PortKey, Serving],
        unserve: dict[PortKey, None],
    ) -> None:
        nothing = _Planned({}, {}, ())
        old = self._planned.pop(key, nothing)
        if new is not None:
            self._planned[key] = new
        new = new or nothing
        for place, port in old.claims.items():
            if new.claims.get(place) != port:
                touched.add(place)
                claims = self._claims[place]
                del claims[port]
                if not claims:
                    del self._claims[place]
        for place, port in new.claims.items():
            if old.claims.get(place) != port:
                touched.add(place)
                self._claims.setdefault(place, {})[port] = None
        for port in old.services:
            if port not in new.services:
                del self.services[port]
                unserve[port] = None
        for port, serving in new.services.items():
            if old.services.get(port) != serving:
                self.services[port] = serve[port] = serving
                unserve.pop(port, None)
        if new.errors:
            self._faulty[key] = None
        else:
            self._faulty.pop(key, None)

    def _settle(self, place: Place, listen: dict[Place, PortKey], unlisten: list[Place]) -> None:
        claims = self._claims.get(place)
        if not claims:
            self._contested.pop(place, None)
            if self.listeners.pop(place, None) is not None:
                unlisten.append(place)
            return
        if len(claims) > 1:
            self._contested[place] = None
        else:
            self._contested.pop(place, None)
        holder = min(claims)
        if self.listeners.get(place) != holder:
            self.listeners[place] = listen[place] = holder

    def errors(self) -> list[PortError]:
        """What cannot be served however the sockets are; in the order of keys."""
        found = [error for key in self._faulty for error in self._planned[key].errors]
        for place in self._contested:
            holder = self.listeners[place]
            for port in self._claims[place]:
                if port != holder:
                    uid = self._planned[port.key].services[port].uid
                    message = f"{place.address}:{place.port} belongs to service {holder.key} already"
                    found.append(PortError(port.key, uid, place.port, place.address, message))
        return sorted(found, key=lambda error: (error.key, error.port, error.address))

    def error_at(self, place: Place, message: str) -> PortError:
        """The error of a place in the plan that could not be opened."""
        holder = self.listeners[place]
        return PortError(holder.key, self.services[holder].uid, place.port, place.address, message)


def plan_route(route: Route, node: NodeInfo, in_kernel: InKernel = by_mode, *, also_empty: bool = False) -> _Planned:
    """What one service asks for on this node.

    A port without endpoints gets no listener: the kernel refuses connections better than a program can. Only
    specific addresses are bound: the whole service range is local to the node, so 0.0.0.0 would take every service's
    port.
    """
    claims: dict[Place, PortKey] = {}
    services: dict[PortKey, Serving] = {}
    errors: list[PortError] = []
    if route.external_name or in_kernel(route, node):
        return _Planned(claims, services, ())
    inside = [route.cluster_ip] if route.cluster_ip and route.cluster_ip != "None" else []
    node_addresses = node_port_addresses(route, node)
    for port in route.ports:
        if port.protocol not in ("TCP", "UDP"):
            message = f"protocol {port.protocol} is not served"
            errors.append(PortError(route.key, route.uid, port.port, route.cluster_ip, message))
            continue
        shared = PortKey(route.key, port.port, port.protocol)
        outside = shared._replace(outside=True) if route.internal_policy != route.external_policy else shared
        for key, policy in ((shared, route.internal_policy), (outside, route.external_policy)):
            if key not in services:
                services[key] = _serving(route, port, _chosen(port.endpoints, policy, node))
        wanted = [(Place(address, port.port, port.protocol), shared) for address in inside]
        wanted += [(Place(address, port.port, port.protocol), outside) for address in route.external_ips]
        if port.node_port:
            wanted += [(Place(address, port.node_port, port.protocol), outside) for address in node_addresses]
        for place, key in wanted:
            if services[key].endpoints or also_empty:
                claims.setdefault(place, key)
    return _Planned(claims, services, tuple(errors))


def node_port_addresses(route: Route, node: NodeInfo) -> list[str]:
    """The node's addresses that the route's node ports are opened on."""
    if not route.node_port_addresses:
        return list(dict.fromkeys(node.addresses))
    networks = [IPv4Network(network, strict=False) for network in route.node_port_addresses]
    return [a for a in dict.fromkeys(node.addresses) if any(IPv4Address(a) in network for network in networks)]


def _chosen(endpoints: Iterable[Endpoint], policy: str, node: NodeInfo) -> tuple[Endpoint, ...]:
    if policy != "Local":
        return tuple(endpoints)
    return tuple(endpoint for endpoint in endpoints if node.name and endpoint.node == node.name)


def _serving(route: Route, port: RoutePort, endpoints: tuple[Endpoint, ...]) -> Serving:
    return Serving(
        name=port.name or str(port.port),
        uid=route.uid,
        endpoints=endpoints,
        send_proxy=port.send_proxy if port.protocol == "TCP" else "",
        accept_proxy=port.accept_proxy and port.protocol == "TCP",
        affinity_seconds=route.affinity_seconds,
        balance=route.balance,
    )
