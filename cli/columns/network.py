"""The columns of services and endpoints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cli.columns.table import AGE, NAME, NONE, Column, listed, pairs

if TYPE_CHECKING:
    from protos.core_pb2 import Endpoints, Service

# As many as kubectl shows in the table before it says how many more there are.
_SHOWN_ENDPOINTS = 3


def ports(service: Service) -> str:
    """ "80/TCP", or "80:30080/TCP" where the port is open on every node."""
    return listed(
        f"{p.port}:{p.nodePort}/{p.protocol or 'TCP'}" if p.nodePort else f"{p.port}/{p.protocol or 'TCP'}"
        for p in service.spec.ports
    )


def external_ip(service: Service) -> str:
    """Addresses outside the cluster; a load balancer without one is "<pending>"."""
    given = [i.ip or i.hostname for i in service.status.loadBalancer.ingress] + list(service.spec.externalIPs)
    if service.spec.type == "ExternalName":
        return service.spec.externalName
    if service.spec.type == "LoadBalancer" and not given:
        return "<pending>"
    return listed(given)


def addresses(endpoints: Endpoints, port_name: str | None = None) -> Iterator[str]:
    """Every ready "IP:port" (a bare IP where there is no port), of the port with this name or of all."""
    for subset in endpoints.subsets:
        if not subset.ports:
            yield from (address.ip for address in subset.addresses)
        for port in subset.ports:
            if port_name is None or port.name == port_name:
                yield from (f"{address.ip}:{port.port}" for address in subset.addresses)


def short(items: list[str], shown: int = _SHOWN_ENDPOINTS) -> str:
    """The first few and " + N more..."."""
    more = f" + {len(items) - shown} more..." if len(items) > shown else ""
    return listed(items[:shown]) + more


SERVICE_COLUMNS = (
    NAME,
    Column("TYPE", lambda service, now: service.spec.type or "ClusterIP"),
    Column("CLUSTER-IP", lambda service, now: service.spec.clusterIP or NONE),
    Column("EXTERNAL-IP", lambda service, now: external_ip(service)),
    Column("PORT(S)", lambda service, now: ports(service)),
    AGE,
    Column("SELECTOR", lambda service, now: pairs(service.spec.selector), wide=True),
)

ENDPOINTS_COLUMNS = (
    NAME,
    Column("ENDPOINTS", lambda endpoints, now: short(list(addresses(endpoints)))),
    AGE,
)
