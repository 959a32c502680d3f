"""How late an event loop runs its timers: what every connection and call on it waits for beside its own work."""

from __future__ import annotations

import asyncio

from common.metrics import LAG_BOUNDS, Histogram

# Seconds between two looks; a stall shorter than this is seen with that probability.
EVERY = 1.0


class LoopLag:
    """Looks once a second for as long as it is not closed."""

    def __init__(self, loop: asyncio.AbstractEventLoop, every: float = EVERY) -> None:
        self._loop = loop
        self._every = every
        self.seconds = Histogram(LAG_BOUNDS)
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._due = self._loop.time() + self._every
        self._timer = self._loop.call_at(self._due, self._look)

    def _look(self) -> None:
        self.seconds.observe(max(0.0, self._loop.time() - self._due))
        self.start()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
