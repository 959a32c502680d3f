"""One service's names: its addresses, its ports (SRV) and, when it is headless, its pods; pure."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import TypeVar

from common.routing import Endpoint, Route
from proxy.dns import message as dns
from proxy.dns.message import BadName, Name, Record

T = TypeVar("T")
Found = tuple[tuple[Record, ...], bool, tuple[Record, ...]]
"""Records, whether the name exists, records that help."""


@dataclass(frozen=True)
class Target:
    """Where an SRV record points: port, the name, and the packed addresses behind the name."""

    port: int
    name: Name
    addresses: tuple[bytes, ...]


@dataclass(frozen=True)
class Entry:
    """What one service contributes. `key` is (namespace, name); names are full and in lower case."""

    key: tuple[bytes, bytes]
    external_name: str = ""
    # Packed addresses of the service's own name.
    addresses: tuple[bytes, ...] = ()
    # Of a headless service: packed addresses by the pod's label.
    hosts: Mapping[bytes, tuple[bytes, ...]] = field(default_factory=dict)
    # By (b"_http", b"_tcp").
    ports: Mapping[Name, tuple[Target, ...]] = field(default_factory=dict)
    # Names by address in text.
    reverse: Mapping[str, tuple[Name, ...]] = field(default_factory=dict)

    def find(self, below: Name, owner: Name, type: int, turn: int, ttl: int) -> Found:
        """What is at a name below the service's own (empty: at it); `owner` is that name as it was asked for."""
        if not below:
            # By the specification a headless service without ready endpoints does not exist.
            exists = bool(self.addresses or self.external_name)
            return _addresses(owner, self.addresses, type, turn, ttl), exists, ()
        if len(below) == 1 and below[0] in self.hosts:
            return _addresses(owner, self.hosts[below[0]], type, turn, ttl), True, ()
        if len(below) == 1:
            return (), any(key[1] == below[0] for key in self.ports), ()
        targets = self.ports.get(below)
        if targets is None:
            return (), False, ()
        if type not in (dns.SRV, dns.ANY):
            return (), True, ()
        weight = max(1, 100 // len(targets))
        turned = _turned(targets, turn)
        records = tuple(
            Record(owner, dns.SRV, ttl, (struct.pack("!HHH", 0, weight, target.port), target.name)) for target in turned
        )
        beside = {target.name: target.addresses for target in turned}
        helping = tuple(Record(name, dns.A, ttl, (ip,)) for name, addresses in beside.items() for ip in addresses)
        return records, True, helping


def _addresses(owner: Name, addresses: Sequence[bytes], type: int, turn: int, ttl: int) -> tuple[Record, ...]:
    if type not in (dns.A, dns.ANY):
        return ()
    return tuple(Record(owner, dns.A, ttl, (ip,)) for ip in _turned(addresses, turn))


def _turned(items: Sequence[T], turn: int) -> Sequence[T]:
    if len(items) < 2:
        return items
    at = turn % len(items)
    return (*items[at:], *items[:at])


def entry_of(route: Route, domain: Name) -> Entry:
    """The index entry of a service."""
    namespace, _, name = route.key.lower().partition("/")
    key = (namespace.encode(), name.encode())
    own: Name = (key[1], key[0], b"svc", *domain)
    if route.external_name:
        return Entry(key, route.external_name)
    if route.cluster_ip and route.cluster_ip != "None":
        packed = IPv4Address(route.cluster_ip).packed
        ports: dict[Name, tuple[Target, ...]] = {
            (b"_" + port.name.lower().encode(), b"_" + port.protocol.lower().encode()): (
                Target(port.port, own, (packed,)),
            )
            for port in route.ports
            if port.name
        }
        return Entry(key, "", (packed,), {}, ports, {route.cluster_ip: (own,)})
    return _headless(key, own, route)


def _headless(key: tuple[bytes, bytes], own: Name, route: Route) -> Entry:
    hosts: dict[bytes, dict[bytes, None]] = {}
    reverse: dict[str, dict[Name, None]] = {}
    ports: dict[Name, tuple[Target, ...]] = {}
    for endpoint in _endpoints(route):
        label = _label(endpoint)
        hosts.setdefault(label, {})[IPv4Address(endpoint.ip).packed] = None
        reverse.setdefault(endpoint.ip, {})[(label, *own)] = None
    addresses = dict.fromkeys(ip for found in hosts.values() for ip in found)
    packed = {label: tuple(found) for label, found in hosts.items()}
    for port in route.ports:
        if port.name and port.endpoints:
            found = dict.fromkeys((_label(endpoint), endpoint.port) for endpoint in port.endpoints)
            place = (b"_" + port.name.lower().encode(), b"_" + port.protocol.lower().encode())
            ports[place] = tuple(Target(number, (label, *own), packed[label]) for label, number in found)
    return Entry(key, "", tuple(addresses), packed, ports, {ip: tuple(names) for ip, names in reverse.items()})


def _endpoints(route: Route) -> Iterable[Endpoint]:
    return (endpoint for found in (*(port.endpoints for port in route.ports), route.addresses) for endpoint in found)


def _label(endpoint: Endpoint) -> bytes:
    """The pod's label in the service's domain: its hostname, else its address with dashes."""
    try:
        name = dns.name_of(endpoint.hostname)
    except BadName:
        name = ()
    return name[0].lower() if len(name) == 1 else endpoint.ip.replace(".", "-").encode()
