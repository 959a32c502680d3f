"""Opens the streams that the master asks for, one task each; one that goes wrong is no news for the session."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

import grpc
import grpc.aio
import structlog

from common.errors import BadRequest, SampanError, Unavailable
from common.rpc import translate
from node_agent.runtime.seam import Refused
from node_agent.runtime.stdio import ReachError
from node_agent.streams.line import Line
from protos import agent_pb2, agent_pb2_grpc

log = structlog.get_logger()

# The runtime's own errors in words that the master knows.
_REASONS = {Refused.reason: BadRequest.reason, ReachError.reason: Unavailable.reason}

# What a stream does once it is open; a command's exit code where there is one. Raises SampanError.
Work = Callable[[Line], Awaitable[int | None]]


class Answering(Protocol):
    """What a node answers on streams. All raise SampanError, which the master hears."""

    def logs(self, command: agent_pb2.LogsCommand) -> AsyncIterator[bytes]: ...

    def query(self, command: agent_pb2.QueryCommand) -> AsyncIterator[bytes]:
        """What the node knows of itself, as JSON."""

    async def converse(self, command: agent_pb2.Command, line: Line) -> int | None:
        """Serves an exec, attach, port_forward or copy; a command's exit code. Cancelled when nobody reads any more."""


class Commands:
    """The streams of one session. `run()` ends by what ends the stream of commands."""

    def __init__(self, stub: agent_pb2_grpc.NodeServiceAsyncStub, node: Answering, session_id: str) -> None:
        self._stub = stub
        self._node = node
        self._session_id = session_id
        self._open: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        call = self._stub.Commands(agent_pb2.StreamRequest(session_id=self._session_id))
        try:
            async with asyncio.TaskGroup() as group:
                async for command in call:
                    if command.HasField("close"):
                        task = self._open.pop(command.stream_id, None)
                        if task is not None:
                            task.cancel()
                    elif (work := self._work(command)) is not None:
                        self._open[command.stream_id] = group.create_task(
                            self._attach(command.stream_id, work), name=f"session/stream/{command.stream_id[:8]}"
                        )
                raise Unavailable("the master ended the stream of commands")
        except grpc.aio.AioRpcError as error:
            raise translate(error) from error
        finally:
            call.cancel()

    def _work(self, command: agent_pb2.Command) -> Work | None:
        match command.WhichOneof("command"):
            case "logs":
                return functools.partial(_told, functools.partial(self._node.logs, command.logs))
            case "query":
                return functools.partial(_told, functools.partial(self._node.query, command.query))
            case "exec" | "attach" | "port_forward" | "copy":
                return functools.partial(self._node.converse, command)
        return None

    async def _attach(self, stream_id: str, work: Work) -> None:
        call = self._stub.Attach()
        line = Line(call, self._session_id, stream_id)
        try:
            async with asyncio.TaskGroup() as group:
                # At once: a quiet pod may take longer than the master waits.
                await line.open()
                group.create_task(line.listen(), name=f"session/input/{stream_id[:8]}")
                failure, code = "", None
                try:
                    code = await work(line)
                except* SampanError as errors:
                    error = first_error(errors)
                    failure = f"{_REASONS.get(error.reason, error.reason)}: {error}"
                await line.end(error=failure, exit_code=code)
        except* (grpc.aio.AioRpcError, asyncio.InvalidStateError) as gone:
            # The reader went away.
            log.debug("stream.closed", stream=stream_id[:8], cause=str(gone.exceptions[0]))
        except* Exception:
            # The boundary of one stream: the session and its other streams go on.
            log.exception("stream.failed", stream=stream_id[:8])
        finally:
            call.cancel()
            self._open.pop(stream_id, None)


def first_error(errors: BaseExceptionGroup[SampanError]) -> SampanError:
    """What went wrong first."""
    inner = errors.exceptions[0]
    return first_error(inner) if isinstance(inner, BaseExceptionGroup) else inner


async def _told(source: Callable[[], AsyncIterator[bytes]], line: Line) -> None:
    async for data in source():
        await line.send(data)
