"""The ControlPlane service: thin, generic over kinds; every rule it applies is the resource layer's."""

from __future__ import annotations

import asyncio
import contextlib
import platform
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import grpc
import grpc.aio
import structlog

from common import kinds
from common.errors import BadRequest, Unavailable
from common.kinds import NODE, POD
from common.version import VERSION
from master.api import tokens
from master.api.apply import apply
from master.api.copying import copy_call
from master.api.eviction import evict
from master.api.exec import attach_call, exec_call
from master.api.explaining import Explainer, explain_pod
from master.api.interceptors import Context
from master.api.objects import pack, pack_into, unpack
from master.api.paging import Pages
from master.api.patch import patch
from master.api.podlogs import LogSource, logs_command
from master.api.portforward import forward_call
from master.api.resources import Resources
from master.api.watching import View, added, bookmark
from master.store.store import Store
from protos import control_pb2, control_pb2_grpc

# A watcher whose objects do not change still learns where it stands, so that it can resume later.
BOOKMARK_SECONDS = 30.0
_CHUNK = 256 * 1024
_SCHEMA = 1

log = structlog.get_logger()


@dataclass(frozen=True)
class MasterInfo:
    """What the master says about itself; `addresses` are HOST:PORT where machines can join, best first."""

    cluster: str
    addresses: Sequence[str] = ()
    version: str = VERSION


class ControlPlane(control_pb2_grpc.ControlPlaneServicer):
    """Raises SampanError; ErrorInterceptor turns that into statuses. `close()` ends all open streams."""

    def __init__(
        self, resources: Resources, store: Store, logs: LogSource, explainer: Explainer, info: MasterInfo
    ) -> None:
        self._resources = resources
        self._store = store
        self._logs = logs
        self._explainer = explainer
        self._info = info
        self._pages = Pages(time.monotonic)
        self._streams: set[asyncio.Timeout] = set()
        self._closed = False

    def close(self) -> None:
        """Ends watches and followed logs with Unavailable; call it before the server is stopped."""
        self._closed = True
        now = asyncio.get_running_loop().time()
        for scope in self._streams:
            scope.reschedule(now)

    @asynccontextmanager
    async def _stream(self) -> AsyncIterator[None]:
        """A stream that may last for ever and ends when the master does."""
        gone = Unavailable("the master is shutting down: call again in a moment")
        if self._closed:
            raise gone
        try:
            async with asyncio.timeout(None) as scope:
                self._streams.add(scope)
                try:
                    yield
                finally:
                    self._streams.discard(scope)
        except TimeoutError:
            raise gone from None

    # -- objects ------------------------------------------------------------------------------

    async def Apply(self, request: control_pb2.ApplyRequest, context: Context) -> control_pb2.ApplyResponse:
        given = unpack(request.object, request.namespace)
        done = await apply(self._resources, given.message, dry_run=request.dry_run)
        return control_pb2.ApplyResponse(
            object=pack(done.obj), outcome=done.outcome, warnings=[*given.warnings, *done.warnings]
        )

    async def Create(self, request: control_pb2.CreateRequest, context: Context) -> control_pb2.ObjectResponse:
        given = unpack(request.object, request.namespace)
        made = await self._resources.create(given.message, dry_run=request.dry_run)
        return control_pb2.ObjectResponse(object=pack(made), warnings=given.warnings)

    async def Update(self, request: control_pb2.UpdateRequest, context: Context) -> control_pb2.ObjectResponse:
        given = unpack(request.object, request.namespace)
        change = self._resources.update_status if request.status else self._resources.update
        stored = await change(given.message, force=request.force, dry_run=request.dry_run)
        return control_pb2.ObjectResponse(object=pack(stored), warnings=given.warnings)

    async def Patch(self, request: control_pb2.PatchRequest, context: Context) -> control_pb2.ObjectResponse:
        kind = kinds.by_resource(_required(request.kind, "kind", "like pods"))
        _required(request.name, "name", "the object's name")
        done = await patch(self._resources, request, kind)
        return control_pb2.ObjectResponse(object=pack(done.obj), warnings=done.warnings)

    async def Get(self, request: control_pb2.GetRequest, context: Context) -> control_pb2.ObjectResponse:
        kind = kinds.by_resource(_required(request.kind, "kind", "like pods"))
        name = _required(request.name, "name", "use List for all")
        found = self._resources.get(kind.kind, request.namespace or "default", name)
        return control_pb2.ObjectResponse(object=pack(found))

    async def Delete(self, request: control_pb2.DeleteRequest, context: Context) -> control_pb2.DeleteResponse:
        kind = kinds.by_resource(_required(request.kind, "kind", "like pods"))
        deleted = await self._resources.delete(
            kind.kind,
            (request.namespace or "default") if kind.namespaced else "",
            _required(request.name, "name", "the object's name"),
            grace_seconds=request.grace_period_seconds if request.HasField("grace_period_seconds") else None,
            propagation=request.propagation_policy,
            uid=request.uid,
            dry_run=request.dry_run,
        )
        return control_pb2.DeleteResponse(object=pack(deleted.obj), gone=deleted.gone)

    async def Evict(self, request: control_pb2.EvictRequest, context: Context) -> control_pb2.EvictResponse:
        done = await evict(
            self._resources,
            request.namespace or "default",
            _required(request.name, "name", "the pod's name"),
            grace_seconds=request.grace_period_seconds if request.HasField("grace_period_seconds") else None,
            uid=request.uid,
            dry_run=request.dry_run,
        )
        return control_pb2.EvictResponse(pod=done.obj, gone=done.gone)

    async def List(self, request: control_pb2.ListRequest, context: Context) -> control_pb2.ListResponse:
        kind = kinds.by_resource(_required(request.kind, "kind", "like pods"))
        question = (kind.kind, request.namespace, request.label_selector, request.field_selector)
        if request.continue_token:
            page = self._pages.next(request.continue_token, question, request.limit)
        else:
            revision = self._store.revision
            objects = self._resources.list(*question)
            page = self._pages.first(objects, revision, question, request.limit)
        answer = control_pb2.ListResponse(resource_version=str(page.revision), continue_token=page.token)
        for obj in page.objects:
            pack_into(answer.items.add(), obj)
        return answer

    async def Watch(self, request: control_pb2.WatchRequest, context: Context) -> AsyncIterator[control_pb2.WatchEvent]:
        kind = kinds.by_resource(_required(request.kind, "kind", "like pods"))
        view = View(kind, request.namespace, request.label_selector, request.field_selector)
        start = _revision(request.resource_version)
        objects: list[Any] = []
        if start:
            watch = self._store.watch([kind.kind], start)
        else:
            objects, start, watch = self._store.snapshot_and_watch([kind.kind])
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(watch.close)
            await stack.enter_async_context(self._stream())
            for obj in objects:
                if view.holds(obj):
                    yield added(obj)
            if not request.resource_version.strip("0"):
                yield bookmark(start)
            while True:
                try:
                    async with asyncio.timeout(BOOKMARK_SECONDS):
                        changes = await watch.batch()
                except TimeoutError:
                    yield bookmark(watch.revision)
                    continue
                if not changes:
                    raise Unavailable("the master is shutting down: watch again in a moment")
                for change in changes:
                    event = view.event(change)
                    if event is not None:
                        yield event

    async def Logs(self, request: control_pb2.LogsRequest, context: Context) -> AsyncIterator[control_pb2.LogChunk]:
        name = _required(request.pod, "pod", "the pod's name")
        pod = self._resources.get(POD.kind, request.namespace or "default", name)
        command = logs_command(pod, request)
        async with self._stream(), contextlib.AsyncExitStack() as stack:
            chunks: Any = self._logs.logs(pod.spec.nodeName, command)
            if hasattr(chunks, "aclose"):
                await stack.enter_async_context(aclosing(chunks))
            async for data in chunks:
                for start in range(0, len(data), _CHUNK):
                    yield control_pb2.LogChunk(data=data[start : start + _CHUNK])

    async def Exec(
        self, request_iterator: AsyncIterator[control_pb2.ExecRequest], context: Context
    ) -> AsyncIterator[control_pb2.ExecResponse]:
        async with self._stream(), aclosing(exec_call(self._resources, self._logs, request_iterator)) as answers:
            async for answer in answers:
                yield answer

    async def AttachPod(
        self, request_iterator: AsyncIterator[control_pb2.AttachRequest], context: Context
    ) -> AsyncIterator[control_pb2.ExecResponse]:
        async with self._stream(), aclosing(attach_call(self._resources, self._logs, request_iterator)) as answers:
            async for answer in answers:
                yield answer

    async def PortForward(
        self, request_iterator: AsyncIterator[control_pb2.PortForwardRequest], context: Context
    ) -> AsyncIterator[control_pb2.PortForwardResponse]:
        async with self._stream(), aclosing(forward_call(self._resources, self._logs, request_iterator)) as answers:
            async for answer in answers:
                yield answer

    async def Copy(
        self, request_iterator: AsyncIterator[control_pb2.CopyRequest], context: Context
    ) -> AsyncIterator[control_pb2.CopyResponse]:
        async with self._stream(), aclosing(copy_call(self._resources, self._logs, request_iterator)) as answers:
            async for answer in answers:
                yield answer

    async def NodeQuery(self, request: control_pb2.NodeQueryRequest, context: Context) -> control_pb2.NodeQueryResponse:
        name = _required(request.node, "node", "the node's name")
        what = _required(request.what, "what", "network, proxy or usage")
        self._resources.get(NODE.kind, "", name)
        answer = await self._logs.query(name, what)
        return control_pb2.NodeQueryResponse(json=answer.decode(errors="replace"))

    async def ExplainPod(
        self, request: control_pb2.ExplainPodRequest, context: Context
    ) -> control_pb2.ExplainPodResponse:
        name = _required(request.name, "name", "the pod's name")
        return explain_pod(self._resources, self._explainer, request.namespace or "default", name)

    # -- join tokens --------------------------------------------------------------------------

    async def CreateJoinToken(
        self, request: control_pb2.CreateJoinTokenRequest, context: Context
    ) -> control_pb2.CreateJoinTokenResponse:
        new = await tokens.create_join_token(
            self._resources,
            self._resources.clock(),
            ttl_seconds=request.ttl_seconds,
            description=request.description,
        )
        return control_pb2.CreateJoinTokenResponse(token=new.token, info=new.info, addresses=self._info.addresses)

    async def ListJoinTokens(
        self, request: control_pb2.ListJoinTokensRequest, context: Context
    ) -> control_pb2.ListJoinTokensResponse:
        found = tokens.list_join_tokens(self._resources, self._resources.clock())
        return control_pb2.ListJoinTokensResponse(tokens=found)

    async def RevokeJoinToken(
        self, request: control_pb2.RevokeJoinTokenRequest, context: Context
    ) -> control_pb2.RevokeJoinTokenResponse:
        text = _required(request.id, "id", "a join token or its id")
        return control_pb2.RevokeJoinTokenResponse(id=await tokens.revoke_join_token(self._resources, text))

    # -- the whole store ----------------------------------------------------------------------

    async def Backup(
        self, request: control_pb2.BackupRequest, context: Context
    ) -> AsyncIterator[control_pb2.BackupChunk]:
        with _disk("read"), tempfile.TemporaryDirectory(prefix="sampan-backup-") as folder:
            path = Path(folder) / "backup"
            await self._store.backup(path)
            file = await asyncio.to_thread(_open, path, "rb")
            with file:
                while data := await asyncio.to_thread(file.read, _CHUNK):
                    yield control_pb2.BackupChunk(data=data)
        log.info("store.backup", revision=self._store.revision)

    async def Restore(
        self, request_iterator: AsyncIterator[control_pb2.BackupChunk], context: Context
    ) -> control_pb2.RestoreResponse:
        with _disk("write"), tempfile.TemporaryDirectory(prefix="sampan-restore-") as folder:
            path = Path(folder) / "backup"
            file = await asyncio.to_thread(_open, path, "wb")
            with file:
                async for chunk in request_iterator:
                    await asyncio.to_thread(file.write, chunk.data)
            if path.stat().st_size == 0:
                raise BadRequest("the backup is empty: send the file that `sampan backup` wrote")
            count = await self._store.restore(path)
        log.warning("store.restored", objects=count, revision=self._store.revision)
        return control_pb2.RestoreResponse(objects=count, resource_version=str(self._store.revision))

    async def Version(self, request: control_pb2.VersionRequest, context: Context) -> control_pb2.VersionResponse:
        return control_pb2.VersionResponse(
            version=self._info.version,
            cluster=self._info.cluster,
            python=platform.python_version(),
            schema=_SCHEMA,
        )


def add_control_plane(
    server: grpc.aio.Server,
    resources: Resources,
    store: Store,
    logs: LogSource,
    explainer: Explainer,
    info: MasterInfo,
) -> ControlPlane:
    """Adds the service; the caller calls `close()` on the answer before it stops the server."""
    servicer = ControlPlane(resources, store, logs, explainer, info)
    control_pb2_grpc.add_ControlPlaneServicer_to_server(servicer, server)
    return servicer


def _required(value: str, field: str, hint: str) -> str:
    if not value:
        raise BadRequest(f"{field}: is required ({hint})")
    return value


def _revision(text: str) -> int:
    """0 where the watch begins with what there is."""
    if not text:
        return 0
    if not text.isascii() or not text.isdigit():
        raise BadRequest(f"resource_version: must be one that a list, watch or object gave, got {text!r}")
    return int(text)


@contextlib.contextmanager
def _disk(verb: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(f"the master can't {verb} the backup on its disk: {error.strerror or error}") from error


def _open(path: Path, mode: str) -> IO[bytes]:
    return path.open(mode)
