"""One call of a user's joined with one stream of a node: the user's messages go down while the node's come up."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

import structlog

from common.errors import SampanError
from common.tasks import Tasks
from master.api.podlogs import LogSource
from protos import agent_pb2

log = structlog.get_logger()

# A client's piece, however large, goes on in such ones: what waits for a slow node stays small.
PIECE_BYTES = 64 * 1024


async def conversation(
    source: LogSource, node: str, command: agent_pb2.Command, otherwise: str, sent: AsyncIterator[agent_pb2.StreamChunk]
) -> AsyncGenerator[agent_pb2.StreamChunk, None]:
    """The node's pieces to the last, while `sent` is passed on to it. Raises SampanError.

    A fault in what is sent ends the conversation with it. Close the iterator when you stop early.
    """
    tasks = Tasks("conversation")
    async with source.open(node, command, otherwise) as stream:

        async def pass_on() -> None:
            try:
                async for chunk in sent:
                    for piece in pieces(chunk):
                        await stream.send(piece)
            except SampanError as error:
                stream.fail(error)
            except Exception as error:  # the boundary of a task: the client has gone, which the call itself notices
                log.debug("conversation.input_ended", cause=str(error))

        tasks.start("input", pass_on())
        try:
            while True:
                chunk = await stream.read()
                yield chunk
                if chunk.end:
                    return
        finally:
            await tasks.close()


def pieces(chunk: agent_pb2.StreamChunk) -> list[agent_pb2.StreamChunk]:
    """The same as chunks of bounded size; pure."""
    if len(chunk.data) <= PIECE_BYTES:
        return [chunk]
    data, parts = chunk.data, []
    for start in range(0, len(data), PIECE_BYTES):
        parts.append(agent_pb2.StreamChunk(data=data[start : start + PIECE_BYTES]))
    parts[-1].eof = chunk.eof
    return parts
