"""Which container's output a logs command means, or Kubernetes' sentence for why there is none; pure."""

from __future__ import annotations

from collections.abc import Sequence

from common.errors import BadRequest, NotFound
from node_agent.runtime.seam import LogOptions, Seen, State
from protos.agent_pb2 import LogsCommand
from protos.core_pb2 import ContainerStatus, Pod, PodStatus


def log_target(command: LogsCommand, pod: Pod, seen: Sequence[Seen], status: PodStatus) -> Seen:
    """The attempt to read. Raises BadRequest (no such container, not started), NotFound (no previous one)."""
    names = [c.name for c in (*pod.spec.containers, *pod.spec.initContainers)]
    name = command.container
    if not name:
        if len(pod.spec.containers) != 1:
            raise BadRequest(
                f"a container name must be specified for pod {pod.metadata.name}, choose one of: [{' '.join(names)}]"
            )
        name = pod.spec.containers[0].name
    # A pod that nobody assigns any more is known by its containers only.
    if name not in names and (names or all(one.name != name for one in seen)):
        raise BadRequest(
            f"container {name} is not valid for pod {pod.metadata.name}, choose one of: [{' '.join(names)}]"
        )
    history = sorted(
        (one for one in seen if one.name == name and one.state is not State.CREATED),
        key=lambda one: one.attempt,
        reverse=True,
    )
    if command.previous:
        dead = [one for one in history if one.state is State.EXITED]
        shown = _state(status, name)
        # A container shown as terminated is the current one; only one before it is "previous".
        current_is_dead = shown is not None and shown.state.HasField("terminated")
        if len(dead) <= current_is_dead:
            raise NotFound(f'previous terminated container "{name}" in pod "{pod.metadata.name}" not found')
        return dead[int(current_is_dead)]
    if not history:
        shown = _state(status, name)
        reason = shown.state.waiting.reason if shown is not None else ""
        raise BadRequest(
            f'container "{name}" in pod "{pod.metadata.name}" is waiting to start: {reason or "ContainerCreating"}'
        )
    return history[0]


def log_options(command: LogsCommand, now: float) -> LogOptions:
    """The command's window as the runtime wants it."""
    since = now - command.since_seconds if command.HasField("since_seconds") else 0.0
    if command.HasField("since_time"):
        since = max(since, command.since_time.seconds + command.since_time.nanos / 1e9)
    return LogOptions(
        follow=command.follow,
        tail=command.tail_lines if command.HasField("tail_lines") else None,
        since=since,
        timestamps=command.timestamps,
    )


def _state(status: PodStatus, name: str) -> ContainerStatus | None:
    both = (*status.containerStatuses, *status.initContainerStatuses)
    return next((one for one in both if one.name == name), None)
