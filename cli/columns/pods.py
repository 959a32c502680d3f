"""The columns of pods, and the one-word status that kubectl makes of a pod's phase, reasons and container states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cli.ages import human, is_set, seconds_of
from cli.columns.table import AGE, NAME, NONE, Column

if TYPE_CHECKING:
    from protos.core_pb2 import ContainerState, ContainerStatus, Pod


@dataclass(frozen=True)
class PodSummary:
    """A pod in one row. `restarted_at` is the end of the last run that was restarted (epoch seconds, 0: none)."""

    status: str
    ready: int
    containers: int
    restarts: int
    restarted_at: float


def condition(pod: Pod, kind: str) -> bool:
    """Whether the pod has this condition with status True."""
    return any(c.type == kind and c.status == "True" for c in pod.status.conditions)


def ended(state: ContainerState) -> str:
    """One word for how a container ended: its reason, else its signal, else its exit code."""
    end = state.terminated
    if end.reason:
        return end.reason
    return f"Signal:{end.signal}" if end.signal else f"ExitCode:{end.exitCode}"


def summary(pod: Pod) -> PodSummary:
    """The figures of kubectl's pod table, by the rules of its printer.

    A container that waits or ended gives the status its reason; an init container that is not through gives
    "Init:…" and hides the rest; a pod on its way out is Terminating whatever its containers say.
    """
    status = pod.status.reason or pod.status.phase or "Unknown"
    init = _init_status(pod)
    counted: list[ContainerStatus] = list(pod.status.initContainerStatuses)
    sidecars = _sidecars(pod)
    beside = [c for c in counted if c.name in sidecars]
    ready = sum(1 for c in beside if c.started and c.ready)
    if init:
        status = init
    if not init or condition(pod, "Initialized"):
        mains = list(pod.status.containerStatuses)
        counted = [*beside, *mains]
        running = sum(1 for c in mains if c.ready and c.state.HasField("running"))
        ready += running
        # The first container in the list that has something to say speaks for the pod.
        words = [word for word in map(_word, mains) if word]
        if words:
            status = words[0]
        if status == "Completed" and running:
            status = "Running" if condition(pod, "Ready") else "NotReady"
    if pod.metadata.HasField("deletionTimestamp"):
        if pod.status.reason == "NodeLost":
            status = "Unknown"
        elif pod.status.phase not in ("Succeeded", "Failed"):
            status = "Terminating"
    ends = [c.lastState.terminated.finishedAt for c in counted if c.lastState.HasField("terminated")]
    return PodSummary(
        status=status,
        ready=ready,
        containers=len(pod.spec.containers) + len(sidecars),
        restarts=sum(c.restartCount for c in counted),
        restarted_at=max((seconds_of(time) for time in ends if is_set(time)), default=0.0),
    )


def _sidecars(pod: Pod) -> set[str]:
    return {container.name for container in pod.spec.initContainers if container.restartPolicy == "Always"}


def _init_status(pod: Pod) -> str:
    """ "Init:…" for the first init container that is not through (a sidecar: not started); empty when all are."""
    total, sidecars = len(pod.spec.initContainers), _sidecars(pod)
    for index, container in enumerate(pod.status.initContainerStatuses):
        state = container.state
        if container.name in sidecars and container.started:
            continue
        if state.HasField("terminated"):
            if state.terminated.exitCode == 0:
                continue
            return "Init:" + ended(state)
        if state.waiting.reason and state.waiting.reason != "PodInitializing":
            return "Init:" + state.waiting.reason
        return f"Init:{index}/{total}"
    return ""


def _word(container: ContainerStatus) -> str:
    if container.state.HasField("terminated"):
        return ended(container.state)
    return container.state.waiting.reason


def _restarts(pod: Pod, now: float) -> str:
    row = summary(pod)
    if row.restarts and row.restarted_at:
        return f"{row.restarts} ({human(now - row.restarted_at)} ago)"
    return str(row.restarts)


def _ready(pod: Pod, now: float) -> str:
    row = summary(pod)
    return f"{row.ready}/{row.containers}"


COLUMNS = (
    NAME,
    Column("READY", _ready),
    Column("STATUS", lambda pod, now: summary(pod).status),
    Column("RESTARTS", _restarts),
    AGE,
    Column("IP", lambda pod, now: pod.status.podIP or NONE, wide=True),
    Column("NODE", lambda pod, now: pod.spec.nodeName or NONE, wide=True),
)
