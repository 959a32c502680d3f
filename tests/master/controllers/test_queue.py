"""Keys wait once, never overlap, and failures back off."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from master.controllers.queue import FIRST_RETRY, LONGEST_RETRY, SPARE_TIMES, WorkQueue


def test_a_key_waits_once_and_a_change_during_its_pass_brings_another() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    queue.add("a")
    assert queue.take(0) == "a"
    assert queue.take(0) is None
    queue.add("a")
    assert queue.take(0) is None
    queue.done("a")
    assert queue.take(0) == "a"
    queue.done("a")
    assert queue.take(0) is None and len(queue) == 0


def test_failures_back_off_and_success_forgets_them() -> None:
    queue: WorkQueue[str] = WorkQueue()
    now, delays = 0.0, []
    queue.add("a")
    for _ in range(12):
        assert queue.take(now) == "a"
        queue.add("a")
        delays.append(queue.failed("a", now))
        assert queue.take(now + delays[-1] - 0.01) is None
        now += delays[-1]
    assert delays[:3] == [FIRST_RETRY, 2 * FIRST_RETRY, 4 * FIRST_RETRY] and delays[-1] == LONGEST_RETRY
    assert queue.take(now) == "a"
    queue.done("a")
    queue.add("a")
    assert queue.take(now) == "a"
    assert queue.failed("a", now) == FIRST_RETRY


def test_the_earliest_time_counts() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_at("a", 10)
    queue.add_at("a", 5)
    queue.add_at("a", 7)
    assert queue.next_at() == 5
    assert queue.take(4.9) is None
    assert queue.take(5) == "a"
    queue.done("a")
    assert queue.take(100) is None


@given(st.lists(st.tuples(st.sampled_from(["add", "take", "done", "fail", "later"]), st.sampled_from("abc"))))
def test_no_key_is_lost_and_none_runs_twice_at_once(steps: list[tuple[str, str]]) -> None:
    queue: WorkQueue[str] = WorkQueue()
    busy: set[str] = set()
    owed: set[str] = set()
    now = 0.0
    for step, key in steps:
        now += 1
        if step == "add":
            queue.add(key)
            owed.add(key)
        elif step == "later":
            queue.add_at(key, now + 3)
            # While a pass runs its end settles that.
            if key not in busy:
                owed.add(key)
        elif step == "take":
            taken = queue.take(now)
            if taken is not None:
                assert taken not in busy
                busy.add(taken)
                owed.discard(taken)
        elif key in busy:
            busy.discard(key)
            if step == "done":
                queue.done(key)
            else:
                queue.failed(key, now)
                owed.add(key)
    for key in busy:
        queue.done(key)
    now += 1000
    while (taken := queue.take(now)) is not None:
        owed.discard(taken)
        queue.done(taken)
    assert not owed


def test_times_nobody_waits_for_any_more_go() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for number in range(5000):
        # An object with a deadline in a day, whose deletion brings one more pass.
        queue.add(f"job-{number}")
        key = queue.take(float(number))
        assert key is not None
        queue.done(key)
        queue.add_at(key, number + 86_400.0)
        queue.add(key)
        assert queue.take(float(number)) == key
        queue.done(key)
    assert not queue._wanted and len(queue._later) <= SPARE_TIMES
    queue.add_at("late", 10_000.0)
    assert queue.take(9_999.0) is None and queue.take(10_000.0) == "late"


def test_the_last_pass_says_when_to_come_back() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_at("a", 5.0)
    queue.add("a")
    assert queue.take(1.0) == "a"
    queue.done("a")
    queue.add_at("a", 9.0)
    assert queue.take(5.0) is None
    assert queue.take(9.0) == "a"
