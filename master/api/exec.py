"""Exec and AttachPod: checks what is asked, then joins the user's call with a stream of the pod's node."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from common.errors import BadRequest
from common.kinds import POD
from master.api.conversation import conversation
from master.api.podlogs import LogSource, chosen_container, on_a_node
from master.api.resources import Resources
from protos import agent_pb2, control_pb2, core_pb2

# No window is larger; the kernel's own numbers are of 16 bits.
_MOST_CELLS = 65535


async def exec_call(
    resources: Resources, source: LogSource, requests: AsyncIterator[control_pb2.ExecRequest]
) -> AsyncGenerator[control_pb2.ExecResponse, None]:
    """One Exec. Raises SampanError."""
    start = (await first(requests)).start
    pod = resources.get(POD.kind, start.namespace or "default", required(start.pod))
    container = running_container(pod, start.container)
    if not start.argv or not start.argv[0]:
        raise BadRequest("start.argv: is required (the command to run)")
    command = agent_pb2.ExecCommand(
        pod_uid=pod.metadata.uid,
        container=container,
        argv=start.argv,
        stdin=start.stdin,
        tty=start.tty,
        rows=_cells("start.size.rows", start.size.rows),
        cols=_cells("start.size.cols", start.size.cols),
    )
    async with aclosing(_joined(source, pod, agent_pb2.Command(exec=command), requests)) as answers:
        async for answer in answers:
            yield answer


async def attach_call(
    resources: Resources, source: LogSource, requests: AsyncIterator[control_pb2.AttachRequest]
) -> AsyncGenerator[control_pb2.ExecResponse, None]:
    """One AttachPod. Raises SampanError."""
    start = (await first(requests)).start
    pod = resources.get(POD.kind, start.namespace or "default", required(start.pod))
    name = running_container(pod, start.container)
    container = next(one for one in (*pod.spec.containers, *pod.spec.initContainers) if one.name == name)
    if start.stdin and not container.stdin:
        raise BadRequest(f'container "{name}" has no stdin: its spec needs `stdin: true`')
    if start.tty and not container.tty:
        raise BadRequest(f'container "{name}" has no terminal: its spec needs `tty: true`')
    command = agent_pb2.AttachCommand(
        pod_uid=pod.metadata.uid,
        container=name,
        stdin=start.stdin,
        rows=_cells("start.size.rows", start.size.rows) if start.tty else 0,
        cols=_cells("start.size.cols", start.size.cols) if start.tty else 0,
        replay=start.replay,
    )
    async with aclosing(_joined(source, pod, agent_pb2.Command(attach=command), requests)) as answers:
        async for answer in answers:
            yield answer


async def _joined(
    source: LogSource, pod: core_pb2.Pod, command: agent_pb2.Command, requests: AsyncIterator[Any]
) -> AsyncGenerator[control_pb2.ExecResponse, None]:
    talk = conversation(source, on_a_node(pod), command, "its pods can't be reached now", _input(requests))
    async with aclosing(talk) as chunks:
        async for chunk in chunks:
            if chunk.begun:
                yield control_pb2.ExecResponse(begun=True)
            if chunk.data and chunk.stderr:
                yield control_pb2.ExecResponse(stderr=chunk.data)
            elif chunk.data:
                yield control_pb2.ExecResponse(stdout=chunk.data)
            if chunk.end and chunk.HasField("exit_code"):
                yield control_pb2.ExecResponse(exit_code=chunk.exit_code)


async def _input(requests: AsyncIterator[Any]) -> AsyncIterator[agent_pb2.StreamChunk]:
    ended = False
    async for request in requests:
        match request.WhichOneof("request"):
            case "data" if not ended:
                yield agent_pb2.StreamChunk(data=request.data)
            case "resize":
                rows, cols = _cells("resize.rows", request.resize.rows), _cells("resize.cols", request.resize.cols)
                yield agent_pb2.StreamChunk(rows=rows, cols=cols)
            case "stdin_end" if not ended:
                ended = True
                yield agent_pb2.StreamChunk(eof=True)
            case "start":
                raise BadRequest("start: belongs into the first message only")
    if not ended:
        yield agent_pb2.StreamChunk(eof=True)


async def first(requests: AsyncIterator[Any]) -> Any:
    """The message that says what is wanted. Raises BadRequest when it is missing or something else."""
    async for request in requests:
        if request.WhichOneof("request") == "start":
            return request
        break
    raise BadRequest("start: the first message must say what is wanted")


def required(name: str) -> str:
    """A pod's name. Raises BadRequest when there is none."""
    if not name:
        raise BadRequest("start.pod: is required (the pod's name)")
    return name


def running_container(pod: core_pb2.Pod, name: str) -> str:
    """The container meant, which runs as far as the master knows. Raises BadRequest with what is in the way."""
    name = chosen_container(pod, name)
    on_a_node(pod)
    if pod.status.phase in ("Succeeded", "Failed"):
        raise BadRequest(f'pod "{pod.metadata.name}" has ended (it is {pod.status.phase}): nothing runs in it')
    statuses = (*pod.status.containerStatuses, *pod.status.initContainerStatuses)
    state = next((status.state for status in statuses if status.name == name), core_pb2.ContainerState())
    if not state.HasField("running"):
        why = state.waiting.reason or state.terminated.reason or "ContainerCreating"
        raise BadRequest(f'container "{name}" of pod "{pod.metadata.name}" does not run ({why})')
    return name


def _cells(field: str, number: int) -> int:
    if not 0 <= number <= _MOST_CELLS:
        raise BadRequest(f"{field}: must be 0-{_MOST_CELLS}, got {number}")
    return number
