"""Least connections with cooling down, pure: the endpoint with the fewest open gets the next one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from common.routing import Endpoint
from proxy.balancer.cooling import Cooling
from proxy.balancer.rotation import OwnTurns, Rotation, Turns


class Loads(Protocol):
    """What others who share an endpoint carry there, and where to tell them what we do."""

    def others(self, endpoint: Endpoint) -> int: ...
    def tell(self, endpoint: Endpoint, load: int) -> None: ...
    def assign(self, slots: Mapping[Endpoint, int], loads: Mapping[Endpoint, int]) -> None: ...


class Alone:
    """Nobody else carries anything."""

    __slots__ = ()

    def others(self, endpoint: Endpoint) -> int:
        return 0

    def tell(self, endpoint: Endpoint, load: int) -> None:
        pass

    def assign(self, slots: Mapping[Endpoint, int], loads: Mapping[Endpoint, int]) -> None:
        pass


class LeastConnections:
    """Counts what was picked and is not over yet, connects under way included, so that a burst is spread too.

    Among equals they take turns. A pick looks at each endpoint: fit for hundreds. With several workers that share
    `loads` each one sees what the others carry.
    """

    __slots__ = ("_cooling", "_load", "_loads", "_rotation")

    def __init__(self, start: int = 0, turns: Turns | None = None, loads: Loads | None = None) -> None:
        self._rotation = Rotation(turns or OwnTurns(), start)
        self._load: dict[Endpoint, int] = {}
        self._loads: Loads = loads or Alone()
        self._cooling = Cooling()

    def __len__(self) -> int:
        return len(self._rotation.endpoints)

    def __contains__(self, endpoint: object) -> bool:
        return endpoint in self._rotation.members

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        return self._rotation.in_turn()

    def load(self, endpoint: Endpoint) -> int:
        """Picks of it that are not over, here."""
        return self._load.get(endpoint, 0)

    def update(
        self, endpoints: Iterable[Endpoint], base: int | None = None, slots: Mapping[Endpoint, int] | None = None
    ) -> None:
        """Replaces the set; those that stay, and those that come back, keep what they carry.

        `base`: see `Rotation.update`; `slots`: where the loads of each endpoint are shared.
        """
        if self._rotation.update(endpoints, base):
            self._cooling.keep(self._rotation.members)
        if slots is not None:
            self._loads.assign(slots, self._load)

    def pick(self, now: float, tried: Collection[Endpoint] = (), client: str = "") -> Endpoint | None:
        """The least loaded endpoint that is not in `tried` and not cooling; None when all were tried."""
        rotation = self._rotation
        endpoints = rotation.endpoints
        if not endpoints:
            return None
        position = rotation.position()
        best: int | None = None
        best_rank = (0.0, 0)
        for step in range(len(endpoints)):
            endpoint = endpoints[(position + step) % len(endpoints)]
            if endpoint in tried:
                continue
            until = self._cooling.until(endpoint) if self._cooling else 0.0
            load = self._load.get(endpoint, 0) + self._loads.others(endpoint)
            rank = (until if until > now else 0.0, load)
            if best is None or rank < best_rank:
                best, best_rank = step, rank
        if best is None:
            return None
        rotation.turns.take(best + 1)
        chosen = endpoints[(position + best) % len(endpoints)]
        self._count(chosen, 1)
        return chosen

    def cooling_until(self, endpoint: Endpoint) -> float:
        return self._cooling.until(endpoint)

    def failed(self, endpoint: Endpoint, now: float) -> None:
        """What was picked did not work: it cools down, and no longer counts."""
        if endpoint in self._rotation.members:
            self._cooling.failed(endpoint, now)
        self.released(endpoint)

    def succeeded(self, endpoint: Endpoint) -> None:
        if self._cooling:
            self._cooling.succeeded(endpoint)

    def released(self, endpoint: Endpoint) -> None:
        """What was picked is over."""
        self._count(endpoint, -1)

    def _count(self, endpoint: Endpoint, more: int) -> None:
        load = max(0, self._load.get(endpoint, 0) + more)
        if load:
            self._load[endpoint] = load
        else:
            self._load.pop(endpoint, None)
        self._loads.tell(endpoint, load)
