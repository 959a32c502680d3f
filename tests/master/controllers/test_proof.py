"""A Ready pod that nobody asks has to stay so for a moment, and longer once it was restarted."""

from __future__ import annotations

import pytest

from master.controllers.proof import PROOF_SECONDS, RESTARTED_SECONDS, Counted, counted, counts, is_asked, proven_at
from protos import core_pb2

NOW = 1_000_000.0


def pod(ready_for: float | None, *, restarts: int = 0, asked: bool = False) -> core_pb2.Pod:
    made = core_pb2.Pod()
    container = made.spec.containers.add(name="app")
    if asked:
        container.readinessProbe.periodSeconds = 1
    made.status.containerStatuses.add(name="app", restartCount=restarts)
    ready = made.status.conditions.add(type="Ready", status="False" if ready_for is None else "True")
    ready.lastTransitionTime.FromSeconds(int(NOW - (ready_for or 0)))
    return made


@pytest.mark.parametrize(
    ("found", "at"),
    [
        (pod(None), None),
        (pod(0), NOW + PROOF_SECONDS),
        (pod(0, restarts=1), NOW + RESTARTED_SECONDS),
        (pod(0, asked=True), NOW),
        (pod(0, restarts=3, asked=True), NOW),
    ],
)
def test_when_a_pod_has_proven_itself(found: core_pb2.Pod, at: float | None) -> None:
    assert proven_at(found) == at
    assert counts(found, 0, NOW) is (at == NOW)


def test_one_container_without_a_probe_is_enough_to_fail_unasked() -> None:
    spec = core_pb2.PodSpec()
    spec.containers.add(name="a").readinessProbe.periodSeconds = 1
    spec.containers.add(name="b").startupProbe.periodSeconds = 1
    assert is_asked(spec)
    spec.containers.add(name="c").livenessProbe.periodSeconds = 1
    assert not is_asked(spec)


def test_min_ready_seconds_is_all_the_proof_there_is() -> None:
    assert counts(pod(1, restarts=1), 1, NOW) and not counts(pod(1), 3, NOW)
    assert counted([pod(1), pod(5), pod(None)], 3, NOW, enough=1) == Counted(1, 2.0)


def test_a_first_wave_proves_it_for_all() -> None:
    fresh, good = pod(0), pod(PROOF_SECONDS)
    assert counted([fresh, fresh], 0, NOW, enough=1) == Counted(0, PROOF_SECONDS)
    assert counted([fresh, good], 0, NOW, enough=2) == Counted(1, PROOF_SECONDS)
    assert counted([fresh, good, pod(None)], 0, NOW, enough=1) == Counted(2, None)
    assert counted([fresh, pod(None)], 0, NOW, enough=0) == Counted(1, None)
    assert counted([], 0, NOW, enough=1) == Counted(0, None)


def test_probes_answer_for_a_pod_at_once() -> None:
    assert counted([pod(0, asked=True), pod(None, asked=True)], 0, NOW, enough=5) == Counted(1, None)
