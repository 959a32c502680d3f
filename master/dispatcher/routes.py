"""The routing table of the cluster, computed once for all nodes: services with ready endpoints, and the nodes.

A pod that is Terminating is left out from the moment it is known, whatever its Endpoints still say.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Any

from common.frames import FrameWriter
from master import traffic
from protos import agent_pb2, core_pb2

Name = tuple[str, str]
Place = tuple[str, int]


@dataclass(frozen=True)
class Departure:
    """A pod's last exit from the table: the first revision without it, and every place (IP, port) it ever had there."""

    revision: int
    places: frozenset[Place]


def service_route(
    service: core_pb2.Service, endpoints: core_pb2.Endpoints | None, leaving: Container[str] = ()
) -> agent_pb2.ServiceRoute:
    """A service's ports, each with the ready endpoints of the port of that name and protocol in its Endpoints.

    `leaving` has the uids of pods that get no traffic any more. A service without endpoints keeps its ports: the
    proxy refuses there at once. Of a headless service without ports the addresses count, for its names.
    """
    spec, meta = service.spec, service.metadata
    route = agent_pb2.ServiceRoute(namespace=meta.namespace, name=meta.name, uid=meta.uid)
    if spec.type == "ExternalName":
        route.external_name = spec.externalName.removesuffix(".")
        return route
    # What is wrong with an annotation was refused at the door; of an object older than the rules it counts as unsaid.
    said, _ = traffic.read_service(service)
    outside = spec.type in ("NodePort", "LoadBalancer")
    route.cluster_ip = spec.clusterIP
    route.external_ips.extend(spec.externalIPs)
    route.affinity_seconds = traffic.affinity_seconds(service)
    route.internal_policy = "Local" if spec.internalTrafficPolicy == "Local" else ""
    route.external_policy = "Local" if spec.externalTrafficPolicy == "Local" else ""
    route.balance = said.balance if said.balance != "RoundRobin" else ""
    route.mode = said.mode
    route.node_port_addresses.extend(said.node_port_addresses)
    for port in spec.ports:
        key = (port.port, port.protocol or "TCP")
        found = _endpoints(port.name, key[1], endpoints, leaving)
        route.ports.add(
            name=port.name,
            protocol=key[1],
            port=port.port,
            node_port=port.nodePort if outside else 0,
            endpoints=sorted(found, key=lambda end: (end.ip, end.port)),
            send_proxy=said.send_proxy.get(key, ""),
            accept_proxy=key in said.accept_proxy,
        )
    if not spec.ports:
        addresses = {
            address.ip: _endpoint(address, 0)
            for subset in (endpoints.subsets if endpoints is not None else ())
            for address in subset.addresses
            if address.targetRef.uid not in leaving
        }
        route.addresses.extend(sorted(addresses.values(), key=lambda end: end.ip))
    return route


def _endpoints(
    name: str, protocol: str, endpoints: core_pb2.Endpoints | None, leaving: Container[str]
) -> Iterable[agent_pb2.RouteEndpoint]:
    seen: set[Place] = set()
    for subset in endpoints.subsets if endpoints is not None else ():
        for port in subset.ports:
            if port.name != name or (port.protocol or "TCP") != protocol:
                continue
            for address in subset.addresses:
                if (address.ip, port.port) in seen or address.targetRef.uid in leaving:
                    continue
                seen.add((address.ip, port.port))
                yield _endpoint(address, port.port)


def _endpoint(address: core_pb2.EndpointAddress, port: int) -> agent_pb2.RouteEndpoint:
    return agent_pb2.RouteEndpoint(
        ip=address.ip,
        port=port,
        node_name=address.nodeName,
        pod=address.targetRef.name,
        hostname=address.hostname,
    )


def pods_of(endpoints: core_pb2.Endpoints | None) -> dict[str, frozenset[Place]]:
    """The pods (uid) that may be sent traffic by an Endpoints, and where each of them takes it."""
    found: dict[str, set[Place]] = {}
    for subset in endpoints.subsets if endpoints is not None else ():
        for address in subset.addresses:
            if address.targetRef.uid:
                places = found.setdefault(address.targetRef.uid, set())
                places.update((address.ip, port.port) for port in subset.ports)
    return {uid: frozenset(places) for uid, places in found.items()}


def _terminating(pod: core_pb2.Pod) -> bool:
    return pod.metadata.HasField("deletionTimestamp")


def peer_node(node: core_pb2.Node) -> agent_pb2.PeerNode | None:
    """How the other nodes reach this one's pods; None while it has no address or no pod CIDR."""
    address = next((a.address for a in node.status.addresses if a.type == "InternalIP"), "")
    if not address or not node.spec.podCIDR:
        return None
    network = traffic.network_of(node.metadata.annotations)
    return agent_pb2.PeerNode(name=node.metadata.name, address=address, pod_cidr=node.spec.podCIDR, network=network)


def item(key: str, value: Any) -> agent_pb2.Item:
    """One item's message."""
    if isinstance(value, agent_pb2.ServiceRoute):
        return agent_pb2.Item(key=key, service=value)
    return agent_pb2.Item(key=key, node=value)


class RouteTable:
    """One FrameWriter for all sessions, fed with Services, Endpoints, Nodes, and pods that are going."""

    def __init__(self) -> None:
        self.writer: FrameWriter[Any] = FrameWriter(lambda value: value.ByteSize() + 64)
        # The last revision that changed where traffic goes; what came since is only of nodes that joined or left.
        self.traffic_revision = 0
        self._services: dict[Name, core_pb2.Service] = {}
        self._endpoints: dict[Name, core_pb2.Endpoints] = {}
        # What each service's Endpoints say of pods, and the other way round: leaving pods among them.
        self._pods: dict[Name, dict[str, frozenset[Place]]] = {}
        self._where: dict[str, set[Name]] = {}
        # Uids of pods that are Terminating, or gone while some Endpoints still name them.
        self._leaving: set[str] = set()
        self._gone: set[str] = set()
        self._departures: dict[str, Departure] = {}

    def reset(self, objects: Iterable[Any]) -> None:
        """Makes `objects` everything there is; only what differs becomes a change."""
        services: dict[Name, core_pb2.Service] = {}
        endpoints: dict[Name, core_pb2.Endpoints] = {}
        nodes: dict[str, core_pb2.Node] = {}
        pods: dict[str, core_pb2.Pod] = {}
        for obj in objects:
            name = (obj.metadata.namespace, obj.metadata.name)
            if isinstance(obj, core_pb2.Service):
                services[name] = obj
            elif isinstance(obj, core_pb2.Endpoints):
                endpoints[name] = obj
            elif isinstance(obj, core_pb2.Node):
                nodes[obj.metadata.name] = obj
            elif isinstance(obj, core_pb2.Pod):
                pods[obj.metadata.uid] = obj
        before = {*self._services, *self._endpoints}
        self._services, self._endpoints = services, endpoints
        left, self._leaving = self._leaving, {uid for uid, pod in pods.items() if _terminating(pod)}
        self._gone.clear()
        for name in sorted({*before, *services, *endpoints}):
            self._endpoints_of(name)
        self._gone = {uid for uid in self._where if uid not in pods}
        self._departures = {uid: last for uid, last in self._departures.items() if uid in pods}
        for uid in (self._gone | self._leaving) - left:
            self._leave(uid)
        for key in [key for key in self.writer.items if key.startswith("node/")]:
            if key.removeprefix("node/") not in nodes:
                self._set(key, None)
        for node in nodes.values():
            self.put(node)

    def put(self, obj: core_pb2.Service | core_pb2.Endpoints | core_pb2.Node | core_pb2.Pod) -> None:
        """One of the four kinds was added or changed."""
        if isinstance(obj, core_pb2.Pod):
            if _terminating(obj) and obj.metadata.uid not in self._leaving:
                self._leave(obj.metadata.uid)
            return
        name = (obj.metadata.namespace, obj.metadata.name)
        if isinstance(obj, core_pb2.Node):
            self._set(f"node/{obj.metadata.name}", peer_node(obj))
            return
        if isinstance(obj, core_pb2.Service):
            self._services[name] = obj
            self._service(name)
        else:
            self._endpoints[name] = obj
            self._endpoints_of(name)

    def remove(self, obj: core_pb2.Service | core_pb2.Endpoints | core_pb2.Node | core_pb2.Pod) -> None:
        """One of the four kinds is gone."""
        if isinstance(obj, core_pb2.Pod):
            uid = obj.metadata.uid
            if uid in self._where:
                self._gone.add(uid)
                self._leave(uid)
            else:
                self._leaving.discard(uid)
            self._departures.pop(uid, None)
            return
        name = (obj.metadata.namespace, obj.metadata.name)
        if isinstance(obj, core_pb2.Node):
            self._set(f"node/{obj.metadata.name}", None)
            return
        if isinstance(obj, core_pb2.Service):
            self._services.pop(name, None)
            self._service(name)
        else:
            self._endpoints.pop(name, None)
            self._endpoints_of(name)

    def departure(self, uid: str) -> Departure | None:
        """When a pod that gets no traffic now left the table; None when it was never in it."""
        return self._departures.get(uid)

    def _leave(self, uid: str) -> None:
        self._leaving.add(uid)
        for name in sorted(self._where.get(uid, ())):
            self._service(name)
            self._departed(uid, self._pods[name][uid])

    def _departed(self, uid: str, places: frozenset[Place]) -> None:
        if uid in self._gone:
            return
        before = self._departures.get(uid)
        known = before.places if before is not None else frozenset()
        self._departures[uid] = Departure(self.writer.revision, known | places)

    def _endpoints_of(self, name: Name) -> None:
        """Takes in which pods the Endpoints of this name speak of now, and makes the route follow."""
        before, now = self._pods.get(name, {}), pods_of(self._endpoints.get(name))
        # Of a pod whose object is gone nobody asks any more.
        gone = {uid for uid in before if uid in self._gone}
        if now:
            self._pods[name] = now
        else:
            self._pods.pop(name, None)
        for uid in now.keys() - before.keys():
            self._where.setdefault(uid, set()).add(name)
        for uid in before.keys() - now.keys():
            names = self._where[uid]
            names.discard(name)
            if not names:
                del self._where[uid]
                if uid in self._gone:
                    self._gone.discard(uid)
                    self._leaving.discard(uid)
        self._service(name)
        # After the table has changed: its revision is the first without them.
        for uid, places in before.items():
            if uid not in self._leaving and uid not in gone and places - now.get(uid, frozenset()):
                self._departed(uid, places)

    def _service(self, name: Name) -> None:
        service = self._services.get(name)
        route = service_route(service, self._endpoints.get(name), self._leaving) if service is not None else None
        self._set(f"service/{name[0]}/{name[1]}", route)

    def _set(self, key: str, value: Any | None) -> None:
        before = self.writer.revision
        if value is None:
            self.writer.remove(key)
        elif self.writer.items.get(key) != value:
            self.writer.put(key, value)
        if self.writer.revision != before and key.startswith("service/"):
            self.traffic_revision = self.writer.revision
