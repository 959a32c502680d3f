"""Copy: a container's files as a tar archive, between the user's call and a stream of the pod's node."""

from __future__ import annotations

import json
import posixpath
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from common.errors import BadRequest
from common.kinds import POD
from master.api.conversation import conversation
from master.api.exec import first, required
from master.api.podlogs import LogSource, chosen_container, on_a_node
from master.api.resources import Resources
from protos import agent_pb2, control_pb2

Start = control_pb2.CopyStart


async def copy_call(
    resources: Resources, source: LogSource, requests: AsyncIterator[control_pb2.CopyRequest]
) -> AsyncGenerator[control_pb2.CopyResponse, None]:
    """One Copy. Raises SampanError."""
    start: Start = (await first(requests)).start
    pod = resources.get(POD.kind, start.namespace or "default", required(start.pod))
    path = posixpath.normpath(start.path)
    if not start.path.startswith("/") or "\0" in path:
        raise BadRequest(f'start.path: must be absolute in the container, like /tmp/file, got "{start.path}"')
    if start.operation not in (Start.STAT, Start.READ, Start.WRITE):
        raise BadRequest("start.operation: must be STAT, READ or WRITE")
    command = agent_pb2.CopyCommand(
        pod_uid=pod.metadata.uid,
        container=chosen_container(pod, start.container),
        path=path,
        # The same names on both sides.
        operation=agent_pb2.CopyCommand.Operation.Value(Start.Operation.Name(start.operation)),
    )
    sent = _archive(requests) if start.operation == Start.WRITE else _nothing()
    talk = conversation(
        source, on_a_node(pod), agent_pb2.Command(copy=command), "its pods' files can't be reached now", sent
    )
    told = bytearray()
    async with aclosing(talk) as chunks:
        async for chunk in chunks:
            if chunk.data and start.operation == Start.STAT:
                told += chunk.data
            elif chunk.data:
                yield control_pb2.CopyResponse(data=chunk.data)
    if start.operation == Start.STAT:
        found = json.loads(told)
        yield control_pb2.CopyResponse(
            info=control_pb2.PathInfo(
                name=found["name"], size=found["size"], mode=found["mode"], directory=found["directory"]
            )
        )


async def _archive(requests: AsyncIterator[control_pb2.CopyRequest]) -> AsyncIterator[agent_pb2.StreamChunk]:
    async for request in requests:
        if request.data:
            yield agent_pb2.StreamChunk(data=request.data)
    yield agent_pb2.StreamChunk(eof=True)


async def _nothing() -> AsyncIterator[agent_pb2.StreamChunk]:
    yield agent_pb2.StreamChunk(eof=True)
