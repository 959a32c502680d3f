"""Who is alive: the nodes' heartbeats, in memory only; a master's start gives every node its full time again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

# Below this many nodes the pace is one heartbeat a second; above, the master takes about as many a second.
NODES_AT_FULL_PACE = 100
FASTEST_SECONDS = 1.0
SLOWEST_SECONDS = 10.0


def heartbeat_period(nodes: int) -> float:
    """Seconds between two reports of a node in a cluster of `nodes`."""
    return min(SLOWEST_SECONDS, max(FASTEST_SECONDS, nodes / NODES_AT_FULL_PACE))


@dataclass
class _Seen:
    last_heartbeat: float
    sessions: set[str] = field(default_factory=set)


class NodeTable:
    """Liveness of the nodes that registered since this master started. `clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.started_at = clock()
        self._seen: dict[str, _Seen] = {}

    def __len__(self) -> int:
        return len(self._seen)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._seen))

    def heard(self, name: str) -> None:
        """The node said something now."""
        seen = self._seen.get(name)
        if seen is None:
            self._seen[name] = _Seen(self._clock())
        else:
            seen.last_heartbeat = self._clock()

    def last_heartbeat(self, name: str) -> float | None:
        """Monotonic seconds of the last report, or None when it was not heard since `started_at`."""
        seen = self._seen.get(name)
        return seen.last_heartbeat if seen else None

    def silent_for(self, name: str) -> float:
        """Seconds since the last report, or since this master started."""
        last = self.last_heartbeat(name)
        return self._clock() - (self.started_at if last is None else last)

    def connected(self, name: str) -> bool:
        """Whether a session is open. Its end alone is not the node's death."""
        seen = self._seen.get(name)
        return bool(seen and seen.sessions)

    def opened(self, name: str, session_id: str) -> None:
        self.heard(name)
        self._seen[name].sessions.add(session_id)

    def closed(self, name: str, session_id: str) -> None:
        if name in self._seen:
            self._seen[name].sessions.discard(session_id)

    def forget(self, name: str) -> None:
        """The node's object is gone."""
        self._seen.pop(name, None)

    def heartbeat_period(self) -> float:
        """Seconds, for the cluster as it is now; time-outs should be some multiple of it."""
        return heartbeat_period(len(self._seen))
