"""A real store, a real resource layer and a real server on a loopback socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio
import pytest

from common.errors import SampanError
from common.rpc import SERVER_OPTIONS, open_channel
from master.api.access import Access
from master.api.control_plane import ControlPlane, MasterInfo, add_control_plane
from master.api.interceptors import ErrorInterceptor
from master.api.resources import Resources
from master.dispatcher.nodes import NodeTable
from master.scheduler.shell import Scheduler
from master.store.sqlite import SQLite
from master.store.store import Store
from protos import agent_pb2, control_pb2_grpc

ADMIN = "the-admin-token"


class Clock:
    """Seconds since the epoch that pass only when told."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class RecordedLogs:
    """A LogSource whose chunks the test sets; `endless` keeps a followed log open until it is closed."""

    chunks: list[bytes] = field(default_factory=list)
    endless: bool = False
    asked: list[tuple[str, agent_pb2.LogsCommand]] = field(default_factory=list)
    closed: int = 0
    answers: dict[tuple[str, str], bytes] = field(default_factory=dict)
    stream: RecordedStream = field(default_factory=lambda: RecordedStream())

    async def query(self, node: str, what: str) -> bytes:
        return self.answers[node, what]

    @contextlib.asynccontextmanager
    async def open(self, node: str, command: agent_pb2.Command, otherwise: str) -> AsyncIterator[RecordedStream]:
        stream = self.stream
        stream.opened.append((node, command))
        try:
            yield stream
        finally:
            stream.closed.set()

    async def logs(self, node: str, command: agent_pb2.LogsCommand) -> AsyncIterator[bytes]:
        self.asked.append((node, command))
        try:
            for chunk in self.chunks:
                yield chunk
            if self.endless:
                await asyncio.Event().wait()
        finally:
            self.closed += 1


@dataclass
class RecordedStream:
    """A node's stream in the test's hands: it puts what the node says, and finds what it was sent."""

    opened: list[tuple[str, agent_pb2.Command]] = field(default_factory=list)
    said: asyncio.Queue[agent_pb2.StreamChunk | SampanError] = field(default_factory=asyncio.Queue)
    sent: asyncio.Queue[agent_pb2.StreamChunk] = field(default_factory=lambda: asyncio.Queue(4))
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self) -> agent_pb2.StreamChunk:
        word = await self.said.get()
        if isinstance(word, SampanError):
            raise word
        return word

    async def send(self, chunk: agent_pb2.StreamChunk) -> None:
        await self.sent.put(chunk)

    def fail(self, error: SampanError) -> None:
        self.said.put_nowait(error)


@dataclass
class Served:
    """A running server and a client of it."""

    resources: Resources
    store: Store
    logs: RecordedLogs
    servicer: ControlPlane
    server: grpc.aio.Server
    port: int
    stub: control_pb2_grpc.ControlPlaneAsyncStub


@contextlib.asynccontextmanager
async def running(path: Path) -> AsyncIterator[Store]:
    store = Store(SQLite(path))
    ready = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        writer = group.create_task(store.run(ready), name="store")
        await ready.wait()
        try:
            yield store
        finally:
            writer.cancel()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def resources(tmp_path: Path, clock: Clock) -> AsyncIterator[Resources]:
    async with running(tmp_path) as store:
        made = Resources(store, service_cidr="10.96.0.0/16", clock=clock)
        await made.ensure_builtin()
        yield made


@pytest.fixture
async def served(resources: Resources) -> AsyncIterator[Served]:
    server = grpc.aio.server(interceptors=[ErrorInterceptor(), Access(ADMIN)], options=SERVER_OPTIONS)
    logs = RecordedLogs()
    info = MasterInfo(cluster="test", addresses=("10.0.0.1:7443",))
    scheduler = Scheduler(resources.store, resources, NodeTable())
    servicer = add_control_plane(server, resources, resources.store, logs, scheduler, info)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with open_channel(f"127.0.0.1:{port}") as channel:
        stub = control_pb2_grpc.ControlPlaneStub(channel)
        yield Served(resources, resources.store, logs, servicer, server, port, stub)
        servicer.close()
        await server.stop(5)
