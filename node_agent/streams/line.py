"""The agent's end of one stream: pieces to the master, input from it, each direction with an end of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import grpc.aio

from protos import agent_pb2

if TYPE_CHECKING:
    Call = grpc.aio.StreamStreamCall[agent_pb2.StreamChunk, agent_pb2.StreamChunk]

# With the number of pieces that wait on the way, what a slow reader costs.
PIECE_BYTES = 64 * 1024
# Pieces of input that wait for a process that does not read; then the master's are not read any further.
INPUT_PIECES = 16


class Line:
    """One Attach call. Every method may raise AioRpcError or InvalidStateError when the master has left."""

    def __init__(self, call: Call, session_id: str, stream_id: str) -> None:
        self._call, self._session_id, self._stream_id = call, session_id, stream_id
        # None: the end.
        self._input: asyncio.Queue[agent_pb2.StreamChunk | None] = asyncio.Queue(INPUT_PIECES)

    async def listen(self) -> None:
        """Reads what the master sends, until it ends; a task of its own, since cancelling a read cancels the call."""
        while isinstance(chunk := await self._call.read(), agent_pb2.StreamChunk):
            await self._input.put(chunk)
        await self._input.put(None)

    def _chunk(self) -> agent_pb2.StreamChunk:
        return agent_pb2.StreamChunk(session_id=self._session_id, stream_id=self._stream_id)

    async def open(self) -> None:
        """Names the stream: the master waits only a few seconds for that."""
        await self._call.write(self._chunk())

    async def begun(self) -> None:
        """What was asked for is under way; data may follow."""
        chunk = self._chunk()
        chunk.begun = True
        await self._call.write(chunk)

    async def send(self, data: bytes, *, stderr: bool = False) -> None:
        """Waits while the master does not take more."""
        for start in range(0, len(data), PIECE_BYTES):
            chunk = self._chunk()
            chunk.data, chunk.stderr = data[start : start + PIECE_BYTES], stderr
            await self._call.write(chunk)

    async def eof(self) -> None:
        """No more data from here; input goes on."""
        chunk = self._chunk()
        chunk.eof = True
        await self._call.write(chunk)

    async def end(self, *, error: str = "", exit_code: int | None = None) -> None:
        """The last word; `error` like "NotFound: sentence"."""
        chunk = self._chunk()
        chunk.end, chunk.error = True, error
        if exit_code is not None:
            chunk.exit_code = exit_code
        await self._call.write(chunk)
        await self._call.done_writing()
        while await self._input.get() is not None:
            pass

    async def __aiter__(self) -> AsyncIterator[agent_pb2.StreamChunk]:
        """Input, as the master has it from who asked."""
        while (chunk := await self._input.get()) is not None:
            yield chunk
        # Whoever asks again learns the same.
        self._input.put_nowait(None)
