"""The routing table as the proxy holds it: complete sets and chained changes, checked before anything is touched; pure.

What is to be listened on because of it is `proxy.plan`'s to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from typing import Any

from common.routing import NodeInfo, Route, node_from_json, node_to_json, route_from_json, route_to_json

_PROXY_VERSIONS = ("", "v1", "v2")


class Resync(Exception):
    """A delta does not follow from the table that is held; a snapshot is needed. The table is as it was."""


class BadTable(ValueError):
    """A message that no agent should send; says which part. The table is as it was."""


@dataclass(frozen=True)
class Delta:
    """What changed from revision `base` to `revision`; checked, not yet applied."""

    epoch: str
    base: int
    revision: int
    upserts: tuple[Route, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """What one step made different. `whole`: the node too may differ, and `removed` is complete."""

    upserts: Mapping[str, Route]
    removed: tuple[str, ...]
    whole: bool = False


@dataclass
class Table:
    """The table: the node it is for and the routes by key. It follows deltas in place, so that a change costs what it
    changes and not what there is; the routes themselves are never changed, only replaced."""

    epoch: str
    revision: int
    node: NodeInfo = field(default_factory=NodeInfo)
    routes: dict[str, Route] = field(default_factory=dict)

    def follow(self, delta: Delta) -> Change:
        """Applies a delta. Raises Resync, with nothing changed, when it builds on another table."""
        if self.epoch != delta.epoch or self.revision != delta.base:
            held = f"{self.epoch}/{self.revision}"
            raise Resync(f"delta builds on {delta.epoch}/{delta.base}, this proxy holds {held}")
        upserts = {route.key: route for route in delta.upserts}
        removed = tuple(key for key in delta.removed if key in self.routes or key in upserts)
        self.routes.update(upserts)
        for key in removed:
            self.routes.pop(key, None)
            upserts.pop(key, None)
        self.revision = delta.revision
        return Change(upserts, removed)

    def since(self, older: Table | None) -> Change:
        """What it takes to come here from another table, or from none."""
        before: Mapping[str, Route] = older.routes if older is not None else {}
        upserts = {key: route for key, route in self.routes.items() if not _same(before.get(key), route)}
        return Change(upserts, tuple(key for key in before if key not in self.routes), whole=True)


def _same(old: Route | None, new: Route) -> bool:
    """Endpoints are equal by address and port; here their nodes and names count too."""
    if old is new:
        return True
    if old is None or old != new:
        return False
    ends = ((before.endpoints, after.endpoints) for before, after in zip(old.ports, new.ports, strict=True))
    return all(
        (a.node, a.pod, a.hostname) == (b.node, b.pod, b.hostname)
        for before, after in (*ends, (old.addresses, new.addresses))
        for a, b in zip(before, after, strict=True)
    )


def _address(text: object, where: str) -> str:
    try:
        return str(IPv4Address(str(text)))
    except AddressValueError as error:
        raise BadTable(f"{where}: must be an IPv4 address, got {text!r}") from error


def _network(text: str, where: str) -> None:
    try:
        IPv4Network(text, strict=False)
    except ValueError as error:
        raise BadTable(f"{where}: must be IPv4 addresses or networks, got {text!r}") from error


def _port(number: int, where: str) -> None:
    if not 1 <= number <= 65535:
        raise BadTable(f"{where}: must be 1-65535, got {number}")


def read_route(data: object) -> Route:
    """A checked route; BadTable names the field that is wrong."""
    if not isinstance(data, Mapping):
        raise BadTable(f"route: must be an object, got {type(data).__name__}")
    try:
        route = route_from_json(data)
    except (KeyError, TypeError, ValueError) as error:
        raise BadTable(f"route {data.get('key')!r}: {type(error).__name__}: {error}") from error
    if route.cluster_ip and route.cluster_ip != "None":
        _address(route.cluster_ip, f"{route.key}.clusterIP")
    for address in route.external_ips:
        _address(address, f"{route.key}.externalIPs")
    for network in route.node_port_addresses:
        _network(network, f"{route.key}.nodePortAddresses")
    for index, port in enumerate(route.ports):
        where = f"{route.key}.ports[{index}]"
        _port(port.port, f"{where}.port")
        if port.node_port:
            _port(port.node_port, f"{where}.nodePort")
        if port.send_proxy not in _PROXY_VERSIONS:
            raise BadTable(f'{where}.sendProxy: must be "v1" or "v2", got {port.send_proxy!r}')
        for endpoint in port.endpoints:
            _address(endpoint.ip, f"{where}.endpoints")
            _port(endpoint.port, f"{where}.endpoints")
    for endpoint in route.addresses:
        _address(endpoint.ip, f"{route.key}.addresses")
    return route


def read_snapshot(data: Mapping[str, Any]) -> Table:
    """The table a snapshot holds. An older agent's has `addresses` in place of `node`. Raises BadTable."""
    try:
        epoch, revision = str(data["epoch"]), int(data["revision"])
        if "node" in data:
            node = node_from_json(data["node"])
        else:
            node = NodeInfo(addresses=tuple(str(address) for address in data["addresses"]))
        routes = [read_route(item) for item in data["routes"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise BadTable(f"snapshot: {type(error).__name__}: {error}") from error
    for address in node.addresses:
        _address(address, "addresses")
    for cidr, where in ((node.pod_cidr, "podCIDR"), (node.service_cidr, "serviceCIDR")):
        if cidr:
            _network(cidr, where)
    return Table(epoch, revision, node, {route.key: route for route in routes})


def read_delta(data: Mapping[str, Any]) -> Delta:
    """A checked delta. Raises BadTable."""
    try:
        return Delta(
            epoch=str(data["epoch"]),
            base=int(data["base"]),
            revision=int(data["revision"]),
            upserts=tuple(read_route(item) for item in data["upserts"]),
            removed=tuple(str(key) for key in data["removed"]),
        )
    except (KeyError, TypeError) as error:
        raise BadTable(f"delta: {type(error).__name__}: {error}") from error


def read_step(table: Table, data: Mapping[str, Any]) -> Table:
    """Another complete table, told by what differs from this one, which stays as it is. Raises BadTable."""
    try:
        routes = dict(table.routes)
        for key in data["removed"]:
            routes.pop(str(key), None)
        for item in data["upserts"]:
            route = read_route(item)
            routes[route.key] = route
        return Table(str(data["epoch"]), int(data["revision"]), node_from_json(data["node"]), routes)
    except (KeyError, TypeError, AttributeError) as error:
        raise BadTable(f"step: {type(error).__name__}: {error}") from error


def table_to_json(table: Table) -> dict[str, Any]:
    """What `read_snapshot` reads back equal."""
    return {
        "epoch": table.epoch,
        "revision": table.revision,
        "node": node_to_json(table.node),
        "routes": [route_to_json(route) for route in table.routes.values()],
    }
