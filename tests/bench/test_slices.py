"""How disturbed a slice was, which slices count, and that a peer's slice is the one beside it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.slices import Bar, Noise, Pair, Patience, Reading, Slice, Ticks, between, choose, noise, paired, parse, ratio

BEFORE = Ticks(1000, 5000, 100, 50)


def after(busy: int = 0, idle: int = 0, iowait: int = 0, steal: int = 0) -> Ticks:
    return Ticks(BEFORE.busy + busy, BEFORE.idle + idle, BEFORE.iowait + iowait, BEFORE.steal + steal)


def test_the_kernels_line_is_read_as_the_manual_says() -> None:
    text = "cpu  100 20 30 4000 50 6 7 80 90 10\ncpu0 1 2 3 4 5 6 7 8 9 10\n"
    assert parse(text) == Ticks(busy=163, idle=4000, iowait=50, steal=80)


def test_steal_is_a_share_of_what_was_wanted_and_others_of_the_machine() -> None:
    found = noise(BEFORE, after(busy=90, idle=90, iowait=10, steal=10), own=70)
    assert found == Noise(stolen=0.1, others=0.1, iowait=0.05, idle=0.45, busy=90)


def test_who_does_not_know_its_own_time_does_not_judge_others() -> None:
    assert noise(BEFORE, after(busy=100)).others == 0
    assert noise(BEFORE, after(busy=100), own=130).others == 0


def test_nothing_between_two_readings_is_calm() -> None:
    assert Bar().level(noise(BEFORE, BEFORE, own=0)) == 0


def test_the_worse_of_two_disturbances_counts() -> None:
    bar = Bar(stolen=0.03, others=0.1)
    assert bar.level(Noise(stolen=0.06)) == pytest.approx(2)
    assert bar.level(Noise(stolen=0.06, others=0.5)) == pytest.approx(5)
    assert bar.level(Noise(stolen=0.03, others=0.1)) == pytest.approx(1)
    assert Bar(stolen=0).level(Noise(stolen=0.01)) == math.inf
    assert Bar(others=math.inf).level(Noise(others=0.9)) == 0


def test_a_short_event_has_the_noise_of_the_second_round_it() -> None:
    readings = [
        Reading(0.0, Ticks(0, 0, 0, 0), 0),
        Reading(1.0, Ticks(100, 0, 0, 0), 100),
        Reading(1.2, Ticks(110, 0, 0, 10), 110),
        Reading(2.0, Ticks(190, 0, 0, 10), 190),
        Reading(3.0, Ticks(290, 0, 0, 10), 250),
    ]
    assert between(readings, 1.05, 1.15).stolen == pytest.approx(10 / 200)
    assert between(readings, 2.2, 2.8) == Noise(stolen=0.0, others=0.4, busy=100)
    assert between(readings, 0.1, 0.9) == Noise(busy=100)
    assert between(readings[:1], 0.1, 0.9) == Noise()


def at(seconds: float, value: float, level: float = 0.0) -> Slice[float]:
    return Slice(value, seconds, level)


def test_each_slice_is_compared_with_the_one_beside_it() -> None:
    ours = [at(1, 10), at(11, 40), at(99, 7)]
    theirs = [at(0, 5), at(10, 20, level=2), at(30, 1000)]
    assert paired(ours, theirs, reach=20) == [Pair(10, 5, 0), Pair(40, 20, 2)]
    assert ratio(paired(ours, theirs, reach=20), enough=2).value == 2


def test_a_machine_that_changes_its_speed_changes_no_ratio() -> None:
    """The reason for all of it: medians of rates taken one form after another would say 8."""
    speeds = [1.0, 1.0, 8.0, 8.0, 8.0, 2.0]
    ours = [at(10 * number, 6 * speed) for number, speed in enumerate(speeds)]
    theirs = [at(10 * number + 1, 3 * speed) for number, speed in enumerate(speeds)]
    assert ratio(paired(ours, theirs, reach=5), enough=3).value == pytest.approx(2)


def test_of_two_peers_as_near_the_calmer_one_counts() -> None:
    assert paired([at(5, 8)], [at(4, 1, level=3), at(6, 2, level=0.5)], reach=5) == [Pair(8, 2, 0.5)]


def test_calm_ones_count_alone_when_they_are_enough() -> None:
    found = choose([(1.0, 0.1), (2.0, 0.9), (3.0, 1.0), (99.0, 5.0)], enough=3)
    assert (found.value, found.counted, found.of, found.calm) == (2.0, 3, 4, True)


def test_without_enough_calm_ones_the_least_disturbed_count_and_say_so() -> None:
    found = choose([(1.0, 0.5), (50.0, 9.0), (3.0, 2.0), (2.0, 4.0)], enough=3)
    assert (found.value, found.counted, found.of, found.level, found.calm) == (2.0, 3, 4, 4.0, False)


def test_nothing_measured_is_no_number() -> None:
    found = choose([], enough=3)
    assert math.isnan(found.value)
    assert found.of == 0


@given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(0, 20)), min_size=1), st.integers(1, 10))
def test_what_counts_is_never_worse_than_what_does_not(values: list[tuple[float, float]], enough: int) -> None:
    found = choose(values, enough)
    assert min(enough, len(values)) <= found.counted <= len(values)
    assert sum(level < found.level for _, level in values) <= found.counted
    assert found.calm or sum(level <= 1 for _, level in values) < enough


def test_patience_ends_the_repeating() -> None:
    patience = Patience(5.0)
    assert patience.again(tried=1, level=1.1, tries=3)
    assert not patience.again(tried=1, level=1.0, tries=3)
    assert not patience.again(tried=3, level=9.0, tries=3)
    patience.spend(7.0)
    assert patience.left == 0
    assert not patience.again(tried=1, level=9.0, tries=3)
