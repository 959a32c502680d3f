"""What the soak says in the end: that all is flat, or by name what is not, and that too few rounds are no verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from bench.soak import FULL, MOST_EVENTS, Soak, conclude
from bench.soak_calls import Calls
from bench.soak_gauges import LEAST_ROUNDS, MB, WARM_ROUNDS
from bench.soak_inside import heaps
from bench.soak_load import Users

ROUNDS = WARM_ROUNDS + LEAST_ROUNDS
LEVELS = {
    "store.db": 37 * MB,
    "objects Pod": 376.0,
    "objects Event in one namespace": 1040.0,
    "master memory": 220 * MB,
    "master heap": 90 * MB,
    "master descriptors": 430.0,
    "master threads": 12.0,
}


def soak(each: Mapping[str, float] | None = None, rounds: int = ROUNDS) -> Soak:
    """A finished run in which every round after the warm-up adds so much to each of some figures, or to the `table`."""
    made = Soak(Path(), 200)
    made.users = Users(Calls(None), 8)
    for number in range(rounds):
        after = max(0, number - WARM_ROUNDS)
        grown = {name: by * after for name, by in (each or {}).items()}
        sample = {name: level + grown.get(name, 0.0) for name, level in LEVELS.items()}
        made.samples.append(sample | {"revision": FULL + number * 1000.0, "operations": number * 100.0})
        made.tables.append({"master a.B.c": int(40 + grown.get("table", 0))})
        made._kinds.append({"master": Counter(socket=int(sample["master descriptors"]))})
    return made


def test_equal_rounds_are_flat() -> None:
    assert conclude(soak(), tables=False) == []


@pytest.mark.parametrize(
    ("figure", "each"),
    [
        ("master descriptors", 1),
        ("master threads", 1),
        ("objects Pod", 1),
        ("master memory", 2 * MB),
        ("master heap", 2 * MB),
        ("store.db", 1.5 * MB),
    ],
)
def test_what_grows_with_every_round_is_named_in_the_shortest_run(figure: str, each: float) -> None:
    assert conclude(soak({figure: each}), tables=False) == [figure]


def test_a_table_that_grows_is_named_and_what_grows_while_warming_up_is_not() -> None:
    assert conclude(soak({"table": 3}), tables=False) == ["master a.B.c"]
    early = soak()
    for number in range(WARM_ROUNDS):
        early.samples[number]["master memory"] -= 100 * MB
    assert conclude(early, tables=False) == []


def test_events_beyond_their_bound_are_told_also_when_they_are_flat() -> None:
    made = soak()
    for sample in made.samples:
        sample["objects Event in one namespace"] = MOST_EVENTS + 1.0
    assert conclude(made, tables=False) == ["events of one namespace beyond their bound"]


def test_too_few_rounds_are_no_verdict() -> None:
    assert conclude(soak(rounds=ROUNDS - 1), tables=False) == ["nothing judged"]


def test_heaps_grow_with_what_is_held_and_not_with_what_was() -> None:
    before = heaps()
    large, small = [bytearray(100_000) for _ in range(50)], [float(number) for number in range(10_000)]
    held = heaps()
    assert held["heap"] - before["heap"] > 4_000_000 and held["blocks"] - before["blocks"] > 9_000
    del large, small
    after = heaps()
    assert after["heap"] - before["heap"] < 1_000_000 and after["blocks"] - before["blocks"] < 1_000
