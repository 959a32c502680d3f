"""When a Terminating pod may be stopped: no live proxy sends it anything new, and what it had is done; pure.

First every live node's proxy applies a routing table without the pod (2 s at most: a node that hangs must not hold
up a deletion), then the connections through the proxies end, or the pod's drain limit passes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

ACKNOWLEDGED_SECONDS = 2.0
"""The most that is waited for the proxies' word, from when the pod was seen Terminating."""

Place = tuple[str, int]


@dataclass(frozen=True)
class Hold:
    """A Terminating pod that is not released yet. Times are monotonic seconds.

    `revision` is the first routing table without it, `places` where it took traffic; `drain_seconds` its drain
    limit, which runs from `quiet_since`: when no proxy sends it new connections any more.
    """

    uid: str
    since: float
    revision: int
    places: frozenset[Place]
    drain_seconds: float
    quiet_since: float | None = None


@dataclass(frozen=True)
class Proxy:
    """What a live node's proxy has said: the revision it serves (-1: none of this master's), and how many
    connections it still has to endpoints that left its table."""

    revision: int
    draining: Mapping[Place, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """Who waits on, who may be stopped, and when (monotonic) to look again though nothing was heard."""

    holds: tuple[Hold, ...] = ()
    released: tuple[str, ...] = ()
    look_at: float | None = None


def judge(holds: Iterable[Hold], proxies: Iterable[Proxy], now: float) -> Verdict:
    """Decides on every hold. `proxies` are those of the nodes that are alive: the dead are not waited for."""
    listed = list(proxies)
    applied = min((proxy.revision for proxy in listed), default=None)
    busy = {place for proxy in listed for place, connections in proxy.draining.items() if connections > 0}
    waiting: list[Hold] = []
    released: list[str] = []
    look_at: float | None = None
    for hold in holds:
        quiet_since = hold.quiet_since
        if quiet_since is None:
            limit = hold.since + ACKNOWLEDGED_SECONDS
            if applied is None or applied >= hold.revision or now >= limit:
                quiet_since = now
            else:
                waiting.append(hold)
                look_at = limit if look_at is None else min(look_at, limit)
                continue
        limit = quiet_since + hold.drain_seconds
        if now >= limit or not hold.places & busy:
            released.append(hold.uid)
            continue
        waiting.append(replace(hold, quiet_since=quiet_since))
        look_at = limit if look_at is None else min(look_at, limit)
    return Verdict(tuple(waiting), tuple(released), look_at)
