"""Relay of what is asked of a node (logs, commands, ports, files, what it knows), over streams that the node opens."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import grpc.aio

from common.errors import NotFound, SampanError, Unavailable
from master.dispatcher.nodes import NodeTable
from master.dispatcher.sessions import Session, Sessions
from protos import agent_pb2

# Pieces held for a slow reader, and as many for a slow node; then the other side is not read any further.
BUFFERED_CHUNKS = 16
OPEN_SECONDS = 5.0
# A node's answer about itself comes at once; the largest (a proxy with many services) stays far below.
QUERY_SECONDS = 10.0
QUERY_BYTES = 64 * 1024 * 1024
# Heartbeat periods without a word after which a stream's node counts as gone.
SILENT_PERIODS = 4
# A stream that breaks is noticed at the next look at the latest, seconds.
_LOOK_SECONDS = 1.0


class NodeStream:
    """One open stream as who asked for it sees it; made by `NodeStreams.open`."""

    def __init__(self, session: Session, nodes: NodeTable, open_seconds: float) -> None:
        self.session = session
        self._nodes, self._open_seconds = nodes, open_seconds
        self.attached = False
        self.closed = asyncio.Event()
        # The node's side has ended, well or not: nothing more will come.
        self._broken: SampanError | None = None
        self._incoming: asyncio.Queue[agent_pb2.StreamChunk] = asyncio.Queue(BUFFERED_CHUNKS)
        self._outgoing: asyncio.Queue[agent_pb2.StreamChunk] = asyncio.Queue(BUFFERED_CHUNKS)

    async def read(self) -> agent_pb2.StreamChunk:
        """The node's next piece; after the one with `end` there is none.

        Raises what the node says, or Unavailable, within seconds, when it is gone.
        """
        chunk = await self._next()
        if chunk.end and chunk.error:
            raise _error(chunk.error)
        return chunk

    async def send(self, chunk: agent_pb2.StreamChunk) -> None:
        """Input for the node; waits while it does not take more."""
        await self._outgoing.put(chunk)

    @property
    def waiting(self) -> int:
        """Pieces of the node's that wait to be read here."""
        return self._incoming.qsize()

    def fail(self, error: SampanError) -> None:
        """Ends it for who reads, at the next look."""
        self._broken = self._broken or error

    async def _next(self) -> agent_pb2.StreamChunk:
        node, waited = self.session.node, 0.0
        while True:
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    return await self._incoming.get()
            except TimeoutError:
                waited += _LOOK_SECONDS
            if self.session.cause is not None:
                raise Unavailable(f'the connection to node "{node}" broke: {self.session.cause}')
            if self._broken is not None and self._incoming.empty():
                raise self._broken
            if not self.attached and waited >= self._open_seconds:
                raise Unavailable(f'node "{node}" did not open the stream within {self._open_seconds:.0f} s')
            if self._nodes.silent_for(node) > SILENT_PERIODS * self._nodes.heartbeat_period():
                raise Unavailable(f'node "{node}" does not answer any more')

    # -- the node's end -----------------------------------------------------------------------

    async def serve(self, first: agent_pb2.StreamChunk, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """Relays one Attach call, until it ends or nobody reads it any more."""
        try:
            async with asyncio.TaskGroup() as group:
                feeding = group.create_task(self._feed(context), name=f"session/{self.session.node}/input")
                chunk: Any = first
                while chunk is not grpc.aio.EOF and not self.closed.is_set():
                    await self._incoming.put(chunk)
                    if chunk.end:
                        break
                    chunk = await context.read()
                feeding.cancel()
        finally:
            self.fail(Unavailable(f'node "{self.session.node}" closed the stream early'))

    async def _feed(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        while True:
            await context.write(await self._outgoing.get())

    def drop(self) -> None:
        """Nobody reads it any more."""
        self.closed.set()
        while not self._incoming.empty():
            self._incoming.get_nowait()


class NodeStreams:
    """Open streams by id. Implements the API's LogSource."""

    def __init__(self, sessions: Sessions, nodes: NodeTable, *, open_seconds: float = OPEN_SECONDS) -> None:
        self._sessions = sessions
        self._nodes = nodes
        self._open_seconds = open_seconds
        self._streams: dict[str, NodeStream] = {}

    def __len__(self) -> int:
        return len(self._streams)

    @contextlib.asynccontextmanager
    async def open(self, node: str, command: agent_pb2.Command, otherwise: str) -> AsyncIterator[NodeStream]:
        """A stream for `command`; leaving the block ends what it asked for.

        Raises Unavailable, with the words `otherwise`, when the node is not connected.
        """
        session = self._sessions.of(node)
        if session is None or not self._nodes.connected(node):
            raise Unavailable(f'node "{node}" is not connected: {otherwise}')
        stream_id = command.stream_id = uuid.uuid4().hex
        stream = self._streams[stream_id] = NodeStream(session, self._nodes, self._open_seconds)
        session.command(command)
        try:
            yield stream
        finally:
            del self._streams[stream_id]
            stream.drop()
            session.command(agent_pb2.Command(stream_id=stream_id, close=agent_pb2.CloseCommand()))

    def logs(self, node: str, command: agent_pb2.LogsCommand) -> AsyncGenerator[bytes, None]:
        """Raw bytes as the node sends them, until they end or the reader closes the iterator.

        Raises Unavailable when the node can't be reached (within seconds), NotFound or BadRequest as the node
        says. The caller must close the iterator (`aclosing`) when it stops early.
        """
        return self._ask(node, agent_pb2.Command(logs=command), "its logs can't be read now")

    async def query(self, node: str, what: str) -> bytes:
        """The node's own answer, one JSON document.

        Raises Unavailable when the node can't be reached (within seconds), BadRequest when it does not know `what`.
        """
        command = agent_pb2.Command(query=agent_pb2.QueryCommand(what=what))
        answer = bytearray()
        try:
            async with (
                asyncio.timeout(QUERY_SECONDS),
                contextlib.aclosing(self._ask(node, command, "it can't be asked now")) as chunks,
            ):
                async for data in chunks:
                    answer += data
                    if len(answer) > QUERY_BYTES:
                        raise Unavailable(f'node "{node}" answers with more than {QUERY_BYTES >> 20} MiB')
        except TimeoutError as error:
            raise Unavailable(f'node "{node}" did not answer within {QUERY_SECONDS:.0f} s') from error
        return bytes(answer)

    async def _ask(self, node: str, command: agent_pb2.Command, otherwise: str) -> AsyncGenerator[bytes, None]:
        async with self.open(node, command, otherwise) as stream:
            while True:
                chunk = await stream.read()
                if chunk.data:
                    yield chunk.data
                if chunk.end:
                    return

    def attach(self, session: Session, stream_id: str) -> NodeStream:
        """The stream that an agent opens. Raises NotFound when nobody reads it (any more)."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.session is not session or stream.attached:
            raise NotFound("nobody reads this stream any more")
        stream.attached = True
        return stream


def _error(text: str) -> SampanError:
    """The node sends "Reason: sentence"; Reason is one of ours."""
    reason, _, sentence = text.partition(": ")
    for error in SampanError.__subclasses__():
        if error.reason == reason and error.__init__ is SampanError.__init__:
            return error(sentence)
    return SampanError(sentence)
