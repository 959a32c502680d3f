"""When the next pod of a Job may start, which indexes lack one, and which pods are too many."""

from __future__ import annotations

import pytest

from master.controllers.job_counts import INDEX
from master.controllers.job_pods import ended, missing, pause, surplus
from protos import batch_pb2, core_pb2
from tests.master.controllers.builders import NOW, pod


def finished(name: str, phase: str, at: float) -> core_pb2.Pod:
    made = pod(name, node="n", phase=phase)
    made.status.containerStatuses.add(name="main").state.terminated.finishedAt.FromSeconds(int(at))
    return made


def indexed(name: str, index: int, **more: bool) -> core_pb2.Pod:
    made = pod(name, node="n", **more)  # type: ignore[arg-type]
    made.metadata.annotations[INDEX] = str(index)
    return made


@pytest.mark.parametrize(("failures", "expected"), [(0, 0), (1, 10), (2, 20), (3, 40), (6, 320), (7, 360), (40, 360)])
def test_the_pause_doubles_up_to_six_minutes(failures: int, expected: int) -> None:
    pods = [finished(f"p{number}", "Failed", NOW - number) for number in range(failures)]
    assert pause(pods, NOW) == expected
    assert pause(pods, NOW + 7) == max(0, expected - 7)


def test_a_success_begins_anew_and_deleted_pods_are_no_failures() -> None:
    pods = [finished("a", "Failed", NOW - 9), finished("b", "Succeeded", NOW - 8), finished("c", "Failed", NOW)]
    assert pause(pods, NOW) == 10
    pods[2].metadata.deletionTimestamp.FromSeconds(int(NOW))
    assert pause(pods, NOW) == 0


def test_the_end_of_a_pod_that_says_little() -> None:
    made = pod("p", node="n", phase="Failed", ready_at=NOW - 5)
    assert ended(made) == NOW - 5
    del made.status.conditions[:]
    assert ended(made) == NOW - 100


def test_indexes() -> None:
    job = batch_pb2.Job()
    job.spec.completions, job.spec.completionMode = 6, "Indexed"
    active = [indexed("a", 1), indexed("b", 4)]
    assert missing(job, active, {0, 2}, 5) == [3, 5]
    assert missing(job, active, {0, 2}, 1) == [3]
    assert surplus(job, active, {0, 2}, 2) == []
    done, beyond, second = indexed("done", 0), indexed("beyond", 6), indexed("second", 1, ready=True)
    gone = surplus(job, [*active, done, beyond, second], {0, 2}, 2)
    # Of two with one index the better one stays.
    assert sorted(one.metadata.name for one in gone) == ["a", "beyond", "done"]


def test_without_indexes_only_the_number_counts() -> None:
    job = batch_pb2.Job()
    active = [pod("waiting"), pod("running", node="n", ready=True)]
    assert [one.metadata.name for one in surplus(job, active, (), 1)] == ["waiting"]
    assert surplus(job, active, (), 2) == []
