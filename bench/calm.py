"""Takes slices: waits for a calm moment, throws away what was disturbed and takes it again, and keeps book."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from bench.slices import Bar, Noise, Patience, Reading, Slice, Ticks, between, noise, parse

T = TypeVar("T")

# How often one slice is taken again, and how long (seconds) one wait for a calm moment lasts at most.
TRIES, WAIT = 4, 4.0
# Seconds that a look at the machine takes, and between two: steal shows only while somebody wants to run.
_LOOK, _PAUSE = 0.15, 0.35


def read() -> Ticks:
    return parse(Path("/proc/stat").read_text())


@dataclass
class Calm:
    """Takes slices, and keeps book. `own`: ticks that the bench's own processes have used so far.

    A slice that was disturbed is thrown away and taken again when the machine looks calm, as often as `tries` and
    `patience` (seconds for the whole run) allow; after that the least disturbed try stays, and says so by its level.
    """

    bar: Bar = field(default_factory=Bar)
    patience: Patience = field(default_factory=lambda: Patience(120.0))
    tries: int = TRIES
    own: Callable[[], float] | None = None
    kept: list[Slice[object]] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    thrown: int = 0
    waited: float = 0.0

    def take(self, act: Callable[[], T]) -> Slice[T]:
        """One slice of what `act` measures."""
        tried: list[Slice[T]] = []
        while True:
            begun = self._begin()
            tried.append(self._end(begun, act()))
            if not self._again(tried):
                return self._keep(tried)
            self.wait()

    async def atake(self, act: Callable[[], Awaitable[T]]) -> Slice[T]:
        """The same of something that is awaited."""
        tried: list[Slice[T]] = []
        while True:
            begun = self._begin()
            tried.append(self._end(begun, await act()))
            if not self._again(tried):
                return self._keep(tried)
            await asyncio.to_thread(self.wait)

    @contextmanager
    def timed(self, into: list[Slice[float]]) -> Iterator[None]:
        """What happens inside is a slice whose value is its seconds. It stays, however disturbed it was."""
        begun = self._begin()
        yield
        into.append(self._keep([self._end(begun, time.monotonic() - begun[0])]))

    def note(self) -> None:
        """How much the machine has used by now: what `level` looks at."""
        self.readings.append(Reading(time.monotonic(), read(), self._own()))

    def level(self, begin: float, end: float) -> float:
        """How disturbed the stretch round something short was, by what was noted before and after it."""
        return self.bar.level(between(self.readings, begin, end))

    def look(self, seconds: float = _LOOK) -> Noise:
        """How disturbed the machine is: keeps a processor busy for so long, for an idle one has nothing to steal."""
        before, own = read(), self._own()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            pass
        after = self._own()
        return noise(before, read(), None if own is None or after is None else after - own)

    def wait(self) -> None:
        """Until the machine looks calm, within WAIT seconds and the patience that is left."""
        begun = time.monotonic()
        until = begun + min(WAIT, self.patience.left)
        while time.monotonic() < until and self.bar.level(self.look()) > 1:
            time.sleep(_PAUSE)
        self.waited += time.monotonic() - begun
        self.patience.spend(time.monotonic() - begun)

    def report(self) -> list[str]:
        """What the output has to say of it."""
        if not self.kept:
            return []
        calm = [one for one in self.kept if one.level <= 1]
        disturbed = [one for one in self.kept if one.level > 1]
        shown = calm or disturbed
        stolen = sorted(one.noise.stolen for one in shown)
        lines = [
            f"calm is at most {self.bar}; slices: {len(calm)} calm, {len(disturbed)} disturbed, "
            f"{self.thrown} thrown away and taken again, {self.waited:.0f} s waited",
            f"stolen during the {'calm' if calm else 'disturbed'} ones: median {statistics.median(stolen):.1%}, "
            f"most {stolen[-1]:.1%}; iowait {statistics.median(one.noise.iowait for one in shown):.1%}",
        ]
        if disturbed:
            used = f", others used up to {max(one.noise.others for one in disturbed):.0%}" if self.own else ""
            lines.append(
                f"NOT CALM: {len(disturbed)} slices stayed above the bar (stolen up to "
                f"{max(one.noise.stolen for one in disturbed):.0%}{used}); they count only where calm ones are too few"
            )
        return lines

    def _own(self) -> float | None:
        return self.own() if self.own else None

    def _begin(self) -> tuple[float, Ticks, float | None]:
        return time.monotonic(), read(), self._own()

    def _end(self, begun: tuple[float, Ticks, float | None], value: T) -> Slice[T]:
        at, before, own = begun
        after, now = read(), time.monotonic()
        used = self._own()
        found = noise(before, after, None if own is None or used is None else used - own)
        return Slice(value, (at + now) / 2, self.bar.level(found), found)

    def _again(self, tried: list[Slice[T]]) -> bool:
        last = tried[-1]
        if not self.patience.again(len(tried), last.level, self.tries):
            return False
        self.patience.spend(2 * (time.monotonic() - last.at))
        return True

    def _keep(self, tried: list[Slice[T]]) -> Slice[T]:
        best = min(tried, key=lambda one: one.level)
        self.thrown += len(tried) - 1
        self.kept.append(Slice(None, best.at, best.level, best.noise))
        return best
