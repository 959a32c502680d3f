"""Thresholds, times and sizes as users write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_agent.care.settings import (
    DEFAULT_HARD,
    SIGNALS,
    Threshold,
    log_size,
    parse_graces,
    parse_thresholds,
    seconds,
)

MIB = 1024 * 1024


def test_default_thresholds_cover_every_signal() -> None:
    found = {one.signal: one for one in parse_thresholds(DEFAULT_HARD)}
    assert tuple(found) == SIGNALS
    assert found["memory.available"].limit(8 * 1024 * MIB) == 100 * MIB
    assert found["nodefs.available"].limit(1000) == 100
    assert found["nodefs.inodesFree"].limit(1000) == 50
    assert all(one.hard for one in found.values())


def test_soft_thresholds_need_a_time() -> None:
    graces = parse_graces("memory.available=1m30s, nodefs.available=90")
    assert parse_thresholds("memory.available<1Gi", graces) == (
        Threshold("memory.available", amount=1024 * MIB, grace=90.0, text="1Gi"),
    )
    with pytest.raises(ValueError, match=r"imagefs\.available needs a time in --eviction-soft-grace-period"):
        parse_thresholds("imagefs.available<5%", graces)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("memory<1Gi", 'signal must be one of memory.available, .*, got "memory"'),
        ("memory.available>1Gi", "must be like memory.available<100Mi"),
        ("memory.available<lots", "must be a quantity"),
        ("memory.available<-5", "must be a quantity"),
        ("nodefs.available<110%", "percentage must be 0-99"),
        ("nodefs.available<x%", "percentage must be 0-99"),
        ("pid.available<5%,pid.available<6%", "given twice"),
    ],
)
def test_what_is_wrong_with_a_threshold(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_thresholds(text)


def test_times() -> None:
    assert [seconds(text) for text in ("5m", "1m30s", "90s", "90", "1h")] == [300, 90, 90, 90, 3600]
    for text in ("", "5 minutes", "-1s", "s"):
        with pytest.raises(ValueError, match="must be a time like 5m"):
            seconds(text)
    with pytest.raises(ValueError, match="longer than 0"):
        parse_graces("memory.available=0s")


def test_log_sizes() -> None:
    assert [log_size(text) for text in ("10m", "10Mi", "512Ki", "1g", "4096")] == ["10m", "10m", "512k", "1g", "4096"]
    for text in ("0m", "10 MB", "-1", "1000"):
        with pytest.raises(ValueError, match="must be"):
            log_size(text)


@given(st.sampled_from(SIGNALS), st.integers(0, 2**50), st.integers(1, 2**50))
def test_a_quantity_is_the_same_whatever_there_is(signal: str, amount: int, capacity: int) -> None:
    (found,) = parse_thresholds(f"{signal}<{amount}")
    assert found.limit(capacity) == amount
