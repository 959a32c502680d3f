"""When the soak calls a figure flat: noise, dips and full bounds are, growth with every round is not."""

from __future__ import annotations

import os

import pytest

from bench.soak_gauges import (
    DESCRIPTORS,
    EVENTS,
    LEAST_ROUNDS,
    MB,
    MEMORY,
    OBJECTS,
    WARM_ROUNDS,
    Allowance,
    allowance,
    bound,
    descriptors,
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


def test_one_descriptor_more_in_every_round_is_a_leak() -> None:
    assert not judge([200.0 + number for number in range(12)], DESCRIPTORS).flat


def test_noise_a_busy_round_and_a_dip_are_flat() -> None:
    assert judge([400.0 + number % 2 for number in range(31)], Allowance(0.0, 1)).flat
    assert judge([400.0] * 28 + [900.0, 400.0], NONE).flat
    assert judge([400.0] * 10 + [100.0] * 4 + [400.0] * 10, NONE).flat
    assert judge([400.0] * 6 + [300.0] * 6, NONE).flat


def test_only_what_comes_after_the_warm_up_is_judged() -> None:
    assert warmed_up([9000.0, 18000.0, 21000.0, 23000.0, 25000.0, 28000.0], 24000) == 4
    assert warmed_up([30000.0, 40000.0, 50000.0, 60000.0], 24000) == WARM_ROUNDS
    assert warmed_up([9000.0, 18000.0], 24000) == 2


def test_a_table_with_a_bound_of_its_own_is_known_by_name_or_by_its_room() -> None:
    assert bound("master.store.store.Store._history") == 24_000
    assert bound("type protos.pod_pb2.Pod") == 48_000 and bound("type master.scheduler.rules.Rules") == 4096
    assert bound("master.dispatcher.nodes.NodeTable._seen") == 0


def test_too_few_rounds_are_no_verdict() -> None:
    assert not judge([1.0] * (LEAST_ROUNDS - 1), NONE).flat
    assert judge([1.0] * LEAST_ROUNDS, NONE).flat
    assert not judge([], NONE).flat


def test_names_find_their_allowance_and_processes_their_figures() -> None:
    assert allowance("master memory") is MEMORY and allowance("objects Pod") is OBJECTS
    assert allowance("objects Event in one namespace") is EVENTS
    here = process(os.getpid())
    assert here["memory"] > MB and here["descriptors"] >= 3 and here["threads"] >= 1
    before = descriptors(os.getpid())
    reading, writing = os.pipe()
    try:
        assert descriptors(os.getpid())["pipe"] == before["pipe"] + 2
    finally:
        os.close(reading)
        os.close(writing)
