"""Slices: how disturbed a short measurement was, which ones count, and how those of two are compared; pure.

The rule is the same for everything that is measured: docs/benches.md. `bench.calm` takes the slices.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

# A slice counts as calm when at most this share of the processor time it wanted was stolen by the hypervisor ...
STOLEN = 0.03
# ... and at most this share of the machine's processor time went to programs that are not the bench's.
OTHERS = 0.08


class Ticks(NamedTuple):
    """Processor time of the machine since its start in clock ticks, all processors together (`man 5 proc`)."""

    busy: int
    idle: int
    iowait: int
    steal: int


def parse(text: str) -> Ticks:
    """The first line of /proc/stat. Guests' time is in user's already."""
    user, nice, system, idle, iowait, irq, softirq, steal, *_ = map(int, text.splitlines()[0].split()[1:])
    return Ticks(user + nice + system + irq + softirq, idle, iowait, steal)


@dataclass(frozen=True)
class Noise:
    """What else went on during a slice: `stolen`, a share of the processor time that was wanted; `others` (programs
    that are not the bench's; 0 where nobody asks), `iowait` and `idle`, shares of all processor time; `busy`: the ticks
    that the whole machine worked."""

    stolen: float = 0.0
    others: float = 0.0
    iowait: float = 0.0
    idle: float = 0.0
    busy: int = 0


def noise(before: Ticks, after: Ticks, own: float | None = None) -> Noise:
    """Between two readings; `own`: ticks that the bench itself used, None: it cannot know."""
    busy, idle, iowait, steal = (max(0, late - early) for early, late in zip(before, after, strict=True))
    whole = max(1, busy + idle + iowait + steal)
    others = 0.0 if own is None else max(0.0, busy - own) / whole
    return Noise(steal / max(1, busy + steal), others, iowait / whole, idle / whole, busy)


class Reading(NamedTuple):
    """What the machine had used at one moment (seconds of any clock), and of that the bench (None: it cannot know)."""

    at: float
    ticks: Ticks
    own: float | None = None


def between(readings: Sequence[Reading], begin: float, end: float, least: float = 1.0) -> Noise:
    """The noise of a stretch of at least `least` seconds round something too short for the clock ticks to show.

    `readings` in the order of time; they should reach half of `least` further on both sides.
    """
    spare = max(0.0, least - (end - begin)) / 2
    first = max(0, bisect_right(readings, begin - spare, key=lambda one: one.at) - 1)
    last = min(len(readings) - 1, bisect_left(readings, end + spare, key=lambda one: one.at))
    while first > 0 and readings[last].at - readings[first].at < least:
        first -= 1
    early, late = readings[first], readings[last]
    own = None if early.own is None or late.own is None else late.own - early.own
    return noise(early.ticks, late.ticks, own)


@dataclass(frozen=True)
class Bar:
    """Up to where a slice counts as calm."""

    stolen: float = STOLEN
    others: float = OTHERS

    def level(self, found: Noise) -> float:
        """How disturbed: at most 1 is calm. Steal and others' time weigh by their own bars."""
        return max(_over(found.stolen, self.stolen), _over(found.others, self.others))

    def __str__(self) -> str:
        others = "" if math.isinf(self.others) else f", {self.others:.0%} of the machine used by other programs"
        return f"{self.stolen:.0%} stolen{others}"


def _over(share: float, bar: float) -> float:
    return share / bar if bar else (math.inf if share else 0.0)


@dataclass(frozen=True)
class Slice(Generic[T]):
    """One short measurement: what it gave, when (seconds of any clock, its middle), and how disturbed (1: the bar)."""

    value: T
    at: float
    level: float = 0.0
    noise: Noise = Noise()


class Pair(NamedTuple):
    """A slice and one of its peer that was taken beside it; `level` is that of the worse."""

    ours: float
    theirs: float
    level: float


def paired(ours: Sequence[Slice[float]], theirs: Sequence[Slice[float]], reach: float) -> list[Pair]:
    """Each of ours with the nearest of the peer's in time; one without any within `reach` seconds is left out."""
    found = []
    for one in ours:
        near = min(theirs, key=lambda other: (abs(other.at - one.at), other.level), default=None)
        if near is not None and abs(near.at - one.at) <= reach:
            found.append(Pair(one.value, near.value, max(one.level, near.level)))
    return found


class Chosen(NamedTuple):
    """Median of those that count, how many, out of how many, and the worst level among them (above 1: disturbed)."""

    value: float
    counted: int
    of: int
    level: float

    @property
    def calm(self) -> bool:
        return self.level <= 1


def choose(values: Sequence[tuple[float, float]], enough: int) -> Chosen:
    """The median of (value, level) over the calm ones; with fewer than `enough` of these over the least disturbed."""
    ranked = sorted(values, key=lambda pair: pair[1])
    calm = sum(level <= 1 for _, level in ranked)
    counted = ranked[: max(calm, min(enough, len(ranked)))]
    if not counted:
        return Chosen(math.nan, 0, 0, 0.0)
    return Chosen(statistics.median(value for value, _ in counted), len(counted), len(ranked), counted[-1][1])


def ratio(pairs: Sequence[Pair], enough: int) -> Chosen:
    """ours / theirs of pairs."""
    return choose([(pair.ours / pair.theirs, pair.level) for pair in pairs if pair.theirs], enough)


@dataclass
class Patience:
    """Seconds that a whole run may spend on waiting and on slices that are thrown away."""

    left: float

    def spend(self, seconds: float) -> None:
        self.left = max(0.0, self.left - seconds)

    def again(self, tried: int, level: float, tries: int) -> bool:
        """Whether the slice whose `tried`th try had this level is to be taken again."""
        return level > 1 and tried < tries and self.left > 0
