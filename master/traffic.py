"""Sampan's own annotations on services and pods: what each may say, and what it means for traffic; pure.

Validation and the routing table read them here and nowhere else. docs/network.md lists them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from common.drain import DRAIN_SECONDS, LONGEST_DRAIN_SECONDS, drain_seconds
from common.errors import Fault
from protos import core_pb2

BALANCE = "sampan.dev/balance"
PROXY_MODE = "sampan.dev/proxy-mode"
PROXY_PROTOCOL = "sampan.dev/proxy-protocol"
ACCEPT_PROXY_PROTOCOL = "sampan.dev/accept-proxy-protocol"
NODE_PORT_ADDRESSES = "sampan.dev/node-port-addresses"
# Of a node: how its pods are reached from other nodes.
NETWORK = "sampan.dev/network"

# Kubernetes' default of sessionAffinityConfig.clientIP.timeoutSeconds, and the most it may be (a day).
DEFAULT_AFFINITY_SECONDS, LONGEST_AFFINITY_SECONDS = 10800, 86400

_BALANCE = {"round-robin": "RoundRobin", "least-connections": "LeastConnections"}
_MODES = ("asyncio", "nftables")
_VERSIONS = ("v1", "v2")
_NETWORKS = ("direct", "vxlan")


@dataclass(frozen=True)
class Traffic:
    """What the annotations of one service say. Ports by number and protocol; `mode` empty: the node's own."""

    balance: str = "RoundRobin"
    mode: str = ""
    send_proxy: Mapping[tuple[int, str], str] = field(default_factory=dict)
    accept_proxy: frozenset[tuple[int, str]] = frozenset()
    node_port_addresses: tuple[str, ...] = ()


def network_of(annotations: Mapping[str, str]) -> str:
    """ "direct" or "vxlan"; empty when the node's annotations leave it to what its peers find."""
    asked = annotations.get(NETWORK, "")
    return asked if asked in _NETWORKS else ""


def network_fault(annotations: Mapping[str, str]) -> Fault | None:
    """What is wrong with a node's annotation, if anything."""
    asked = annotations.get(NETWORK, "")
    if asked in ("", *_NETWORKS):
        return None
    return Fault(path_of(NETWORK), f'must be one of {", ".join(_NETWORKS)}, got "{asked}"')


def path_of(annotation: str) -> str:
    """Where faults about an annotation stand."""
    return f"metadata.annotations[{annotation}]"


def read_service(service: core_pb2.Service) -> tuple[Traffic, tuple[Fault, ...]]:
    """What a service's annotations ask for, and what is wrong with them; what is wrong counts as not said."""
    notes, faults = service.metadata.annotations, _Faults()
    ports = list(service.spec.ports)
    traffic = Traffic(
        balance=_BALANCE.get(_one_of(notes, BALANCE, _BALANCE, faults), "RoundRobin"),
        mode=_one_of(notes, PROXY_MODE, _MODES, faults),
        send_proxy=_send_proxy(notes, ports, faults),
        accept_proxy=_accept_proxy(notes, ports, faults),
        node_port_addresses=_addresses(notes, faults),
    )
    if traffic.mode == "nftables":
        faults.found += _impossible(traffic)
    return traffic, tuple(faults.found)


def affinity_seconds(service: core_pb2.Service) -> int:
    """Seconds a client stays with its endpoint; 0 without session affinity."""
    if service.spec.sessionAffinity != "ClientIP":
        return 0
    given = service.spec.sessionAffinityConfig.clientIP
    return given.timeoutSeconds if given.HasField("timeoutSeconds") else DEFAULT_AFFINITY_SECONDS


def drain_fault(annotations: Mapping[str, str]) -> Fault | None:
    """What is wrong with a pod's drain-seconds."""
    text = annotations.get(DRAIN_SECONDS)
    if text is None or drain_seconds(text) is not None:
        return None
    return Fault(path_of(DRAIN_SECONDS), f"must be whole seconds, 0-{LONGEST_DRAIN_SECONDS}, got {text!r}")


class _Faults:
    def __init__(self) -> None:
        self.found: list[Fault] = []

    def add(self, annotation: str, message: str) -> None:
        self.found.append(Fault(path_of(annotation), message))


def _one_of(notes: Mapping[str, str], name: str, allowed: Collection[str], faults: _Faults) -> str:
    text = notes.get(name)
    if text is None or text in allowed:
        return text or ""
    faults.add(name, f"must be {' or '.join(allowed)}, got {text!r}")
    return ""


def _send_proxy(
    notes: Mapping[str, str], ports: Iterable[core_pb2.ServicePort], faults: _Faults
) -> dict[tuple[int, str], str]:
    text = notes.get(PROXY_PROTOCOL)
    if text is None:
        return {}
    streams = [port for port in ports if (port.protocol or "TCP") == "TCP"]
    if text in _VERSIONS:
        return {_key(port): text for port in streams}
    found: dict[tuple[int, str], str] = {}
    for part in _parts(text):
        name, _, version = part.partition("=")
        if version not in _VERSIONS:
            faults.add(PROXY_PROTOCOL, f"must be v1, v2, or ports such as http=v2,8443=v1, got {part!r}")
            continue
        for port in _named(PROXY_PROTOCOL, name, streams, faults):
            found[_key(port)] = version
    return found


def _accept_proxy(
    notes: Mapping[str, str], ports: Iterable[core_pb2.ServicePort], faults: _Faults
) -> frozenset[tuple[int, str]]:
    text = notes.get(ACCEPT_PROXY_PROTOCOL)
    streams = [port for port in ports if (port.protocol or "TCP") == "TCP"]
    if text is None or text == "false":
        return frozenset()
    if text == "true":
        return frozenset(_key(port) for port in streams)
    named = [_named(ACCEPT_PROXY_PROTOCOL, part, streams, faults) for part in _parts(text)]
    return frozenset(_key(port) for found in named for port in found)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _named(
    annotation: str, name: str, ports: Collection[core_pb2.ServicePort], faults: _Faults
) -> list[core_pb2.ServicePort]:
    found = [port for port in ports if name and name in (port.name, str(port.port))]
    if not found:
        known = ", ".join(port.name or str(port.port) for port in ports) or "none"
        faults.add(annotation, f"must name TCP ports of this service ({known}), got {name!r}")
    return found


def _key(port: core_pb2.ServicePort) -> tuple[int, str]:
    return port.port, port.protocol or "TCP"


def _addresses(notes: Mapping[str, str], faults: _Faults) -> tuple[str, ...]:
    text = notes.get(NODE_PORT_ADDRESSES)
    if text is None:
        return ()
    found = []
    for part in _parts(text):
        try:
            network = ipaddress.IPv4Network(part, strict=False)
        except ValueError:
            faults.add(
                NODE_PORT_ADDRESSES,
                f"must be IPv4 addresses or networks such as 192.168.1.0/24,10.0.0.5, got {part!r}",
            )
            continue
        found.append(str(network) if "/" in part else part)
    return tuple(dict.fromkeys(found))


def _impossible(traffic: Traffic) -> list[Fault]:
    """What the kernel cannot do, asked for together with nftables."""
    asked = {
        BALANCE: traffic.balance == "LeastConnections",
        PROXY_PROTOCOL: bool(traffic.send_proxy),
        ACCEPT_PROXY_PROTOCOL: bool(traffic.accept_proxy),
    }
    what = {
        BALANCE: "least-connections needs",
        PROXY_PROTOCOL: "the PROXY protocol needs",
        ACCEPT_PROXY_PROTOCOL: "the PROXY protocol needs",
    }
    return [
        Fault(
            path_of(name),
            f"must not be combined with {path_of(PROXY_MODE)}: nftables; {what[name]} {PROXY_MODE}: asyncio",
        )
        for name, wanted in asked.items()
        if wanted
    ]
