"""Which endpoint gets the next connection; every way of choosing is pure and has the same doors."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from common.routing import Endpoint
from proxy.balancer.affinity import ClientAffinity
from proxy.balancer.cooling import COOL_CAP, COOL_FIRST
from proxy.balancer.leastconnections import LeastConnections, Loads
from proxy.balancer.rotation import Turns
from proxy.balancer.roundrobin import RoundRobin


class Balancer(Protocol):
    """After a `pick` comes `failed`, or `succeeded` and in the end `released`; or `released` alone."""

    def __len__(self) -> int: ...
    def __contains__(self, endpoint: object) -> bool: ...
    @property
    def endpoints(self) -> tuple[Endpoint, ...]: ...
    def update(self, endpoints: Iterable[Endpoint]) -> None: ...
    def pick(self, now: float, tried: Collection[Endpoint] = (), client: str = "") -> Endpoint | None: ...
    def cooling_until(self, endpoint: Endpoint) -> float: ...
    def failed(self, endpoint: Endpoint, now: float) -> None: ...
    def succeeded(self, endpoint: Endpoint) -> None: ...
    def released(self, endpoint: Endpoint) -> None: ...


@dataclass(frozen=True)
class Share:
    """What the workers of a proxy have in common for one service port: turns and where they begin, loads and slots."""

    turns: Turns
    base: int
    loads: Loads
    slots: Mapping[Endpoint, int]


def balancer(balance: str, affinity_seconds: float, start: int = 0, share: Share | None = None) -> Balancer:
    """The way a service asks for; a client's affinity goes before the rest."""
    if affinity_seconds:
        return ClientAffinity(affinity_seconds)
    turns = share.turns if share is not None else None
    if balance == "LeastConnections":
        return LeastConnections(start, turns, share.loads if share is not None else None)
    return RoundRobin(start, turns)


def update(which: Balancer, endpoints: Iterable[Endpoint], share: Share | None = None) -> None:
    """Replaces the set of endpoints, for all who share it alike."""
    if share is None or isinstance(which, ClientAffinity):
        which.update(endpoints)
    elif isinstance(which, LeastConnections):
        which.update(endpoints, share.base, share.slots)
    elif isinstance(which, RoundRobin):
        which.update(endpoints, share.base)


__all__ = [
    "COOL_CAP",
    "COOL_FIRST",
    "Balancer",
    "ClientAffinity",
    "LeastConnections",
    "Loads",
    "RoundRobin",
    "Share",
    "balancer",
    "update",
]
