"""Checks a request for a container's log before its node is asked; pure but for the seam's Protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from common.errors import BadRequest, SampanError
from protos import agent_pb2, control_pb2, core_pb2

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


class Stream(Protocol):
    """An open stream of a node."""

    async def read(self) -> agent_pb2.StreamChunk:
        """The next piece; none after the one with `end`. Raises SampanError: what the node says, or that it is gone."""
        ...

    async def send(self, chunk: agent_pb2.StreamChunk) -> None:
        """Input for the node; waits while it does not take more."""
        ...

    def fail(self, error: SampanError) -> None:
        """Ends it: who reads gets this error."""
        ...


class LogSource(Protocol):
    """Where logs, nodes' answers and streams come from: the dispatcher's relay to the node's agent."""

    def open(self, node: str, command: agent_pb2.Command, otherwise: str) -> AbstractAsyncContextManager[Stream]:
        """A stream for a command; leaving the block ends it. Raises Unavailable, with the words `otherwise`."""
        ...

    def logs(self, node: str, command: agent_pb2.LogsCommand) -> AsyncIterator[bytes]:
        """Bytes as the container wrote them; raises SampanError when the node can't be reached or says no."""
        ...

    async def query(self, node: str, what: str) -> bytes:
        """What the node knows of itself, as JSON; raises SampanError when it can't be reached or says no."""
        ...


def logs_command(pod: core_pb2.Pod, request: control_pb2.LogsRequest) -> agent_pb2.LogsCommand:
    """What to ask the pod's node. Raises BadRequest that says why there is no such log."""
    container = chosen_container(pod, request.container)
    for field in ("tail_lines", "since_seconds"):
        value: int = getattr(request, field)
        if value < 0:
            raise BadRequest(f"{field}: must be 0 or more, got {value}")
    on_a_node(pod)
    if request.HasField("since_seconds") and request.HasField("since_time"):
        raise BadRequest("since_time: only one of since_seconds and since_time may be given")
    _started(pod, container, request.previous)
    command = agent_pb2.LogsCommand(
        pod_uid=pod.metadata.uid,
        container=container,
        follow=request.follow,
        previous=request.previous,
        timestamps=request.timestamps,
    )
    if request.HasField("tail_lines"):
        command.tail_lines = request.tail_lines
    if request.HasField("since_seconds"):
        command.since_seconds = request.since_seconds
    if request.HasField("since_time"):
        command.since_time.CopyFrom(request.since_time)
    return command


def on_a_node(pod: core_pb2.Pod) -> str:
    """The pod's node. Raises BadRequest when it has none yet."""
    if not pod.spec.nodeName:
        name = pod.metadata.name
        raise BadRequest(f'pod "{name}" is not on a node yet: `sampan describe pod {name}` says why')
    return pod.spec.nodeName


def chosen_container(pod: core_pb2.Pod, name: str) -> str:
    """The container of that name, or the one there is. Raises BadRequest when it is not clear which."""
    name = name or _only_container(pod)
    everyone = [*pod.spec.initContainers, *pod.spec.containers]
    if name not in {known.name for known in everyone}:
        names = ", ".join(known.name for known in everyone)
        raise BadRequest(f'pod "{pod.metadata.name}" has no container "{name}": it has {names}')
    return name


def _only_container(pod: core_pb2.Pod) -> str:
    chosen = pod.metadata.annotations.get(DEFAULT_CONTAINER, "")
    if chosen:
        return chosen
    if len(pod.spec.containers) == 1:
        return pod.spec.containers[0].name
    names = ", ".join(container.name for container in (*pod.spec.containers, *pod.spec.initContainers))
    raise BadRequest(f'pod "{pod.metadata.name}" has several containers: name one with -c ({names})')


def _started(pod: core_pb2.Pod, container: str, previous: bool) -> None:
    statuses = (*pod.status.initContainerStatuses, *pod.status.containerStatuses)
    status = next((status for status in statuses if status.name == container), core_pb2.ContainerStatus())
    where = f'container "{container}" of pod "{pod.metadata.name}"'
    ran_before = status.lastState.HasField("terminated")
    if previous:
        if not ran_before:
            raise BadRequest(f"{where} has no previous run: it has not been restarted")
        return
    if status.state.HasField("running") or status.state.HasField("terminated") or ran_before:
        return
    reason = status.state.waiting.reason or "ContainerCreating"
    detail = f": {status.state.waiting.message}" if status.state.waiting.message else ""
    raise BadRequest(f"{where} is waiting to start ({reason}{detail})")
