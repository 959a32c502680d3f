"""What keeps a pod from being Ready, in one line, and whether waiting longer can still help; pure.

Read by the master (automatic rollback) and by the CLI (`rollout status`, `apply --wait`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from protos import core_pb2

RESTARTS = 3
"""A container that crashed this often is not starting up slowly: its back-offs were 0, 10 and 20 s."""
PATIENCE_SECONDS = 30.0
"""Three pulls of an image were tried by then: after 0, 10 and 30 s."""

CANNOT_START = frozenset(
    (
        "ErrImagePull",
        "ImagePullBackOff",
        "ErrImageNeverPull",
        "InvalidImageName",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    )
)
_CRASHING = "CrashLoopBackOff"
_WAITING_ANYWAY = frozenset(("", "ContainerCreating", "PodInitializing"))


@dataclass(frozen=True)
class Trouble:
    """`container` is empty where the pod as a whole is meant. `definite`: no longer a matter of waiting."""

    pod: str
    reason: str
    message: str
    container: str = ""
    definite: bool = False

    def __str__(self) -> str:
        where = f"pod {self.pod}" + (f", container {self.container}" if self.container else "")
        return f"{where}: {self.reason}" + (f": {self.message}" if self.message else "")


def trouble_of(pod: core_pb2.Pod, now: float) -> Trouble | None:
    """The first thing that keeps the pod from being Ready; None for a Ready pod and one that merely needs time.

    `now` in Unix seconds.
    """
    name = pod.metadata.name
    conditions = {condition.type: condition for condition in pod.status.conditions}
    scheduled = conditions.get("PodScheduled")
    if scheduled is not None and scheduled.status == "False":
        return Trouble(name, scheduled.reason or "Unschedulable", _line(scheduled.message))
    ready = conditions.get("Ready")
    if ready is not None and ready.status == "True":
        return None
    for container in (*pod.status.initContainerStatuses, *pod.status.containerStatuses):
        found = _of_container(name, container, _age(pod, now))
        if found is not None:
            return found
    if pod.status.phase == "Failed":
        return Trouble(name, pod.status.reason or "Failed", _line(pod.status.message), definite=True)
    started = all(container.state.HasField("running") for container in pod.status.containerStatuses)
    if ready is not None and pod.status.containerStatuses and started:
        unready = [container.name for container in pod.status.containerStatuses if not container.ready]
        message = "it runs but does not say it is ready" if unready else _line(ready.message)
        return Trouble(name, "NotReady", message, unready[0] if unready else "")
    return None


def worst(pods: Iterable[core_pb2.Pod], now: float) -> Trouble | None:
    """The trouble of these pods most worth telling: a definite one, else one of a container, else any."""
    found = [trouble for pod in pods if (trouble := trouble_of(pod, now)) is not None]
    return min(found, key=lambda trouble: (not trouble.definite, not trouble.container, trouble.pod), default=None)


def _of_container(pod: str, container: core_pb2.ContainerStatus, age: float) -> Trouble | None:
    waiting = container.state.waiting
    ended = container.state.terminated if container.state.HasField("terminated") else container.lastState.terminated
    died = container.state.HasField("terminated") or container.lastState.HasField("terminated")
    if container.state.HasField("waiting") and waiting.reason not in _WAITING_ANYWAY:
        if waiting.reason == _CRASHING:
            definite = container.restartCount >= RESTARTS
            return Trouble(pod, _CRASHING, _crash(container, ended, died), container.name, definite)
        definite = waiting.reason in CANNOT_START and age >= PATIENCE_SECONDS
        return Trouble(pod, waiting.reason, _line(waiting.message), container.name, definite)
    if died and ended.exitCode and not container.ready:
        definite = container.restartCount >= RESTARTS and not container.state.HasField("running")
        return Trouble(pod, ended.reason or "Error", _crash(container, ended, died), container.name, definite)
    return None


def _crash(container: core_pb2.ContainerStatus, ended: core_pb2.ContainerStateTerminated, died: bool) -> str:
    times = f"restarted {container.restartCount} times" if container.restartCount != 1 else "restarted once"
    if not died:
        return times
    how = f"signal {ended.signal}" if ended.signal else f"exit code {ended.exitCode}"
    said = f": {_line(ended.message)}" if ended.message else ""
    return f"ended with {how}{f' ({ended.reason})' if ended.reason not in ('', 'Error') else ''}, {times}{said}"


def _age(pod: core_pb2.Pod, now: float) -> float:
    """Seconds since the pod came to its node; 0 for one that has not."""
    start = pod.status.startTime
    return now - start.seconds if start.seconds else 0.0


def _line(text: str) -> str:
    return " ".join(text.split())
