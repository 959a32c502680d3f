"""When a Terminating pod may be stopped: after the proxies' word and its connections' end, each bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from master.dispatcher.releases import ACKNOWLEDGED_SECONDS, Hold, Proxy, Verdict, judge

PLACE = ("10.244.0.5", 8080)


def hold(uid: str = "a", since: float = 100.0, revision: int = 7, drain: float = 5.0) -> Hold:
    return Hold(uid, since, revision, frozenset({PLACE}), drain)


def test_every_live_proxy_must_have_the_table_without_it() -> None:
    waiting = judge([hold()], [Proxy(7), Proxy(6)], 100.5)
    assert waiting == Verdict((hold(),), (), 100.0 + ACKNOWLEDGED_SECONDS)
    assert judge(waiting.holds, [Proxy(7), Proxy(8)], 100.6).released == ("a",)


def test_a_proxy_that_does_not_answer_holds_it_for_two_seconds_and_no_more() -> None:
    assert judge([hold()], [Proxy(-1)], 101.9).released == ()
    assert judge([hold()], [Proxy(-1)], 102.0).released == ("a",)


def test_without_live_nodes_nothing_is_waited_for() -> None:
    assert judge([hold()], [], 100.0).released == ("a",)


def test_connections_keep_it_until_they_end_or_the_drain_limit_passes() -> None:
    busy, idle = Proxy(7, {PLACE: 2}), Proxy(7, {("10.244.0.5", 9090): 3, PLACE: 0})
    first = judge([hold()], [busy], 100.5)
    assert (first.released, first.look_at) == ((), 105.5)
    # The limit counts from when nothing new can come.
    later = judge(first.holds, [busy, Proxy(2)], 105.4)
    assert later.released == () and later.holds == first.holds
    assert judge(later.holds, [busy], 105.5).released == ("a",)
    assert judge(first.holds, [idle], 101.0).released == ("a",)
    assert judge([hold(drain=0.0)], [busy], 100.5).released == ("a",)


@given(
    st.lists(st.builds(hold, uid=st.uuids().map(str), revision=st.integers(0, 5), drain=st.floats(0, 10)), max_size=5),
    st.lists(st.builds(Proxy, st.integers(-1, 5), st.sampled_from([{}, {PLACE: 1}, {PLACE: 0}])), max_size=4),
    st.lists(st.floats(0, 3), min_size=1, max_size=12),
)
def test_each_is_held_or_released_once_and_none_for_longer_than_its_limits(
    holds: list[Hold], proxies: list[Proxy], steps: list[float]
) -> None:
    now, waiting, released = 100.0, tuple(holds), list[str]()
    for step in steps:
        now += step
        verdict = judge(waiting, proxies, now)
        assert sorted([*verdict.released, *(one.uid for one in verdict.holds)]) == sorted(one.uid for one in waiting)
        assert (verdict.look_at is None) == (not verdict.holds)
        assert verdict.look_at is None or verdict.look_at > now
        released += verdict.released
        waiting = verdict.holds
    # Looked at when it asks for it, nothing is left after the longest limits.
    while waiting:
        verdict = judge(waiting, proxies, now)
        waiting, now = verdict.holds, verdict.look_at or now
    assert now <= 100.0 + sum(steps) + ACKNOWLEDGED_SECONDS + 10
