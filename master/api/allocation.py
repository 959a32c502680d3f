"""Gives services their cluster addresses and node ports, free of everybody else's; pure over the list of services."""

from __future__ import annotations

import ipaddress
import zlib
from collections.abc import Iterable

from common.clusterdns import DNS_HOST
from common.errors import Fault
from protos import core_pb2

NODE_PORTS = range(30000, 32768)
HEADLESS = "None"
# Host parts nobody gets: the network, the API's own address and that of the cluster's DNS.
API_HOST = 1


class ServiceRange:
    """The service CIDR, for instance 10.96.0.0/16."""

    def __init__(self, cidr: str) -> None:
        self.network = ipaddress.IPv4Network(cidr)
        if self.network.prefixlen > 27:
            raise ValueError(f"the service CIDR {cidr} is too small: use /27 or wider")

    def reserved(self, address: ipaddress.IPv4Address) -> bool:
        host = int(address) - int(self.network.network_address)
        return host in {0, API_HOST, DNS_HOST, self.network.num_addresses - 1}

    def free(self, seed: str, taken: set[str]) -> str | None:
        """A free address, the same for the same seed as long as it is free; None when the range is used up."""
        size = self.network.num_addresses
        start = zlib.crc32(seed.encode()) % size
        for step in range(size):
            address = self.network.network_address + (start + step) % size
            if not self.reserved(address) and str(address) not in taken:
                return str(address)
        return None


def allocate(service: core_pb2.Service, others: Iterable[core_pb2.Service], addresses: ServiceRange) -> list[Fault]:
    """Fills in clusterIP and nodePorts of a service that has its defaults; returns what could not be had.

    `others` are all other services of the cluster.
    """
    listed = list(others)
    seed = f"{service.metadata.namespace}/{service.metadata.name}"
    if service.spec.type == "ExternalName":
        return []
    faults = _cluster_ip(service, listed, addresses, seed)
    if service.spec.type in {"NodePort", "LoadBalancer"}:
        faults += _node_ports(service, listed, seed)
    return faults


def _cluster_ip(
    service: core_pb2.Service, others: list[core_pb2.Service], addresses: ServiceRange, seed: str
) -> list[Fault]:
    spec, path = service.spec, "spec.clusterIP"
    if spec.clusterIP == HEADLESS:
        spec.clusterIPs[:] = [HEADLESS]
        return []
    holders = {other.spec.clusterIP: other for other in others if other.spec.clusterIP not in {"", HEADLESS}}
    if not spec.clusterIP:
        found = addresses.free(seed, set(holders))
        if found is None:
            return [Fault(path, f"no address of {addresses.network} is free: delete services that are not needed")]
        spec.clusterIP = found
    else:
        try:
            wanted = ipaddress.IPv4Address(spec.clusterIP)
        except ValueError:
            return []  # validation says so
        if wanted not in addresses.network:
            return [Fault(path, f"must be within the service range {addresses.network}, got {wanted}")]
        if addresses.reserved(wanted):
            return [Fault(path, f"{wanted} is reserved: leave it out or choose another of {addresses.network}")]
        if spec.clusterIP in holders:
            return [Fault(path, f"{wanted} is already used by service {_name(holders[spec.clusterIP])}")]
    spec.clusterIPs[:] = [spec.clusterIP]
    return []


def _node_ports(service: core_pb2.Service, others: list[core_pb2.Service], seed: str) -> list[Fault]:
    faults = []
    # UDP and TCP have a port number each, so that one name server may have both.
    holders = {_node_port(port): other for other in others for port in other.spec.ports if port.nodePort}
    own = {_node_port(port) for port in service.spec.ports if port.nodePort}
    for index, port in enumerate(service.spec.ports):
        path = f"spec.ports[{index}].nodePort"
        if port.nodePort and _node_port(port) in holders:
            holder = _name(holders[_node_port(port)])
            remedy = "choose another, or leave it out to be given a free one"
            faults.append(Fault(path, f"{port.nodePort} is already used by service {holder}: {remedy}"))
        elif not port.nodePort:
            start = zlib.crc32(f"{seed}/{index}".encode())
            candidates = (NODE_PORTS[(start + step) % len(NODE_PORTS)] for step in range(len(NODE_PORTS)))
            taken = {number for number, protocol in {*holders, *own} if protocol == (port.protocol or "TCP")}
            # The same number for the same service port of the other protocol, as in Kubernetes.
            twin = [p.nodePort for p in service.spec.ports if p.port == port.port and p.nodePort]
            free = next((number for number in (*twin, *candidates) if number not in taken), 0)
            if not free:
                faults.append(Fault(path, f"no port of {NODE_PORTS[0]}-{NODE_PORTS[-1]} is free: name one yourself"))
                continue
            port.nodePort = free
            own.add(_node_port(port))
    return faults


def _node_port(port: core_pb2.ServicePort) -> tuple[int, str]:
    return port.nodePort, port.protocol or "TCP"


def _name(service: core_pb2.Service) -> str:
    return f"{service.metadata.namespace}/{service.metadata.name}"
