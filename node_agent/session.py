"""The agent's side of a session with the master: one lifetime, whose first failure ends it and begins the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import grpc
import grpc.aio
import structlog

from common.backoff import Backoff
from common.errors import AlreadyExists, SampanError, Unauthenticated, Unavailable
from common.frames import Resync
from common.rpc import open_channel, translate
from common.tasks import apart
from node_agent.lane import Lane, RoutesLane, Unreached
from node_agent.reporter import Reporter
from node_agent.streams.commands import Answering, Commands
from protos import agent_pb2, agent_pb2_grpc

log = structlog.get_logger()

REGISTER_SECONDS = 10.0
ACK_SECONDS = 20.0
# News that comes within so many seconds after a report travels in one; the first goes at once.
COALESCE_SECONDS = 0.005
# The same for what nobody waits for: each report is a transaction of the master's.
PATIENT_SECONDS = 0.1
# And for events alone: the next status takes them along.
EVENTS_SECONDS = 1.0
# A refused machine asks less often: a person has to do something first.
REFUSED_SECONDS = 10.0


class JoinRefused(SampanError):
    """The master does not let this machine in, and there is no credential to come back with."""

    reason = "JoinRefused"


class SessionNode(Answering, Protocol):
    """What a session needs of its node."""

    reporter: Reporter

    async def hello(self) -> agent_pb2.RegisterRequest:
        """The request to register with, made anew for every session."""

    async def registered(self, answer: agent_pb2.RegisterResponse) -> None: ...

    def reopen(self, stream: str) -> None:
        """Stream "assignments" or "routes" begins anew."""

    def frame(self, stream: str, frame: agent_pb2.Frame) -> None:
        """Raises Resync."""

    def statuses(self) -> list[agent_pb2.PodReport]: ...

    def acknowledge(self, report: agent_pb2.NodeReport) -> None:
        """Fills in the revisions that are applied."""

    def routes_applied(self) -> agent_pb2.RoutesRequest:
        """What the proxy has applied and drains."""


class MasterLink:
    """Keeps a session with the master, for ever."""

    def __init__(
        self, target: str, node: SessionNode, *, connect: Callable[[str], grpc.aio.Channel] = open_channel
    ) -> None:
        self._target = target
        self._node = node
        self._connect = connect
        self._backoff = Backoff(0.2, 5.0, jitter=0.2)
        # The last answer to Register was no: nothing changes before a person does something.
        self._refused = False
        # True while a session is open; for those who show it.
        self.connected = False
        # The stream of routes that is open, on a port of its own or on the master's first.
        self._lane: Lane | None = None
        # Sessions that were opened so far, and who hears how many seconds the master took for each report.
        self.sessions = 0
        self.on_report: Callable[[float], None] = lambda seconds: None

    async def run(self) -> None:
        """Ends only by cancellation, or by JoinRefused."""
        last = ""
        while True:
            # A channel of its own for every session: after failures the master may have another address.
            channel = self._connect(self._target)
            cause: BaseException | None = None
            try:
                await apart("session", self._session(channel))
            except* JoinRefused as refused:
                raise first_failure(refused) from None
            except* (SampanError, grpc.RpcError, OSError) as failures:
                cause = first_failure(failures)
            finally:
                self.connected = False
                await channel.close()
            delay = next(self._backoff)
            if self._refused:
                delay = max(delay, REFUSED_SECONDS)
            text = f"{type(cause).__name__}: {cause}"
            # One line a cause: a master that is away for an hour is one line, not a thousand.
            (log.debug if text == last else log.warning)("session.ended", cause=text, retry_in=round(delay, 2))
            last = text
            await asyncio.sleep(delay)

    def routes_news(self) -> None:
        """What `routes_applied` gives has changed: the master hears it now, in the next session at the latest."""
        if self._lane is not None:
            self._lane.say()
        else:
            self._node.reporter.hurry()

    async def _session(self, channel: grpc.aio.Channel) -> None:
        stub = agent_pb2_grpc.NodeServiceStub(channel)
        request = await self._node.hello()
        try:
            answer = await stub.Register(request, timeout=REGISTER_SECONDS)
        except grpc.aio.AioRpcError as error:
            cause = translate(error)
            self._refused = isinstance(cause, Unauthenticated | AlreadyExists)
            if isinstance(cause, Unauthenticated) and not request.credential:
                raise JoinRefused(str(cause)) from error
            raise cause from error
        await self._node.registered(answer)
        self._backoff.reset()
        self._refused, self.connected = False, True
        self.sessions += 1
        log.info("session.began", session=answer.session_id[:8], master=self._target)
        opening = agent_pb2.StreamRequest(session_id=answer.session_id)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._assignments(stub, opening), name="session/assignments")
            group.create_task(self._routes(stub, answer), name="session/routes")
            group.create_task(self._report(stub, answer), name="session/report")
            group.create_task(Commands(stub, self._node, answer.session_id).run(), name="session/commands")

    async def _assignments(self, stub: agent_pb2_grpc.NodeServiceAsyncStub, opening: agent_pb2.StreamRequest) -> None:
        gaps = Backoff(0.05, 5.0, jitter=0.2)
        while True:
            self._node.reopen("assignments")
            call = stub.Assignments(opening)
            try:
                async for frame in call:
                    self._node.frame("assignments", frame)
                    gaps.reset()
                raise Unavailable("the master ended the stream of assignments")
            except Resync as gap:
                await _resync("assignments", gap, gaps)
            except grpc.aio.AioRpcError as error:
                raise translate(error) from error
            finally:
                call.cancel()

    async def _routes(self, stub: agent_pb2_grpc.NodeServiceAsyncStub, answer: agent_pb2.RegisterResponse) -> None:
        gaps = Backoff(0.05, 5.0, jitter=0.2)
        port = answer.routes_port

        def take(frame: agent_pb2.Frame) -> None:
            self._node.frame("routes", frame)
            gaps.reset()

        def opened(lane: Lane) -> None:
            self._lane = lane

        while True:
            self._node.reopen("routes")
            try:
                if port:
                    host = self._target.rpartition(":")[0].strip("[]")
                    await RoutesLane.follow(host, port, answer.session_id, take, self._node.routes_applied, opened)
                else:
                    await RoutesCall(stub, answer.session_id, take, self._node.routes_applied).run(opened)
            except Unreached as error:
                # A firewall that knows one port of the master's only, perhaps. The next session tries again.
                log.info("session.routes_port_unreached", cause=str(error))
                port = 0
            except Resync as gap:
                await _resync("routes", gap, gaps)
            finally:
                self._lane = None

    async def _report(self, stub: agent_pb2_grpc.NodeServiceAsyncStub, answer: agent_pb2.RegisterResponse) -> None:
        reporter = self._node.reporter
        reporter.restart(answer.session_id, self._node.statuses())
        period = answer.heartbeat_period_ms / 1000
        call = stub.Report()
        try:
            while True:
                report = reporter.take()
                self._node.acknowledge(report)
                began = asyncio.get_running_loop().time()
                await call.write(report)
                async with asyncio.timeout(ACK_SECONDS):
                    ack = await call.read()
                if not isinstance(ack, agent_pb2.ReportAck):
                    raise Unavailable(f"the master ended the stream of reports: {await call.details()}")
                reporter.acked()
                self.on_report(asyncio.get_running_loop().time() - began)
                period = (ack.heartbeat_period_ms or 1000) / 1000
                await _news(reporter, period, began)
        except TimeoutError as error:
            raise Unavailable(f"no acknowledgement within {ACK_SECONDS:.0f} s") from error
        except asyncio.InvalidStateError as error:
            # It ended while there was nothing to report: so says grpc.aio of a write then.
            raise Unavailable("the stream of reports has ended") from error
        except grpc.aio.AioRpcError as error:
            raise translate(error) from error
        finally:
            call.cancel()


async def _news(reporter: Reporter, period: float, last: float) -> None:
    """Until there is something to say, or it is time for a heartbeat; `last` is when the last report was sent."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(period):
            await reporter.news.wait()
    except TimeoutError:
        return
    for sooner, seconds in ((reporter.state, EVENTS_SECONDS), (reporter.urgent, PATIENT_SECONDS)):
        patience = last + seconds - loop.time()
        if patience <= 0:
            continue
        try:
            async with asyncio.timeout(patience):
                await sooner.wait()
        except TimeoutError:
            return
    await asyncio.sleep(max(0.0, last + COALESCE_SECONDS - loop.time()))


async def _resync(stream: str, gap: Resync, gaps: Backoff) -> None:
    log.warning("session.resync", stream=stream, cause=str(gap))
    await asyncio.sleep(next(gaps))


class RoutesCall:
    """The stream of routes as one more call on the session's channel."""

    def __init__(
        self,
        stub: agent_pb2_grpc.NodeServiceAsyncStub,
        session_id: str,
        frame: Callable[[agent_pb2.Frame], None],
        applied: Callable[[], agent_pb2.RoutesRequest],
    ) -> None:
        self._stub, self._session_id = stub, session_id
        self._frame, self._applied = frame, applied
        self._news = asyncio.Event()

    def say(self) -> None:
        self._news.set()

    async def run(self, opened: Callable[[Lane], None]) -> None:
        """Ends by what ends the stream. Raises Resync, SampanError."""
        call = self._stub.Routes()
        try:
            await call.write(agent_pb2.RoutesRequest(session_id=self._session_id))
            opened(self)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._acknowledge(call), name="session/acks")
                async for frame in call:
                    self._frame(frame)
                raise Unavailable("the master ended the stream of routes")
        except ExceptionGroup as errors:
            error = first_failure(errors)
            raise (translate(error) if isinstance(error, grpc.RpcError) else error) from errors
        except asyncio.InvalidStateError as error:
            raise Unavailable("the stream of routes has ended") from error
        except grpc.aio.AioRpcError as error:
            raise translate(error) from error
        finally:
            call.cancel()

    async def _acknowledge(self, call: grpc.aio.StreamStreamCall[agent_pb2.RoutesRequest, agent_pb2.Frame]) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            applied = self._applied()
            if applied.epoch:
                try:
                    await call.write(applied)
                except asyncio.InvalidStateError:
                    # The call has ended: its reader says why.
                    return
            await asyncio.sleep(COALESCE_SECONDS)


def first_failure(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """What went wrong first in a TaskGroup: the rest is its consequence."""
    inner = errors.exceptions[0]
    return first_failure(inner) if isinstance(inner, BaseExceptionGroup) else inner
