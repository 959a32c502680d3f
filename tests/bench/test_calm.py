"""Slices that were disturbed are taken again, within bounds, and the book says so; on the real machine's readings."""

from __future__ import annotations

import math

import pytest

from bench.calm import Calm, read
from bench.slices import Bar, Noise, Patience, Slice

# No machine is less calm than this.
ALWAYS = Bar(math.inf, math.inf)


def test_a_calm_slice_is_taken_once() -> None:
    calm, runs = Calm(ALWAYS), [0]

    def act() -> int:
        runs[0] += 1
        return runs[0]

    found = calm.take(act)
    assert (found.value, found.level, runs) == (1, 0, [1])
    assert (len(calm.kept), calm.thrown, calm.waited) == (1, 0, 0.0)
    assert not any("NOT CALM" in line for line in calm.report())


def always_disturbed(patience: float, tries: int) -> Calm:
    """Others use the machine all the time, as far as `own` can tell: the bench's own time runs backwards."""
    clock = iter(range(0, -10_000_000, -1000))
    return Calm(Bar(math.inf, 1e-9), Patience(patience), tries=tries, own=lambda: float(next(clock)))


def test_a_disturbed_slice_is_taken_again_until_the_tries_are_over() -> None:
    calm, runs = always_disturbed(patience=0.6, tries=3), [0]

    def act() -> int:
        runs[0] += 1
        until = read().busy + 2  # something to be disturbed at, whatever the clock's ticks
        while read().busy < until:
            pass
        return runs[0]

    found = calm.take(act)
    assert found.level > 1
    assert 1 < runs[0] <= 3
    assert calm.thrown == runs[0] - 1
    assert calm.report()[-1].startswith("NOT CALM: 1 slices stayed above the bar")


async def test_without_patience_nothing_is_repeated() -> None:
    calm, runs = always_disturbed(patience=0.0, tries=9), [0]

    async def act() -> int:
        runs[0] += 1
        until = read().busy + 2
        while read().busy < until:
            pass
        return runs[0]

    assert (await calm.atake(act)).value == 1
    assert calm.thrown == 0


def test_the_least_disturbed_try_stays() -> None:
    calm = Calm(ALWAYS)
    tried = [Slice("worst", 0.0, 9.0), Slice("best", 1.0, 2.0, Noise(0.06)), Slice("worse", 2.0, 3.0)]
    assert calm._keep(tried).value == "best"
    assert calm.thrown == 2
    assert "stolen up to 6%" in calm.report()[-1]


def test_seconds_of_what_happens_inside_are_a_slice() -> None:
    calm = Calm(ALWAYS)
    into: list[Slice[float]] = []
    with calm.timed(into):
        calm.look(0.01)
    assert into[0].value >= 0.01
    assert len(calm.kept) == 1
    with pytest.raises(ZeroDivisionError), calm.timed(into):
        raise ZeroDivisionError
    assert len(into) == 1
