"""A port for the agents' streams of routes alone: one change goes to a thousand nodes for a few microseconds each.

Served here is what `Dispatcher.send_routes` serves on the master's port, by the same rules: a stream opens with a
complete table, a slow reader gets fewer and newer frames, the session's end ends it. What differs is the price: no
task, no queue and no grpc.aio for each of them (docs/adr/0008-fan-out.md).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

import structlog
from google.protobuf.message import DecodeError

from common.errors import BadRequest, SampanError, Unavailable, code_of
from common.frames import FrameWriter
from common.grpcwire import Message, Status, Wire, WireError
from common.intake import Intake
from common.pacing import paced, unpace_near
from common.sockets import notice_loss
from common.wireframes import encode
from master.dispatcher import routes
from master.dispatcher.sessions import Session, Sessions
from protos import agent_pb2

log = structlog.get_logger()

# A connection that has not named its session after so many seconds is closed.
OPENING_SECONDS = 10.0
METHOD = "/sampan.v1.NodeService/Routes"
# The most that an agent says in one message: thousands of draining endpoints.
MOST_BYTES = 1_000_000
# The same before its session is known, and how many connections there may be whose session is not: of more the oldest
# go (an agent names its session at once).
MOST_OPENING_BYTES = 65_536
MOST_OPENING = 1024
# The most that waits in one connection's buffers; what else is due is counted by its revision only.
UNSENT_BYTES = 256 * 1024
# Nodes that are written to before the event loop has its turn again.
AT_A_TIME = 250


class RouteFrames:
    """The frames of the routing table as bytes, made once for all readers at one revision."""

    def __init__(self, writer: FrameWriter[Any]) -> None:
        self._writer = writer
        self._made: dict[int | None, list[tuple[int, bytes, Message]]] = {}
        self._at = -1

    def since(self, cursor: int | None) -> list[tuple[int, bytes, Message]]:
        """What a reader at `cursor` (None: a new one) needs: the revision it then has, and the frame in two forms."""
        if self._writer.revision != self._at:
            self._made.clear()
            self._at = self._writer.revision
        made = self._made.get(cursor)
        if made is None:
            made = self._made[cursor] = []
            for frame in self._writer.frames(cursor):
                data = encode(frame, routes.item).SerializeToString()
                made.append((frame.revision, data, Message(data)))
        return made


class FanOut:
    """Holds the connections. `news` is called when a node has acknowledged something."""

    def __init__(self, sessions: Sessions, frames: RouteFrames, news: Callable[[], None]) -> None:
        self.sessions, self.frames, self.news = sessions, frames, news
        self.lanes: set[Lane] = set()
        # Those that have not named their session, oldest first.
        self.opening: dict[Lane, None] = {}
        self._server: asyncio.Server | None = None
        self._queue: list[Lane] = []
        # Where it is served; 0: it is not.
        self.port = 0

    async def listen(self, host: str, port: int) -> None:
        """Serves at HOST:PORT from now on (port 0: one that is free). Raises OSError."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Lane(self), host or None, port, backlog=1024)
        self.port = int(self._server.sockets[0].getsockname()[1])

    def push(self) -> None:
        """Sends what changed to every connection that can take it; the others follow when they can."""
        waits = bool(self._queue)
        self._queue = list(self.lanes)
        if not waits:
            self._push_some()

    def _push_some(self) -> None:
        some, self._queue = self._queue[:AT_A_TIME], self._queue[AT_A_TIME:]
        for lane in some:
            lane.push()
        if self._queue:
            asyncio.get_running_loop().call_soon(self._push_some)

    def came(self, lane: Lane) -> None:
        """A connection that has yet to say whose it is."""
        self.lanes.add(lane)
        self.opening[lane] = None
        if len(self.opening) > MOST_OPENING:
            oldest = next(iter(self.opening))
            del self.opening[oldest]
            log.info("routes.refused", cause=f"more than {MOST_OPENING} connections have not named their session")
            oldest.abort()

    def left(self, lane: Lane) -> None:
        self.lanes.discard(lane)
        self.opening.pop(lane, None)

    def close(self) -> None:
        """Takes no connections any more; open ones end with their sessions."""
        if self._server is not None:
            self._server.close()
        for lane in [lane for lane in self.lanes if lane.session is None]:
            lane.abort()


class Lane(Intake):
    """One agent's connection."""

    def __init__(self, fan: FanOut) -> None:
        super().__init__()
        self._fan = fan
        self._wire = Wire(serves=True, most=MOST_OPENING_BYTES, path=METHOD)
        self._transport = cast(asyncio.Transport, None)
        self._full = False
        # All is said; only the other end's end is awaited.
        self._done = False
        self._cursor: int | None = None
        self._opening: asyncio.TimerHandle | None = None
        self.session: Session | None = None

    # -- the connection -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=UNSENT_BYTES)
        sock = cast(socket.socket, transport.get_extra_info("socket"))
        notice_loss(sock)
        if paced():
            unpace_near(sock)
        self._opening = asyncio.get_running_loop().call_later(OPENING_SECONDS, self.abort)
        self._fan.came(self)
        self._flush()

    def took(self, data: bytes) -> None:
        if self._done:
            return
        try:
            for message in self._wire.receive(data):
                self._said(agent_pb2.RoutesRequest.FromString(message))
        except (WireError, DecodeError) as error:
            log.info("routes.refused", cause=str(error))
            if isinstance(error, WireError) and not self._full:
                self._transport.write(self._wire.goodbye(error))
                self._transport.write_eof()
                self._close()
            else:
                self.abort()
            return
        except SampanError as error:
            self._end(error)
        if self._wire.even:
            # An acknowledgement, as nearly all is that comes.
            self.push()
            return
        if self._wire.ended is not None and not self._wire.closing:
            # The agent broke it off.
            self.abort()
            return
        if self._wire.half_closed and self.session is None:
            self._end(BadRequest("the stream's first message must name the session"))
        self._flush()
        if self._wire.waits:
            return
        self.push()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._flush()
        self.push()

    def connection_lost(self, error: Exception | None) -> None:
        self._fan.left(self)
        self._release()

    # -- the stream -----------------------------------------------------------------------------

    def _said(self, request: agent_pb2.RoutesRequest) -> None:
        session = self.session
        if session is None:
            if self._wire.ended is not None:
                return
            session = self._fan.sessions.get(request.session_id)
            self.session = session
            session.on_end.append(self._session_ended)
            self._fan.sessions.stream_opened(session)
            self._fan.opening.pop(self, None)
            self._wire.most = MOST_BYTES
            if self._opening is not None:
                self._opening.cancel()
        if request.epoch:
            session.acks_apart = True
            if session.applied(request.epoch, request.revision, request.draining):
                self._fan.news()

    def push(self) -> None:
        """Sends what the agent lacks, unless it has not taken yet what it was sent."""
        if self.session is None or self._full or self._wire.waits or self._wire.ended is not None:
            return
        for revision, _, message in self._fan.frames.since(self._cursor):
            data = self._wire.at_once(message)
            if data:
                self._transport.write(data)
            else:
                self._flush()
            self._cursor = revision

    def _flush(self) -> None:
        while not self._full and (data := self._wire.take()):
            self._transport.write(data)
        if self._wire.ended is not None and not self._wire.waits:
            self._close()
        elif self._full and self._transport.get_write_buffer_size() > 4 * UNSENT_BYTES:
            self.abort()

    def _session_ended(self) -> None:
        session = self.session
        self._end(session.cause if session is not None and session.cause is not None else Unavailable("it has ended"))

    def _end(self, error: SampanError) -> None:
        self._wire.end(Status(code_of(error).value[0], str(error)))
        self._flush()
        if not self._transport.is_closing():
            # What waits for a reader that does not read: not for ever.
            asyncio.get_running_loop().call_later(OPENING_SECONDS, self.abort)

    def _close(self) -> None:
        """Says no more; waits for the other end to close, though not for ever.

        Closed at once while bytes are still coming, the connection would be reset, and with it what was said last lost.
        Nor is our own end of stream sent behind a status: grpc's client, when it sees both at once, tells its caller
        of the closed socket instead. It closes because of the GOAWAY.
        """
        if not self._done and not self._transport.is_closing():
            self._done = True
            asyncio.get_running_loop().call_later(OPENING_SECONDS, self.abort)
            self._release()

    def _release(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
        session, self.session = self.session, None
        if session is not None:
            session.on_end.remove(self._session_ended)
            self._fan.sessions.stream_closed(session)

    def abort(self) -> None:
        self._transport.abort()
