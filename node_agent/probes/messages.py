"""What containers that have ended left behind for people: their message file, or the end of their output."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from common.errors import NotFound
from node_agent.probes.health import containers_by_name
from node_agent.runtime.seam import LogOptions, Runtime, Seen, State
from protos.core_pb2 import Container, Pod

# Kubernetes' figures for FallbackToLogsOnError.
_LINES, _BYTES = 80, 2048
_TO_LOGS = "FallbackToLogsOnError"


class Messages:
    """The messages of one pod's containers, each read once."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._known: dict[str, str] = {}

    async def put_in(self, pod: Pod, seen: Sequence[Seen]) -> Sequence[Seen]:
        """The same containers, those that have ended with their message. Raises Unavailable."""
        ended = {one.id for one in seen if one.name and one.state is State.EXITED}
        self._known = {id: text for id, text in self._known.items() if id in ended}
        if not ended:
            return seen
        containers = containers_by_name(pod)
        for one in seen:
            if one.id in ended and one.id not in self._known:
                self._known[one.id] = await self._read(containers.get(one.name), one)
        return [dataclasses.replace(one, message=self._known.get(one.id, "")) for one in seen]

    async def _read(self, container: Container | None, one: Seen) -> str:
        if not one.started_at:
            return ""
        try:
            text = await self._runtime.termination_message(one.id)
            to_logs = container is not None and container.terminationMessagePolicy == _TO_LOGS
            if text or not to_logs or one.exit_code == 0:
                return text
            output = b""
            async for piece in self._runtime.logs(one.id, LogOptions(tail=_LINES)):
                output = (output + piece)[-_BYTES:]
        except NotFound:
            return ""
        return output.decode("utf-8", "replace").rstrip("\n")
