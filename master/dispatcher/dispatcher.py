"""The NodeService: registrations, frames out, reports in; its neighbours decide what a node gets and may write."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import structlog

from common.errors import Expired, SampanError, Unauthenticated, Unavailable
from common.rpc import abort
from common.version import VERSION
from common.wireframes import encode
from master.dispatcher.assignments import AssignmentIndex
from master.dispatcher.fanout import FanOut, RouteFrames
from master.dispatcher.holds import Holds
from master.dispatcher.nodes import NodeTable
from master.dispatcher.registration import ClusterFacts, Registrar
from master.dispatcher.reports import Reports
from master.dispatcher.routes import RouteTable
from master.dispatcher.sessions import COALESCE_SECONDS, Session, Sessions, ticks
from master.dispatcher.streams import NodeStreams
from protos import agent_pb2, core_pb2

if TYPE_CHECKING:
    from master.api.resources import Resources
    from master.store.store import Store

log = structlog.get_logger()

KINDS = ("Node", "ConfigMap", "Secret", "Pod", "Service", "Endpoints")
# A node that was silent for so many periods may have been given up by the node controller: it starts over, and
# with that sends all its statuses again.
LAPSE_PERIODS = 3
# One change of the routing table costs about so much time per node (docs/adr/0008-fan-out.md). Changes that follow on
# one another wait for one another so long, and travel together; what is only of nodes that join or leave waits ten
# times as long: a thousand nodes that join do not each cost a thousand messages.
SPREAD_SECONDS_EACH = 0.00005
NODES_SPREAD_SECONDS_EACH = 0.0005

Context = grpc.aio.ServicerContext[Any, Any]


class _SessionEnded(Exception):
    pass


class Dispatcher:
    """Serves the agents. `run()` follows the store and must run for as long as the server does."""

    def __init__(
        self,
        store: Store,
        resources: Resources,
        cluster: ClusterFacts,
        verify_join_token: Callable[[str], Awaitable[object]],
        nodes: NodeTable | None = None,
    ) -> None:
        self._store = store
        self.nodes = nodes if nodes is not None else NodeTable()
        self.sessions = Sessions(self.nodes.opened, self.nodes.closed)
        self.streams = NodeStreams(self.sessions, self.nodes)
        self._cluster = cluster
        self._registrar = Registrar(store, resources, self.nodes, cluster, verify_join_token)
        self._reports = Reports(store, resources)
        self._index = AssignmentIndex()
        self._routes = RouteTable()
        self._route_frames = RouteFrames(self._routes.writer)
        self._route_revision = -1
        # When the last change was sent to all nodes (the loop's time), which it was, and the timer of the next.
        self._spread_at = 0.0
        self._spread_revision = 0
        self._spreading: asyncio.TimerHandle | None = None
        self._ready = asyncio.Event()
        self._closed = False
        self._holds = Holds(
            self._index, self._routes, self.sessions, self.nodes, self._nodes_that_serve, clock=time.monotonic
        )
        # A proxy has said something that a hold may wait for.
        self._acknowledged = asyncio.Event()
        self.fan_out = FanOut(self.sessions, self._route_frames, self._acked)

    # -- following the store ------------------------------------------------------------------

    async def run(self) -> None:
        """Keeps every node's frames up to date until cancelled; starts over when it falls behind."""
        async with asyncio.TaskGroup() as group:
            releasing = group.create_task(self._release(), name="dispatcher/releases")
            await self._follow()
            releasing.cancel()

    async def _follow(self) -> None:
        while True:
            objects, _, watch = self._store.snapshot_and_watch(KINDS)
            try:
                self._reset(objects)
                self._ready.set()
                while changes := await watch.batch():
                    for change in changes:
                        self._apply(change.type, change.obj)
                    self._wake()
                return
            except Expired as error:
                log.warning("dispatcher.relist", cause=str(error))
            finally:
                watch.close()

    async def _release(self) -> None:
        """Lets Terminating pods be stopped as the proxies' words come in, or their time is over."""
        while True:
            look_at = self._holds.look_at
            try:
                async with asyncio.timeout(None if look_at is None else max(0.0, look_at - time.monotonic())):
                    await self._acknowledged.wait()
                # Acknowledgements come in crowds.
                await asyncio.sleep(COALESCE_SECONDS)
            except TimeoutError:
                pass
            self._acknowledged.clear()
            self._wake()

    def _acked(self) -> None:
        if self._holds:
            self._acknowledged.set()

    def _nodes_that_serve(self) -> Iterable[str]:
        for node in self._store.list("Node"):
            if any(condition.type == "Ready" and condition.status == "True" for condition in node.status.conditions):
                yield node.metadata.name

    def _reset(self, objects: list[Any]) -> None:
        self._index.reset(objects)
        self._routes.reset(objects)
        self._holds.reset(obj for obj in objects if isinstance(obj, core_pb2.Pod))
        alive = {obj.metadata.name for obj in objects if isinstance(obj, core_pb2.Node)}
        known = {*(session.node for session in self.sessions), *self.nodes, *self._index.nodes()}
        for name in known - alive:
            self._node_removed(name)
        self._wake()

    def _apply(self, kind: str, obj: Any) -> None:
        gone = kind == "DELETED"
        if isinstance(obj, core_pb2.Pod):
            # In this order: the table leaves the pod out, then what is known of it decides whether it is held.
            (self._index.remove_pod if gone else self._index.put_pod)(obj)
            (self._routes.remove if gone else self._routes.put)(obj)
            (self._holds.remove if gone else self._holds.put)(obj)
        elif isinstance(obj, core_pb2.ConfigMap | core_pb2.Secret):
            (self._index.remove_object if gone else self._index.put_object)(obj)
        else:
            (self._routes.remove if gone else self._routes.put)(obj)
            if gone and isinstance(obj, core_pb2.Node):
                self._node_removed(obj.metadata.name)

    def _node_removed(self, name: str) -> None:
        self.sessions.end(name, Unauthenticated(f'node "{name}" was removed from the cluster'))
        self.nodes.forget(name)
        self._index.forget(name)

    def _wake(self) -> None:
        held = self._holds.look_at
        self._holds.settle()
        if self._holds.look_at != held:
            self._acknowledged.set()
        for node in self._index.touched:
            session = self.sessions.of(node)
            if session is not None:
                session.assignments.set()
            elif self._store.get("Node", "", node) is None:
                # Its pods go after it: the last of them leaves nothing to keep.
                self._index.forget(node)
        self._index.touched.clear()
        if self._routes.writer.revision != self._route_revision:
            self._route_revision = self._routes.writer.revision
            self._spread_routes()

    def _spread_routes(self) -> None:
        """Sends what changed to all nodes: at once, unless the last change is hardly out."""
        traffic = self._routes.traffic_revision > self._spread_revision
        each = SPREAD_SECONDS_EACH if traffic else NODES_SPREAD_SECONDS_EACH
        loop = asyncio.get_running_loop()
        due = self._spread_at + len(self.sessions) * each
        if self._spreading is not None:
            if self._spreading.when() <= due:
                return
            self._spreading.cancel()
        if due > loop.time():
            self._spreading = loop.call_at(due, self._spread)
        else:
            self._spread()

    def _spread(self) -> None:
        self._spreading = None
        self._spread_at = asyncio.get_running_loop().time()
        self._spread_revision = self._routes.writer.revision
        self.fan_out.push()
        for session in self.sessions:
            session.routes.set()

    def measured(self) -> Iterator[tuple[str, Mapping[str, str]]]:
        """The measured use of every node that talks, as its agent last reported it: quantities of cpu and memory."""
        for session in self.sessions:
            if session.node_status is not None:
                yield session.node, session.node_status.used

    def close(self) -> None:
        """Ends every session, so that the server can stop; new registrations are refused."""
        self._closed = True
        self.fan_out.close()
        self.sessions.end_all(Unavailable("the master is shutting down"))

    # -- the service --------------------------------------------------------------------------

    def add_to(self, server: grpc.aio.Server) -> None:
        """Makes the server answer sampan.v1.NodeService.

        Streams of state leave as bytes that are made once for all sessions at the same revision.
        """

        def raw(data: bytes) -> bytes:
            return data

        request = agent_pb2.StreamRequest.FromString
        handlers: dict[str, Any] = {
            "Register": grpc.unary_unary_rpc_method_handler(
                self.register,
                agent_pb2.RegisterRequest.FromString,
                agent_pb2.RegisterResponse.SerializeToString,
            ),
            "Assignments": grpc.unary_stream_rpc_method_handler(self.send_assignments, request, raw),
            "Routes": grpc.stream_stream_rpc_method_handler(self.send_routes, agent_pb2.RoutesRequest.FromString, raw),
            "Commands": grpc.unary_stream_rpc_method_handler(
                self.send_commands, request, agent_pb2.Command.SerializeToString
            ),
            "Report": grpc.stream_stream_rpc_method_handler(
                self.take_reports, agent_pb2.NodeReport.FromString, agent_pb2.ReportAck.SerializeToString
            ),
            "Attach": grpc.stream_stream_rpc_method_handler(
                self.take_stream, agent_pb2.StreamChunk.FromString, agent_pb2.StreamChunk.SerializeToString
            ),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("sampan.v1.NodeService", handlers),))

    async def register(self, request: agent_pb2.RegisterRequest, context: Context) -> agent_pb2.RegisterResponse:
        try:
            if self._closed:
                raise Unavailable("the master is shutting down")
            # Before the first full read a node would be told to stop all its pods.
            await self._ready.wait()
            node, credential = await self._registrar.register(request)
            if self._store.get("Node", "", request.node_name) is None:
                raise Unavailable(f'node "{request.node_name}" was removed while it registered: register again')
        except SampanError as error:
            log.info("node.refused", node=request.node_name, peer=context.peer(), cause=str(error))
            await abort(context, error)
        session = self.sessions.start(request.node_name, node.metadata.uid)
        self.nodes.heard(request.node_name)
        log.info(
            "node.registered",
            node=request.node_name,
            session=session.id[:8],
            peer=context.peer(),
            version=request.agent_version,
            same_version=request.agent_version == VERSION,
        )
        return agent_pb2.RegisterResponse(
            session_id=session.id,
            credential=credential,
            cluster=self._cluster.name,
            pod_cidr=node.spec.podCIDR,
            cluster_cidr=self._cluster.cluster_cidr,
            service_cidr=self._cluster.service_cidr,
            heartbeat_period_ms=self._period_ms(),
            node_uid=node.metadata.uid,
            routes_port=self.fan_out.port,
        )

    def _period_ms(self) -> int:
        return int(self.nodes.heartbeat_period() * 1000)

    async def _serve(self, session_id: str, context: Context, body: Callable[[Session], Awaitable[None]]) -> None:
        """Runs one stream's body for as long as its session lasts, and turns our errors into a status."""
        try:
            session = self.sessions.get(session_id)
        except SampanError as error:
            await abort(context, error)
        self.sessions.stream_opened(session)
        failure: SampanError | None = None
        try:
            async with asyncio.TaskGroup() as group:
                guard = group.create_task(_until_ended(session), name=f"session/{session.node}")
                await body(session)
                guard.cancel()
        except* _SessionEnded:
            failure = session.cause
        except* SampanError as errors:
            failure = _first(errors)
        finally:
            self.sessions.stream_closed(session)
        if failure is not None:
            await abort(context, failure)

    async def send_assignments(self, request: agent_pb2.StreamRequest, context: Context) -> None:
        async def body(session: Session) -> None:
            epoch, cursor = "", 0
            async with contextlib.aclosing(ticks(session.assignments)) as waking:
                async for _ in waking:
                    writer = self._index.writer(session.node)
                    for frame in writer.frames(cursor if epoch == writer.epoch else None):
                        await context.write(encode(frame, self._index.item).SerializeToString())
                        epoch, cursor = frame.epoch, frame.revision

        await self._serve(request.session_id, context, body)

    async def send_routes(self, requests: object, context: Context) -> None:
        """The same as `fan_out` serves, for agents that do not reach its port."""
        first = await context.read()
        if first is grpc.aio.EOF:
            return

        async def hear(session: Session) -> None:
            request = first
            while request is not grpc.aio.EOF:
                if request.epoch:
                    session.acks_apart = True
                    if session.applied(request.epoch, request.revision, request.draining):
                        self._acked()
                request = await context.read()

        async def body(session: Session) -> None:
            cursor: int | None = None
            async with asyncio.TaskGroup() as group, contextlib.aclosing(ticks(session.routes)) as waking:
                group.create_task(hear(session), name=f"session/{session.node}/acks")
                async for _ in waking:
                    for revision, frame, _message in self._route_frames.since(cursor):
                        await context.write(frame)
                        cursor = revision

        await self._serve(first.session_id, context, body)

    async def send_commands(self, request: agent_pb2.StreamRequest, context: Context) -> None:
        async def body(session: Session) -> None:
            async with contextlib.aclosing(ticks(session.commands_ready)) as waking:
                async for _ in waking:
                    for command in session.take_commands():
                        await context.write(command)

        await self._serve(request.session_id, context, body)

    async def take_reports(self, requests: object, context: Context) -> None:
        first = await context.read()
        if first is grpc.aio.EOF:
            return

        async def body(session: Session) -> None:
            report = first
            while report is not grpc.aio.EOF:
                if report.session_id != session.id:
                    raise Unauthenticated("a report names another session than the stream's first one")
                if session.cause is not None:
                    # What is said of a node that was just removed must not bring it back among the living.
                    raise session.cause
                silent = self.nodes.silent_for(session.node)
                self.nodes.heard(session.node)
                if not report.complete and silent > LAPSE_PERIODS * self.nodes.heartbeat_period():
                    raise Unavailable(f"nothing was heard for {silent:.1f} s: register again")
                if self._reports.heard(session, report):
                    self._acked()
                await self._reports.take(session, report)
                await context.write(
                    agent_pb2.ReportAck(sequence=report.sequence, heartbeat_period_ms=self._period_ms())
                )
                report = await context.read()

        await self._serve(first.session_id, context, body)

    async def take_stream(self, requests: object, context: Context) -> None:
        first = await context.read()
        if first is grpc.aio.EOF:
            return

        async def body(session: Session) -> None:
            await self.streams.attach(session, first.stream_id).serve(first, context)

        await self._serve(first.session_id, context, body)


async def _until_ended(session: Session) -> None:
    await session.ended.wait()
    raise _SessionEnded


def _first(errors: BaseExceptionGroup[SampanError]) -> SampanError:
    inner = errors.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
