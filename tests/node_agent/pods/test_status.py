"""PodStatus in Kubernetes' words."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.podstate import may_follow
from node_agent.pods.model import Final, Memory, Trouble
from node_agent.pods.plan import Plan, make_plan
from node_agent.pods.status import pod_status, qos_class
from node_agent.runtime.seam import Seen, State
from protos.core_pb2 import ContainerStatus, Pod, PodStatus
from tests.node_agent.pods.build import BOX, make_pod, seen

NOW = 1000.0
MEMORY = Memory(started_at=90.5)


def status(
    pod: Pod,
    containers: Sequence[Seen],
    memory: Memory = MEMORY,
    before: PodStatus | None = None,
    now: float = NOW,
    plan: Plan | None = None,
) -> PodStatus:
    plan = plan if plan is not None else make_plan(pod, containers, memory, now)
    return pod_status(
        pod, containers, memory, plan, before or PodStatus(), node_ip="192.0.2.1", pod_ip="10.0.0.2", now=now
    )


def conditions(found: PodStatus) -> dict[str, tuple[str, str]]:
    return {one.type: (one.status, one.reason) for one in found.conditions}


def only(found: PodStatus) -> ContainerStatus:
    return found.containerStatuses[0]


def test_new_pod() -> None:
    found = status(make_pod("a"), [])
    assert found.phase == "Pending"
    assert only(found).state.waiting.reason == "ContainerCreating"
    assert found.startTime.seconds == 90
    assert conditions(found) == {
        "Initialized": ("True", ""),
        "Ready": ("False", "ContainersNotReady"),
        "ContainersReady": ("False", "ContainersNotReady"),
    }
    ready = next(one for one in found.conditions if one.type == "Ready")
    assert ready.message == "containers with unready status: [a]"


def test_running_pod() -> None:
    found = status(make_pod("a"), [BOX, seen("a", attempt=2)])
    assert (found.phase, found.podIP, found.hostIP) == ("Running", "10.0.0.2", "192.0.2.1")
    assert [one.ip for one in found.podIPs] == ["10.0.0.2"]
    one = only(found)
    assert one.state.running.startedAt.seconds == 100
    assert (one.ready, one.started, one.restartCount) == (True, True, 2)
    assert (one.containerID, one.imageID, one.image) == ("docker://a2", "docker://sha256:1", "app:1")
    assert conditions(found)["Ready"] == ("True", "")


def test_half_running_pod_is_pending() -> None:
    found = status(make_pod("a", "b"), [BOX, seen("a")])
    assert found.phase == "Pending"
    assert conditions(found)["Ready"][0] == "False"


def test_waiting_for_init_containers() -> None:
    pod = make_pod("a", inits=("i",))
    found = status(pod, [BOX, seen("i")])
    assert found.phase == "Pending"
    assert only(found).state.waiting.reason == "PodInitializing"
    assert not found.initContainerStatuses[0].ready
    assert conditions(found)["Initialized"] == ("False", "ContainersNotInitialized")
    done = status(pod, [BOX, seen("i", State.EXITED), seen("a")])
    assert done.phase == "Running"
    assert done.initContainerStatuses[0].ready
    assert done.initContainerStatuses[0].state.terminated.reason == "Completed"
    assert conditions(done)["Initialized"] == ("True", "")


@pytest.mark.parametrize(
    ("dead", "reason", "code"),
    [
        (seen("a", State.EXITED, attempt=1, crashes=1, code=1, start=NOW - 1, end=NOW), "Error", 1),
        (seen("a", State.EXITED, attempt=1, crashes=1, code=0, start=NOW - 1, end=NOW), "Completed", 0),
        (seen("a", State.EXITED, attempt=1, crashes=1, code=137, oom=True, start=NOW - 1, end=NOW), "OOMKilled", 137),
    ],
)
def test_crash_loop(dead: Seen, reason: str, code: int) -> None:
    found = status(make_pod("a"), [BOX, dead])
    one = only(found)
    assert one.state.waiting.reason == "CrashLoopBackOff"
    assert one.state.waiting.message == (
        f"back-off 10s restarting failed container=a pod=web_default({make_pod('a').metadata.uid})"
    )
    assert (one.lastState.terminated.reason, one.lastState.terminated.exitCode) == (reason, code)
    assert (found.phase, one.restartCount) == ("Running", 1)


def test_start_that_failed() -> None:
    dead = dataclasses.replace(seen("a", State.EXITED, code=127, error="no such file"), started_at=0.0)
    ended = only(status(make_pod("a", policy="Never"), [BOX, dead])).state.terminated
    assert (ended.reason, ended.message, ended.exitCode) == ("StartError", "no such file", 127)
    assert not ended.HasField("startedAt")
    again = only(status(make_pod("a"), [BOX, dead]))
    assert (again.state.waiting.reason, again.state.waiting.message) == ("RunContainerError", "no such file")
    assert again.lastState.terminated.reason == "StartError"


def test_pull_trouble_becomes_backoff() -> None:
    memory = dataclasses.replace(MEMORY, trouble={"a": Trouble("ErrImagePull", "registry says no", NOW, NOW + 10)})
    fresh = only(status(make_pod("a"), [BOX], memory)).state.waiting
    assert (fresh.reason, fresh.message) == ("ErrImagePull", "registry says no")
    later = only(status(make_pod("a"), [BOX], memory, now=NOW + 4)).state.waiting
    assert later.reason == "ImagePullBackOff"
    assert later.message == 'Back-off pulling image "app:1": registry says no'


def test_volume_trouble_shows_on_every_container() -> None:
    trouble = Trouble("CreateContainerConfigError", "no configmap", NOW, NOW + 9)
    memory = dataclasses.replace(MEMORY, trouble={"": trouble})
    found = status(make_pod("a", "b"), [], memory)
    assert [(c.state.waiting.reason, c.state.waiting.message) for c in found.containerStatuses] == [
        ("ContainerCreating", "no configmap")
    ] * 2


@pytest.mark.parametrize(("code", "phase", "reason"), [(0, "Succeeded", "PodCompleted"), (3, "Failed", "PodFailed")])
def test_ended_pod(code: int, phase: str, reason: str) -> None:
    pod = make_pod("a", policy="Never")
    found = status(pod, [BOX, seen("a", State.EXITED, code=code)])
    assert found.phase == phase
    assert conditions(found)["Ready"] == ("False", reason)
    assert only(found).state.terminated.exitCode == code


def test_deadline_fails_the_pod_once_it_has_stopped() -> None:
    pod = make_pod("a")
    final = Final("Failed", "DeadlineExceeded", "too long")
    memory = dataclasses.replace(MEMORY, final=final)
    assert status(pod, [BOX, seen("a")], memory).phase == "Running"
    found = status(pod, [seen("a", State.EXITED, code=143)], memory)
    assert (found.phase, found.reason, found.message) == ("Failed", "DeadlineExceeded", "too long")
    assert only(found).state.terminated.exitCode == 143


def test_other_conditions_are_kept_and_times_move_only_with_the_status() -> None:
    pod = make_pod("a")
    pod.status.conditions.add(type="PodScheduled", status="True")
    first = status(pod, [BOX], now=200.0)
    second = status(pod, [BOX], before=first, now=300.0)
    times = {one.type: one.lastTransitionTime.seconds for one in second.conditions}
    assert times["Ready"] == 200 and "PodScheduled" in times
    third = status(pod, [BOX, seen("a")], before=second, now=400.0)
    times = {one.type: one.lastTransitionTime.seconds for one in third.conditions}
    assert (times["Ready"], times["Initialized"]) == (400, 200)


def test_what_it_came_to_outlives_its_container() -> None:
    pod = make_pod("a", policy="Never")
    before = status(pod, [BOX, seen("a", State.EXITED, code=3)])
    memory = dataclasses.replace(MEMORY, final=Final("Failed"))
    assert only(status(pod, [], memory, before)).state.terminated.exitCode == 3


@given(st.lists(st.tuples(st.sampled_from(list(State)), st.integers(0, 1)), min_size=1, max_size=6))
def test_phase_never_goes_back(history: list[tuple[State, int]]) -> None:
    pod, before = make_pod("a", policy="OnFailure"), PodStatus()
    for attempt, (state, code) in enumerate(history):
        found = status(pod, [BOX, seen("a", state, attempt=attempt, code=code)], before=before)
        assert may_follow(before.phase, found.phase)
        before = found


@pytest.mark.parametrize(
    ("limits", "requests", "expected"),
    [
        ({}, {}, "BestEffort"),
        ({"cpu": "1", "memory": "1Gi"}, {}, "Guaranteed"),
        ({"cpu": "1", "memory": "1Gi"}, {"cpu": "1", "memory": "1Gi"}, "Guaranteed"),
        ({"cpu": "1", "memory": "1Gi"}, {"cpu": "500m"}, "Burstable"),
        ({"cpu": "1"}, {}, "Burstable"),
        ({}, {"memory": "1Mi"}, "Burstable"),
    ],
)
def test_qos_class(limits: dict[str, str], requests: dict[str, str], expected: str) -> None:
    pod = make_pod("a")
    for given_values, target in (
        (limits, pod.spec.containers[0].resources.limits),
        (requests, pod.spec.containers[0].resources.requests),
    ):
        for name, text in given_values.items():
            target[name].value = text
    assert qos_class(pod) == expected


def test_who_was_evicted_was_the_target_of_a_disruption() -> None:
    pod, memory = make_pod("a"), dataclasses.replace(MEMORY, final=Final("Failed", "Evicted", "short of memory"))
    # Somebody else's word of an earlier eviction is not kept beside ours.
    pod.status.conditions.add(type="DisruptionTarget", status="True", reason="EvictionByEvictionAPI")
    found = status(pod, [], memory)
    (target,) = [one for one in found.conditions if one.type == "DisruptionTarget"]
    assert (target.status, target.reason, target.message) == ("True", "TerminationByKubelet", "short of memory")
    assert target.lastTransitionTime.seconds == NOW
    again = status(pod, [], memory, before=found, now=NOW + 5)
    assert again == found
    overdue = dataclasses.replace(MEMORY, final=Final("Failed", "DeadlineExceeded", "too long"))
    assert conditions(status(make_pod("a"), [], overdue)).keys() == {"Initialized", "Ready", "ContainersReady"}


def test_the_image_is_told_before_the_container_is_there() -> None:
    pod = make_pod("a")
    early = status(pod, [], dataclasses.replace(MEMORY, images={"a": "sha256:1"}))
    assert only(early).imageID == "docker://sha256:1" and not only(early).containerID
    assert only(early).state.waiting.reason == "ContainerCreating"
