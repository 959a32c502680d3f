"""Exponential backoff as an iterator with one owner; pure: it returns delays and never sleeps."""

from __future__ import annotations


class Backoff:
    """Delays in seconds: `first`, doubled up to `cap`, spread by `jitter` (0.2: +-20 %).

    `reset()` goes back to `first`; call it when the thing worked, not when it merely started.
    """

    def __init__(self, first: float, cap: float, jitter: float = 0.0, factor: float = 2.0) -> None:
        self.first, self.cap, self.jitter, self.factor = first, cap, jitter, factor
        self._next = first

    def reset(self) -> None:
        self._next = self.first

    def __iter__(self) -> Backoff:
        return self

    def __next__(self) -> float:
        delay = self._next
        self._next = min(self.cap, self._next * self.factor)
        if self.jitter:
            # Not for all who are here: the supervisor of a node is to stay small.
            import random

            delay *= 1 + random.uniform(-self.jitter, self.jitter)
        return delay
