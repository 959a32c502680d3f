"""The status and the restarts of a pod, case by case as kubectl shows them."""

from __future__ import annotations

from typing import Any

import pytest

from cli.columns import pods
from tests.cli.making import NOW, ago, pod, status

RUNNING = {"startedAt": ago(60)}
READY = [{"type": "Ready", "status": "True"}]
GOING = {"deletionTimestamp": ago(-30), "deletionGracePeriodSeconds": 30}


@pytest.mark.parametrize(
    ("obj", "ready", "word", "restarts"),
    [
        (pod(phase="Pending"), "0/1", "Pending", "0"),
        (pod(phase="Pending", containerStatuses=[status(waiting={"reason": "ContainerCreating"})]),
         "0/1", "ContainerCreating", "0"),
        (pod(phase="Pending", containerStatuses=[status(waiting={"reason": "ImagePullBackOff"})]),
         "0/1", "ImagePullBackOff", "0"),
        (pod(conditions=READY, containerStatuses=[status(ready=True, running=RUNNING)]), "1/1", "Running", "0"),
        (pod(containerStatuses=[status(running=RUNNING)]), "0/1", "Running", "0"),
        (pod(containerStatuses=[status(restarts=3, waiting={"reason": "CrashLoopBackOff"},
                                       last={"exitCode": 1, "finishedAt": ago(10)})]),
         "0/1", "CrashLoopBackOff", "3 (10s ago)"),
        (pod(conditions=READY, containers=2, containerStatuses=[
            status("c0", ready=True, restarts=1, running=RUNNING, last={"exitCode": 1, "finishedAt": ago(300)}),
            status("c1", ready=True, restarts=2, running=RUNNING, last={"exitCode": 1, "finishedAt": ago(150)}),
        ]), "2/2", "Running", "3 (2m30s ago)"),
        (pod(phase="Succeeded", containerStatuses=[status(terminated={"exitCode": 0, "reason": "Completed"})]),
         "0/1", "Completed", "0"),
        (pod(phase="Failed", containerStatuses=[status(terminated={"exitCode": 1, "reason": "Error"})]),
         "0/1", "Error", "0"),
        (pod(phase="Failed", containerStatuses=[status(terminated={"exitCode": 137, "reason": "OOMKilled"})]),
         "0/1", "OOMKilled", "0"),
        (pod(phase="Failed", containerStatuses=[status(terminated={"exitCode": 3})]), "0/1", "ExitCode:3", "0"),
        (pod(phase="Failed", containerStatuses=[status(terminated={"exitCode": 0, "signal": 9})]),
         "0/1", "Signal:9", "0"),
        # One of two containers is through: the pod runs as long as it is ready, else NotReady.
        (pod(conditions=READY, containers=2, containerStatuses=[
            status("c0", terminated={"exitCode": 0, "reason": "Completed"}), status("c1", ready=True, running=RUNNING),
        ]), "1/2", "Running", "0"),
        (pod(containers=2, containerStatuses=[
            status("c0", terminated={"exitCode": 0, "reason": "Completed"}), status("c1", ready=True, running=RUNNING),
        ]), "1/2", "NotReady", "0"),
        # The first container with a reason speaks.
        (pod(containers=2, containerStatuses=[
            status("c0", waiting={"reason": "ErrImagePull"}), status("c1", waiting={"reason": "CrashLoopBackOff"}),
        ]), "0/2", "ErrImagePull", "0"),
        (pod(phase="Pending", init=2, initContainerStatuses=[
            status("i0", terminated={"exitCode": 0}), status("i1", running=RUNNING),
        ], containerStatuses=[status(waiting={"reason": "PodInitializing"})]), "0/1", "Init:1/2", "0"),
        (pod(phase="Pending", init=1, initContainerStatuses=[status("i0", waiting={"reason": "PodInitializing"})]),
         "0/1", "Init:0/1", "0"),
        (pod(phase="Pending", init=1, initContainerStatuses=[
            status("i0", restarts=2, waiting={"reason": "CrashLoopBackOff"},
                   last={"exitCode": 1, "finishedAt": ago(5)}),
        ]), "0/1", "Init:CrashLoopBackOff", "2 (5s ago)"),
        (pod(phase="Pending", init=1, initContainerStatuses=[status("i0", terminated={"exitCode": 4})]),
         "0/1", "Init:ExitCode:4", "0"),
        (pod(phase="Pending", init=1,
             initContainerStatuses=[status("i0", terminated={"exitCode": 1, "reason": "Error"})]),
         "0/1", "Init:Error", "0"),
        # Restarts of init containers no longer count when all are through.
        (pod(init=1, conditions=READY, initContainerStatuses=[status("i0", restarts=5, terminated={"exitCode": 0})],
             containerStatuses=[status(ready=True, restarts=1, running=RUNNING)]), "1/1", "Running", "1"),
        (pod(metadata=GOING, containerStatuses=[status(ready=True, running=RUNNING)]), "1/1", "Terminating", "0"),
        (pod(metadata=GOING, phase="Succeeded",
             containerStatuses=[status(terminated={"exitCode": 0, "reason": "Completed"})]), "0/1", "Completed", "0"),
        (pod(metadata=GOING, reason="NodeLost"), "0/1", "Unknown", "0"),
        (pod(phase="Failed", reason="Evicted"), "0/1", "Evicted", "0"),
    ],
)  # fmt: skip
def test_pod_rows(obj: Any, ready: str, word: str, restarts: str) -> None:
    cells = {column.heading: column.cell(obj, NOW) for column in pods.COLUMNS}
    assert (cells["READY"], cells["STATUS"], cells["RESTARTS"]) == (ready, word, restarts)
    assert cells["AGE"] == "10m"


@pytest.mark.parametrize(
    ("statuses", "ready", "word", "restarts"),
    [
        ([status("i0", running=RUNNING)], "0/2", "Init:0/1", "0"),
        ([status("i0", running=RUNNING) | {"started": True}], "0/2", "PodInitializing", "0"),
        ([status("i0", ready=True, restarts=2, running=RUNNING) | {"started": True}], "1/2", "PodInitializing", "2"),
    ],
)
def test_sidecars_count_among_the_containers(statuses: list[Any], ready: str, word: str, restarts: str) -> None:
    waiting = [status(waiting={"reason": "PodInitializing"})]
    obj = pod(phase="Pending", init=1, initContainerStatuses=statuses, containerStatuses=waiting)
    obj.spec.initContainers[0].restartPolicy = "Always"
    cells = {column.heading: column.cell(obj, NOW) for column in pods.COLUMNS}
    assert (cells["READY"], cells["STATUS"], cells["RESTARTS"]) == (ready, word, restarts)
    obj.status.containerStatuses[0].CopyFrom(
        pod(containerStatuses=[status(ready=True, running=RUNNING)]).status.containerStatuses[0]
    )
    assert pods.summary(obj).ready == int(ready[0]) + (word != "Init:0/1")
