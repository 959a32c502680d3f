"""The routing table as it passes from agent to proxy: plain data, JSON on the wire, no sockets.

A field that has its default is left out of the JSON, so that a table of many plain services stays small and an older
table on disk stays readable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, order=True)
class Endpoint:
    """Where one pod serves one port: IPv4 address and port. What else is known of it does not make it another one."""

    ip: str
    port: int
    node: str = field(default="", compare=False)
    pod: str = field(default="", compare=False)
    # The pod's own name in a headless service's domain, where it has one.
    hostname: str = field(default="", compare=False)


@dataclass(frozen=True)
class RoutePort:
    """One port of a service: `port` on the service's addresses, `node_port` (0: none) on the node's."""

    name: str
    port: int
    node_port: int
    endpoints: tuple[Endpoint, ...]
    protocol: str = "TCP"
    # PROXY protocol towards the endpoints: "", "v1" or "v2"; and whether one is expected from clients.
    send_proxy: str = ""
    accept_proxy: bool = False


@dataclass(frozen=True)
class Route:
    """One service: `key` is "namespace/name"; `cluster_ip` is empty or "None" for a headless service."""

    key: str
    uid: str
    cluster_ip: str
    ports: tuple[RoutePort, ...]
    # The name an ExternalName service stands for; such a service has no addresses and no ports.
    external_name: str = ""
    external_ips: tuple[str, ...] = ()
    # Seconds a client stays with its endpoint; 0: no session affinity.
    affinity_seconds: int = 0
    # "Local": only endpoints of this node, for clients inside (cluster IP) and outside (node port, external IP).
    internal_policy: str = "Cluster"
    external_policy: str = "Cluster"
    # "RoundRobin" or "LeastConnections".
    balance: str = "RoundRobin"
    # "asyncio" or "nftables"; empty: the node's own default.
    mode: str = ""
    # Addresses or networks of the node that node ports are bound on; empty: all of the node's.
    node_port_addresses: tuple[str, ...] = ()
    # Of a headless service without ports: who answers to its name; their ports are 0.
    addresses: tuple[Endpoint, ...] = ()


@dataclass(frozen=True)
class NodeInfo:
    """Whose table this is: the node, the cluster's ranges, and the DNS address and domain (empty: no DNS)."""

    name: str = ""
    addresses: tuple[str, ...] = ()
    pod_cidr: str = ""
    cluster_cidr: str = ""
    service_cidr: str = ""
    dns: str = ""
    domain: str = ""
    # "asyncio" or "nftables": the data plane of services that name none.
    mode: str = "asyncio"


_NODE_FIELDS = (
    ("name", "name"),
    ("addresses", "addresses"),
    ("podCIDR", "pod_cidr"),
    ("clusterCIDR", "cluster_cidr"),
    ("serviceCIDR", "service_cidr"),
    ("dns", "dns"),
    ("domain", "domain"),
    ("mode", "mode"),
)
_ROUTE_FIELDS = (
    ("externalName", "external_name"),
    ("externalIPs", "external_ips"),
    ("affinitySeconds", "affinity_seconds"),
    ("internalPolicy", "internal_policy"),
    ("externalPolicy", "external_policy"),
    ("balance", "balance"),
    ("mode", "mode"),
    ("nodePortAddresses", "node_port_addresses"),
)
_PORT_FIELDS = (("sendProxy", "send_proxy"), ("acceptProxy", "accept_proxy"))
_PLAIN_NODE = NodeInfo()
_PLAIN_ROUTE = Route("", "", "", ())
_PLAIN_PORT = RoutePort("", 0, 0, ())


def node_to_json(node: NodeInfo) -> dict[str, Any]:
    """A JSON object that `node_from_json` reads back equal."""
    return _unusual(node, _PLAIN_NODE, _NODE_FIELDS)


def node_from_json(data: Mapping[str, Any]) -> NodeInfo:
    """Reads what `node_to_json` wrote; TypeError or ValueError when it is something else."""
    return NodeInfo(
        name=str(data.get("name", "")),
        addresses=tuple(str(address) for address in data.get("addresses", ())),
        pod_cidr=str(data.get("podCIDR", "")),
        cluster_cidr=str(data.get("clusterCIDR", "")),
        service_cidr=str(data.get("serviceCIDR", "")),
        dns=str(data.get("dns", "")),
        domain=str(data.get("domain", "")),
        mode=str(data.get("mode", "asyncio")),
    )


def route_to_json(route: Route) -> dict[str, Any]:
    """A JSON object that `route_from_json` reads back equal."""
    data: dict[str, Any] = {"key": route.key, "uid": route.uid, "clusterIP": route.cluster_ip}
    data |= _unusual(route, _PLAIN_ROUTE, _ROUTE_FIELDS)
    data["ports"] = [
        {
            "name": port.name,
            "protocol": port.protocol,
            "port": port.port,
            "nodePort": port.node_port,
            **_unusual(port, _PLAIN_PORT, _PORT_FIELDS),
            "endpoints": [_endpoint_to_json(endpoint) for endpoint in port.endpoints],
        }
        for port in route.ports
    ]
    if route.addresses:
        data["addresses"] = [_endpoint_to_json(endpoint) for endpoint in route.addresses]
    return data


def _unusual(value: object, plain: object, fields: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    found = {name: getattr(value, attribute) for name, attribute in fields}
    usual = {name: getattr(plain, attribute) for name, attribute in fields}
    return {
        name: list(item) if isinstance(item, tuple) else item for name, item in found.items() if item != usual[name]
    }


def _endpoint_to_json(endpoint: Endpoint) -> list[Any]:
    data = [endpoint.ip, endpoint.port, endpoint.node, endpoint.pod, endpoint.hostname]
    while data[-1] == "":
        data.pop()
    return data


def route_from_json(data: Mapping[str, Any]) -> Route:
    """Reads what `route_to_json` wrote; KeyError, TypeError or ValueError when it is something else."""
    return Route(
        key=str(data["key"]),
        uid=str(data["uid"]),
        cluster_ip=str(data["clusterIP"]),
        ports=tuple(_port_from_json(port) for port in data["ports"]),
        external_name=str(data.get("externalName", "")),
        external_ips=tuple(str(ip) for ip in data.get("externalIPs", ())),
        affinity_seconds=int(data.get("affinitySeconds", 0)),
        internal_policy=str(data.get("internalPolicy", "Cluster")),
        external_policy=str(data.get("externalPolicy", "Cluster")),
        balance=str(data.get("balance", "RoundRobin")),
        mode=str(data.get("mode", "")),
        node_port_addresses=tuple(str(address) for address in data.get("nodePortAddresses", ())),
        addresses=tuple(_endpoint_from_json(item) for item in data.get("addresses", ())),
    )


def _port_from_json(data: Mapping[str, Any]) -> RoutePort:
    return RoutePort(
        name=str(data["name"]),
        port=int(data["port"]),
        node_port=int(data["nodePort"]),
        endpoints=tuple(_endpoint_from_json(item) for item in data["endpoints"]),
        protocol=str(data["protocol"]),
        send_proxy=str(data.get("sendProxy", "")),
        accept_proxy=bool(data.get("acceptProxy", False)),
    )


def _endpoint_from_json(data: list[Any]) -> Endpoint:
    ip, port, *rest = data
    node, pod, hostname = (*rest, "", "", "")[:3]
    return Endpoint(str(ip), int(port), str(node), str(pod), str(hostname))
