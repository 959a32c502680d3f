"""What keeps a pod from being Ready, in a line; and when waiting is of no use any more."""

from __future__ import annotations

from common.podtrouble import PATIENCE_SECONDS, trouble_of, worst
from protos import core_pb2

NOW = 1_700_000_000.0


def pod(name: str = "web-1", *, age: float = 0.0) -> core_pb2.Pod:
    made = core_pb2.Pod()
    made.metadata.name = name
    made.status.startTime.FromSeconds(int(NOW - age))
    made.status.conditions.add(type="Ready", status="False")
    return made


def waiting(reason: str, *, age: float = 0.0, restarts: int = 0) -> core_pb2.Pod:
    made = pod(age=age)
    status = made.status.containerStatuses.add(name="app", restartCount=restarts)
    status.state.waiting.reason, status.state.waiting.message = reason, "so\n it is"
    return made


def test_a_ready_pod_and_one_that_is_on_its_way_have_none() -> None:
    ready = pod()
    ready.status.conditions[0].status = "True"
    assert trouble_of(ready, NOW) is None
    assert trouble_of(waiting("ContainerCreating", age=900), NOW) is None
    assert trouble_of(core_pb2.Pod(), NOW) is None


def test_an_image_is_waited_for_a_while() -> None:
    early, late = waiting("ErrImagePull"), waiting("ImagePullBackOff", age=PATIENCE_SECONDS)
    found = trouble_of(early, NOW)
    assert found is not None and not found.definite
    assert str(found) == "pod web-1, container app: ErrImagePull: so it is"
    found = trouble_of(late, NOW)
    assert found is not None and found.definite


def test_crashes_become_definite_with_the_third_restart() -> None:
    crashing = waiting("CrashLoopBackOff", restarts=2)
    crashing.status.containerStatuses[0].lastState.terminated.exitCode = 137
    crashing.status.containerStatuses[0].lastState.terminated.reason = "OOMKilled"
    found = trouble_of(crashing, NOW)
    assert found is not None and not found.definite
    assert found.message == "ended with exit code 137 (OOMKilled), restarted 2 times"
    crashing.status.containerStatuses[0].restartCount = 3
    found = trouble_of(crashing, NOW)
    assert found is not None and found.definite


def test_a_container_that_runs_again_is_no_definite_trouble() -> None:
    again = pod()
    status = again.status.containerStatuses.add(name="app", restartCount=5)
    status.state.running.SetInParent()
    status.lastState.terminated.exitCode = 1
    found = trouble_of(again, NOW)
    assert found is not None and not found.definite and "exit code 1" in found.message


def test_no_node_and_no_readiness() -> None:
    nowhere = pod()
    nowhere.status.conditions.add(type="PodScheduled", status="False", reason="Unschedulable", message="0/2 nodes")
    assert str(trouble_of(nowhere, NOW)) == "pod web-1: Unschedulable: 0/2 nodes"
    unready = pod()
    unready.status.containerStatuses.add(name="app").state.running.SetInParent()
    found = trouble_of(unready, NOW)
    assert found is not None and (found.reason, found.container) == ("NotReady", "app")


def test_the_worst_is_told() -> None:
    ready = pod("a")
    ready.status.conditions[0].status = "True"
    nowhere = pod("b")
    nowhere.status.conditions.add(type="PodScheduled", status="False", reason="Unschedulable")
    found = worst([ready, nowhere, waiting("ErrImagePull", age=60)], NOW)
    assert found is not None and found.reason == "ErrImagePull"
    assert worst([ready], NOW) is None
