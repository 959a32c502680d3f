"""The agent's end of the stream of routes on a connection of its own, to the master's port that serves nothing else."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Protocol, cast

from google.protobuf.message import DecodeError

from common.errors import STATUSES, SampanError, Unavailable, from_status
from common.frames import Resync
from common.grpcwire import Message, Wire, WireError
from common.intake import Intake
from common.limits import MAX_MESSAGE_BYTES
from common.pacing import paced, unpace_near
from common.sockets import notice_loss
from protos import agent_pb2

METHOD = "/sampan.v1.NodeService/Routes"
DIAL_SECONDS = 3.0
# What the master may send without a word from here: a whole table, and more than any.
WINDOW_BYTES = 256 * 1024 * 1024
# Acknowledgements that follow on one another closer than that travel together; a lone one goes at once.
COALESCE_SECONDS = 0.005


class Lane(Protocol):
    """A stream of routes that is open, on whichever connection."""

    def say(self) -> None:
        """The proxy has applied something, or drains something else than before."""


class Unreached(Exception):
    """Nothing answers there as a master's port would: the stream has to be opened elsewhere."""


class RoutesLane(Intake):
    """Use `follow`. `frame` gets each frame, `applied` gives what is to be acknowledged (an empty epoch: nothing)."""

    def __init__(
        self,
        session_id: str,
        authority: str,
        frame: Callable[[agent_pb2.Frame], None],
        applied: Callable[[], agent_pb2.RoutesRequest],
    ) -> None:
        super().__init__()
        self._frame, self._applied = frame, applied
        self._wire = Wire(serves=False, most=MAX_MESSAGE_BYTES, window=WINDOW_BYTES)
        self._wire.request(METHOD, authority)
        self._opening = Message(agent_pb2.RoutesRequest(session_id=session_id).SerializeToString())
        self._transport = cast(asyncio.Transport, None)
        self._loop = asyncio.get_running_loop()
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self._said_at = 0.0
        self._saying: asyncio.TimerHandle | None = None
        # A frame has come: it is the master that answers there.
        self._answered = False

    @classmethod
    async def follow(
        cls,
        host: str,
        port: int,
        session_id: str,
        frame: Callable[[agent_pb2.Frame], None],
        applied: Callable[[], agent_pb2.RoutesRequest],
        opened: Callable[[Lane], None],
    ) -> None:
        """Returns never. Raises Unreached before the first frame; after it Resync, or why the stream has ended."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(DIAL_SECONDS):
                transport, lane = await loop.create_connection(
                    lambda: cls(session_id, f"{host}:{port}", frame, applied), host, port
                )
        except (OSError, TimeoutError) as error:
            raise Unreached(f"{host}:{port}: {error or 'no answer'}") from error
        silent = loop.call_later(DIAL_SECONDS, lane._unanswered)
        try:
            opened(lane)
            await lane._lost
        except SampanError as error:
            if lane._answered:
                raise
            raise Unreached(f"{host}:{port}: {error}") from error
        finally:
            silent.cancel()
            lane._quiet()
            transport.abort()

    # -- the connection -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        sock = cast(socket.socket, transport.get_extra_info("socket"))
        notice_loss(sock)
        if paced():
            unpace_near(sock)
        self._send(self._opening)

    def took(self, data: bytes) -> None:
        try:
            messages = self._wire.receive(data)
            for message in messages:
                self._frame(agent_pb2.Frame.FromString(message))
                self._answered = True
        except (Resync, SampanError) as error:
            self._fail(error)
        except (WireError, DecodeError, ValueError) as error:
            self._fail(Unavailable(f"the stream of routes is not understood: {error}"))
        answers = self._wire.take()
        if answers:
            self._transport.write(answers)
        ended = self._wire.ended
        if ended is not None:
            code = STATUSES[ended.code] if ended.code < len(STATUSES) else "UNKNOWN"
            self._fail(from_status(code, ended.message))

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(Unavailable(f"the connection for routes broke: {error or 'closed by the master'}"))

    def _unanswered(self) -> None:
        if not self._answered:
            self._fail(Unavailable("no answer"))

    def _fail(self, error: Exception) -> None:
        self._quiet()
        if not self._lost.done():
            self._lost.set_exception(error)
            # Nobody may be waiting yet, or any more: a connection that came up when its time was over.
            self._lost.exception()

    def _quiet(self) -> None:
        if self._saying is not None:
            self._saying.cancel()
            self._saying = None

    # -- acknowledging ----------------------------------------------------------------------------

    def say(self) -> None:
        if self._saying is not None or self._lost.done():
            return
        now = self._loop.time()
        due = self._said_at + COALESCE_SECONDS
        if due > now:
            self._saying = self._loop.call_at(due, lambda: self._say(self._loop.time()))
        else:
            self._say(now)

    def _say(self, now: float) -> None:
        self._saying, self._said_at = None, now
        applied = self._applied()
        if applied.epoch:
            self._send(Message(applied.SerializeToString()))

    def _send(self, message: Message) -> None:
        data = self._wire.at_once(message) or self._wire.take()
        if data:
            self._transport.write(data)
