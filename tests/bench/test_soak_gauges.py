"""When the soak calls a figure flat: noise, dips and full bounds are, growth with every round is not."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

import pytest

from bench.soak_gauges import (
    BLOCKS,
    DESCRIPTORS,
    EVENTS,
    HEAP,
    LEAST_ROUNDS,
    MB,
    MEMORY,
    OBJECTS,
    TABLES,
    THREADS,
    WARM_ROUNDS,
    Allowance,
    allowance,
    bound,
    descriptors,
    files,
    judge,
    process,
    warmed_up,
)

NONE = Allowance(0.0, 0.5)


def test_a_leak_is_seen_with_what_it_grew_and_what_it_might() -> None:
    found = judge([100 * MB + number * MB for number in range(30)], MEMORY)
    assert not found.flat
    assert (found.first, found.last) == (104.5 * MB, 124.5 * MB)
    assert found.growth == pytest.approx(20 * MB) and found.bar == 6 * MB


def test_one_more_in_every_round_is_a_leak_in_the_shortest_run_that_is_judged() -> None:
    growing = [200.0 + number for number in range(LEAST_ROUNDS)]
    for allowed in (DESCRIPTORS, THREADS, allowance("objects Pod")):
        assert judge(growing[:1] * LEAST_ROUNDS, allowed).flat
        assert not judge(growing, allowed).flat


def test_noise_a_busy_round_and_a_dip_are_flat() -> None:
    assert judge([400.0 + number % 2 for number in range(31)], Allowance(0.0, 1)).flat
    assert judge([400.0] * 28 + [900.0, 400.0], NONE).flat
    assert judge([400.0] * 10 + [100.0] * 4 + [400.0] * 10, NONE).flat
    assert judge([400.0] * 6 + [300.0] * 6, NONE).flat


def test_a_table_may_waver_as_it_did_before_and_not_grow() -> None:
    assert allowance("a.b.C.d") is TABLES and allowance("type dict") is TABLES
    assert judge([60.0, 95.0, 70.0] * 3 + [90.0, 95.0, 80.0], TABLES).flat
    assert not judge([60.0 + 3 * number for number in range(LEAST_ROUNDS)], TABLES).flat
    assert not judge([900.0 + 60 * number for number in range(18)], TABLES).flat, "wavering is no room for growth"


def test_only_what_comes_after_the_warm_up_is_judged() -> None:
    assert warmed_up([9000.0, 18000.0, 21000.0, 23000.0, 25000.0, 28000.0], 24000) == 4
    assert warmed_up([30000.0, 40000.0, 50000.0, 60000.0], 24000) == WARM_ROUNDS
    assert warmed_up([9000.0, 18000.0], 24000) == 2


def test_what_the_heaps_hold_may_be_what_the_history_is_and_not_grow() -> None:
    assert allowance("master heap") is HEAP and allowance("agents-0 blocks") is BLOCKS
    assert not judge([90 * MB + number * 0.8 * MB for number in range(18)], HEAP).flat
    assert not judge([700_000.0 + number * 4_000 for number in range(18)], BLOCKS).flat
    assert judge([700_000.0 + 20_000 * (number % 2) for number in range(18)], BLOCKS).flat


def test_a_table_with_a_bound_of_its_own_is_known_by_name_or_by_its_room() -> None:
    assert bound("master master.store.store.Store._history") == 24_000
    assert bound("master type protos.pod_pb2.Pod") == 48_000
    assert bound("master type master.scheduler.rules.Rules") == 4 * 4096
    assert bound("master master.dispatcher.nodes.NodeTable._seen") == 0
    assert bound("agents-1 type protos.pod_pb2.Pod") == 0, "an agent has no store"
    assert bound("agents-1 node_agent.reporter.Reporter._events") == 100_000


def test_too_few_rounds_are_no_verdict() -> None:
    assert not judge([1.0] * (LEAST_ROUNDS - 1), NONE).flat
    assert judge([1.0] * LEAST_ROUNDS, NONE).flat
    assert not judge([], NONE).flat


def test_a_store_is_measured_by_what_is_used_of_its_file(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as store:
        store.executescript("PRAGMA journal_mode=WAL; CREATE TABLE rows (body BLOB)")
        store.executemany("INSERT INTO rows VALUES (?)", [(bytes(10_000),)] * 100)
        full = files(tmp_path)
        store.execute("DELETE FROM rows")
        store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        empty = files(tmp_path)
    assert full["store.db used"] > MB > 100_000 > empty["store.db used"] and empty["store.db"] > MB
    assert full["wal"] > 0 == empty["wal"]


def test_names_find_their_allowance_and_processes_their_figures() -> None:
    assert allowance("master memory") is MEMORY and allowance("objects Pod") is OBJECTS
    assert allowance("objects Event in one namespace") is EVENTS
    here = process(os.getpid())
    assert here["resident"] > here["memory"] > MB and here["descriptors"] >= 3 and here["threads"] >= 1
    before = descriptors(os.getpid())
    reading, writing = os.pipe()
    try:
        assert descriptors(os.getpid())["pipe"] == before["pipe"] + 2
    finally:
        os.close(reading)
        os.close(writing)
