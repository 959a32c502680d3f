"""What counts as an end, and lists of indexes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from master.controllers.job_counts import FINALIZER, INDEX, NOTED_AT_ONCE, index_of, outcome, read_indexes, tally
from master.controllers.job_counts import write_indexes as written
from protos import batch_pb2
from tests.master.controllers.builders import pod


@pytest.mark.parametrize(
    ("phase", "terminating", "expected"),
    [
        ("Running", False, ""),
        ("Succeeded", False, "Succeeded"),
        ("Succeeded", True, "Succeeded"),
        ("Failed", False, "Failed"),
        ("Running", True, "Failed"),
    ],
)
def test_outcomes(phase: str, terminating: bool, expected: str) -> None:
    assert outcome(pod("p", node="n", phase=phase, terminating=terminating)) == expected


def test_a_flood_of_ends_is_noted_in_parts_and_nothing_is_left_out_for_good() -> None:
    job = batch_pb2.Job()
    pods = [pod(f"p{number:04}", node="n", phase="Failed") for number in range(NOTED_AT_ONCE + 10)]
    for one in pods:
        one.metadata.finalizers.append(FINALIZER)
    first = tally(job, pods)
    assert first.all_failed == NOTED_AT_ONCE == len(first.settled) and not first.whole
    job.status.uncountedTerminatedPods.failed.extend(first.noted_failed)
    for one in first.settled:
        one.metadata.finalizers.remove(FINALIZER)
    second = tally(job, pods)
    assert second.all_failed == len(pods) and second.failed == NOTED_AT_ONCE and second.whole


def test_the_index_of_a_pod() -> None:
    made = pod("p")
    assert index_of(made) is None
    made.metadata.annotations[INDEX] = "17"
    assert index_of(made) == 17
    made.metadata.annotations[INDEX] = "x"
    assert index_of(made) is None


def test_lists_as_kubernetes_writes_them() -> None:
    assert written([]) == "" and written([7, 1, 3, 5, 4]) == "1,3-5,7" and written([0, 1]) == "0-1"


@settings(deadline=None)
@given(st.sets(st.integers(0, 300)))
def test_indexes_read_back_as_written(indexes: set[int]) -> None:
    text = written(indexes)
    assert set(read_indexes(text)) == indexes
    assert text.count(",") + 1 == len({i - n for n, i in enumerate(sorted(indexes))}) or not indexes
