"""Keys that wait for a pass: each at most once, one pass at a time per key, failures backed off; pure."""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

FIRST_RETRY = 0.1
LONGEST_RETRY = 30.0
SPARE_TIMES = 64
"""Times that nobody waits for any more and that may stay in the heap, beside as many as somebody waits for."""

K = TypeVar("K", bound=Hashable)


@dataclass
class WorkQueue(Generic[K]):
    """Times are monotonic seconds, given by the caller."""

    _due: dict[K, None] = field(default_factory=dict)
    _later: list[tuple[float, int, K]] = field(default_factory=list)
    _wanted: dict[K, float] = field(default_factory=dict)
    _busy: set[K] = field(default_factory=set)
    _again: set[K] = field(default_factory=set)
    _failures: dict[K, int] = field(default_factory=dict)
    _counter: int = 0

    def __len__(self) -> int:
        return len(self._due) + len(self._busy)

    @property
    def due(self) -> int:
        """How many keys wait for nothing but somebody to take them."""
        return len(self._due)

    def add(self, key: K) -> None:
        """The key needs a pass now; while one runs, another follows it."""
        if key in self._busy:
            self._again.add(key)
        else:
            self._due[key] = None

    def add_at(self, key: K, at: float) -> None:
        """The key needs a pass at `at`; the earliest such time counts."""
        if at < self._wanted.get(key, float("inf")):
            self._wanted[key] = at
            self._counter += 1
            heapq.heappush(self._later, (at, self._counter, key))

    def take(self, now: float) -> K | None:
        """The next key that is due, which is then busy until `done` or `failed`; None: nothing is due."""
        while self._later and self._later[0][0] <= now:
            at, _, key = heapq.heappop(self._later)
            if self._wanted.get(key) == at:
                del self._wanted[key]
                self.add(key)
        if not self._due:
            return None
        key = next(iter(self._due))
        del self._due[key]
        self._busy.add(key)
        return key

    def next_at(self) -> float | None:
        """When the earliest waiting key is due; None: none waits."""
        return self._later[0][0] if self._later else None

    def done(self, key: K) -> None:
        """The pass went well. What earlier passes wanted it to come back for is settled: say anew with `add_at`."""
        self._failures.pop(key, None)
        if self._wanted.pop(key, None) is not None:
            self._tidy()
        self._finish(key)

    def failed(self, key: K, now: float) -> float:
        """The pass failed: the key comes again after a delay, which is returned (seconds), doubled each time.

        A change that came meanwhile does not shorten it.
        """
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        delay = float(min(LONGEST_RETRY, FIRST_RETRY * 2 ** min(count, 16)))
        self._again.discard(key)
        self._finish(key)
        self.add_at(key, now + delay)
        return delay

    def _tidy(self) -> None:
        """Times nobody waits for any more may lie days ahead (a deadline of what was deleted): they go in crowds."""
        if len(self._later) > 2 * len(self._wanted) + SPARE_TIMES:
            self._later = [one for one in self._later if self._wanted.get(one[2]) == one[0]]
            heapq.heapify(self._later)

    def _finish(self, key: K) -> None:
        self._busy.discard(key)
        if key in self._again:
            self._again.discard(key)
            self._due[key] = None
