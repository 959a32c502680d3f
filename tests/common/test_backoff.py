"""Delays that double, up to a cap, round their mean."""

from __future__ import annotations

from common.backoff import Backoff


def test_delays_double_up_to_the_cap_and_begin_anew() -> None:
    delays = Backoff(0.5, 3.0)
    assert [next(delays) for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    delays.reset()
    assert next(iter(delays)) == 0.5


def test_the_jitter_stays_within_its_bounds() -> None:
    delays = [next(Backoff(1.0, 1.0, jitter=0.2)) for _ in range(200)]
    assert 0.8 <= min(delays) < max(delays) <= 1.2
