"""Round robin with cooling down, pure (takes `now`, opens nothing)."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from common.routing import Endpoint
from proxy.balancer.cooling import Cooling
from proxy.balancer.rotation import OwnTurns, Rotation, Turns


class RoundRobin:
    """Endpoints in turn, also over several workers when they share `turns`.

    An update keeps the order and the turn of those that stay. An endpoint that failed is passed over while it cools
    down, unless nothing better is left: a doubtful endpoint is still better than refusing.
    """

    __slots__ = ("_cooling", "_rotation")

    def __init__(self, start: int = 0, turns: Turns | None = None) -> None:
        """`start` turns the first set of endpoints, so that not every node begins with the same one."""
        self._rotation = Rotation(turns or OwnTurns(), start)
        self._cooling = Cooling()

    def __len__(self) -> int:
        return len(self._rotation.endpoints)

    def __contains__(self, endpoint: object) -> bool:
        return endpoint in self._rotation.members

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """In the order of their turns."""
        return self._rotation.in_turn()

    def update(self, endpoints: Iterable[Endpoint], base: int | None = None) -> None:
        """Replaces the set; repeated endpoints count once. `base`: see `Rotation.update`."""
        if self._rotation.update(endpoints, base):
            self._cooling.keep(self._rotation.members)

    def pick(self, now: float, tried: Collection[Endpoint] = (), client: str = "") -> Endpoint | None:
        """The next endpoint that is not in `tried`, and turns the rotation; None when all were tried."""
        rotation = self._rotation
        endpoints = rotation.endpoints
        if not endpoints:
            return None
        turns = rotation.turns
        position = turns.taken() - rotation.base
        if not self._cooling and not tried:
            turns.take(1)
            return endpoints[position % len(endpoints)]
        best: int | None = None
        best_until = 0.0
        for step in range(len(endpoints)):
            endpoint = endpoints[(position + step) % len(endpoints)]
            if endpoint in tried:
                continue
            until = self._cooling.until(endpoint)
            if until <= now:
                best = step
                break
            if best is None or until < best_until:
                best, best_until = step, until
        if best is None:
            return None
        # Who was passed over has had its turn.
        turns.take(best + 1)
        return endpoints[(position + best) % len(endpoints)]

    def cooling_until(self, endpoint: Endpoint) -> float:
        """The time from which the endpoint is picked in its turn again; 0.0 when it is not cooling."""
        return self._cooling.until(endpoint)

    def failed(self, endpoint: Endpoint, now: float) -> None:
        """What was picked did not work: it cools down, longer each time."""
        if endpoint in self._rotation.members:
            self._cooling.failed(endpoint, now)

    def succeeded(self, endpoint: Endpoint) -> None:
        """What was picked worked: it is as good as the others."""
        if self._cooling:
            self._cooling.succeeded(endpoint)

    def released(self, endpoint: Endpoint) -> None:
        """What was picked is over. Takes turns whatever is open, so this changes nothing."""
