"""What the network needs of the container engine; the runtime imports these types and implements the Protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

GATEWAY_MODE = "com.docker.network.bridge.gateway_mode_ipv4"
MTU = "com.docker.network.driver.mtu"


@dataclass(frozen=True)
class NetworkSpec:
    """A bridge network as the engine shall have it; all addresses IPv4, without prefix length.

    `gateway` is the engine's own address on the bridge. `aux_gateway`, when given, is the address that
    containers get as their default route instead (Docker: auxiliary address `DefaultGatewayIPv4`).
    `options` are driver options. The runtime leaves `GATEWAY_MODE` out for engines before 28: 27 refuses its
    value, older ones do not need it.
    """

    name: str
    subnet: str
    gateway: str
    aux_gateway: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SelfEndpoint:
    """One network this process's container is on; `gateway` is empty where that network gives none."""

    ip: str
    gateway: str


@dataclass(frozen=True)
class SelfContainer:
    """The container this process runs in, with its networks by name; `started_at` in unix seconds, 0: not known."""

    id: str
    networks: Mapping[str, SelfEndpoint]
    started_at: float = 0.0


class NetworkRuntime(Protocol):
    """The engine's side of a node's network. Errors are common.errors (Conflict, Unavailable, NotFound)."""

    async def ensure_network(self, spec: NetworkSpec) -> None:
        """Makes the bridge network, or keeps one of that name that equals the spec.

        A network of that name with our labels but another subnet or gateway is removed and made again when no
        container is on it; otherwise Conflict, naming what holds it. One that differs in nothing but `MTU` stays as
        it is while containers are on it.
        """
        ...

    async def network_bridge(self, name: str) -> str:
        """The network's bridge interface in the engine's namespace. NotFound when there is no such network."""
        ...

    async def connect_self(self, network: str, ip: str) -> None:
        """Puts this process's container on the network with that fixed address; nothing to do when it is so.

        On the network with another address: leaves and joins again.
        """
        ...

    async def self_container(self) -> SelfContainer | None:
        """The container this process runs in, freshly inspected; None when it runs on the host."""
        ...

    async def remove_network(self, name: str) -> None:
        """Removes the network, taking this process's container off it first; nothing to do when it is gone."""
        ...
