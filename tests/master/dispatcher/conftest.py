"""A master's store, resource layer and dispatcher behind real gRPC on loopback, and an agent's hand to talk to them."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from common.frames import FrameReader
from common.rpc import SERVER_OPTIONS, open_channel
from common.wireframes import decode
from master.api.resources import Resources
from master.api.tokens import create_join_token, verify_join_token
from master.dispatcher.dispatcher import Dispatcher
from master.dispatcher.registration import ClusterFacts
from master.store.sqlite import SQLite
from master.store.store import Store
from protos import agent_pb2, agent_pb2_grpc, core_pb2


@dataclass
class MasterParts:
    store: Store
    resources: Resources
    dispatcher: Dispatcher
    target: str
    token: str

    def read(self, kind: str, namespace: str, name: str) -> Any:
        """The object, which must be there."""
        return self.resources.get(kind, namespace, name)

    async def pod(self, name: str, node: str, **spec: Any) -> core_pb2.Pod:
        """A stored pod that is bound to `node`."""
        pod = core_pb2.Pod(metadata=core_pb2.ObjectMeta(name=name, namespace="default"))
        pod.spec.CopyFrom(core_pb2.PodSpec(**{"containers": [core_pb2.Container(name="c", image="busybox")], **spec}))
        made = await self.resources.create(pod)
        assert await self.resources.bind("default", name, made.metadata.uid, node)
        bound: core_pb2.Pod = self.read("Pod", "default", name)
        return bound


@contextlib.asynccontextmanager
async def running_master(data: Path, port: int = 0, *, routes_port: bool = False) -> AsyncIterator[MasterParts]:
    store = Store(SQLite(data))
    ready = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        writer = group.create_task(store.run(ready))
        await ready.wait()
        resources = Resources(store)
        await resources.ensure_builtin()
        token = (await create_join_token(resources, time.time())).token

        async def verify(text: str) -> None:
            verify_join_token(resources, text, time.time())

        facts = ClusterFacts("test", "10.244.0.0/16", "10.96.0.0/16")
        dispatcher = Dispatcher(store, resources, facts, verify)
        following = group.create_task(dispatcher.run())
        server = grpc.aio.server(options=SERVER_OPTIONS)
        dispatcher.add_to(server)
        bound = server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        if routes_port:
            await dispatcher.fan_out.listen("127.0.0.1", 0)
        try:
            yield MasterParts(store, resources, dispatcher, f"127.0.0.1:{bound}", token)
        finally:
            dispatcher.close()
            await server.stop(1.0)
            following.cancel()
            writer.cancel()


@pytest.fixture
async def master(tmp_path: Path) -> AsyncIterator[MasterParts]:
    async with running_master(tmp_path / "store") as parts:
        yield parts


def request(name: str, token: str = "", credential: str = "", machine: str = "m1") -> agent_pb2.RegisterRequest:
    facts = agent_pb2.MachineFacts(
        machine_id=machine,
        boot_id="b1",
        address="192.0.2.7",
        hostname=name,
        architecture="amd64",
        capacity={"cpu": "4", "memory": "8Gi", "pods": "110"},
    )
    return agent_pb2.RegisterRequest(node_name=name, token=token, credential=credential, machine=facts)


class Hand:
    """What an agent would do, step by step."""

    def __init__(self, target: str) -> None:
        self.channel = open_channel(target)
        self.stub = agent_pb2_grpc.NodeServiceStub(self.channel)
        self.session = ""
        self._calls: list[Any] = []
        self._commands: Any = None
        self._sequence = 0
        self._report: Any = None

    async def register(self, name: str, **more: str) -> agent_pb2.RegisterResponse:
        answer = await self.stub.Register(request(name, **more), timeout=30)
        self.session = answer.session_id
        return answer

    def assignments(self) -> Follower:
        return self._follow(self.stub.Assignments)

    def routes(self, stub: Any = None) -> Follower:
        call = (stub or self.stub).Routes(iter([agent_pb2.RoutesRequest(session_id=self.session)]))
        self._calls.append(call)
        return Follower(call)

    async def command(self) -> agent_pb2.Command:
        """The next command. One stream for all of them, as an agent has: of two, either could get it."""
        if self._commands is None:
            self._commands = self.stub.Commands(agent_pb2.StreamRequest(session_id=self.session))
            self._calls.append(self._commands)
        async with asyncio.timeout(30):
            got = await self._commands.read()
        assert isinstance(got, agent_pb2.Command)
        return got

    def _follow(self, method: Any) -> Follower:
        call = method(agent_pb2.StreamRequest(session_id=self.session))
        self._calls.append(call)
        return Follower(call)

    async def report(self, **fields: Any) -> agent_pb2.ReportAck:
        if self._report is None:
            self._report = self.stub.Report()
            self._calls.append(self._report)
        self._sequence += 1
        await self._report.write(agent_pb2.NodeReport(session_id=self.session, sequence=self._sequence, **fields))
        async with asyncio.timeout(30):
            ack = await self._report.read()
        assert isinstance(ack, agent_pb2.ReportAck)
        return ack

    async def close(self) -> None:
        for call in self._calls:
            call.cancel()
        await self.channel.close()


class Follower:
    """A reader on a stream of frames."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.reader: FrameReader[agent_pb2.Item] = FrameReader()
        self.frames = 0

    async def step(self) -> None:
        try:
            async with asyncio.timeout(30):
                frame = await self.call.read()
        except grpc.aio.AioRpcError as error:
            raise EOFError(f"{error.code()}: {error.details()}") from error
        if frame is grpc.aio.EOF:
            raise EOFError("the stream ended well")
        self.frames += 1
        self.reader.apply(decode(frame))

    async def until(self, true: Callable[[dict[str, agent_pb2.Item]], bool]) -> dict[str, agent_pb2.Item]:
        while not (self.frames and true(dict(self.reader.items))):
            await self.step()
        return dict(self.reader.items)


@pytest.fixture
async def hand(master: MasterParts) -> AsyncIterator[Hand]:
    one = Hand(master.target)
    yield one
    await one.close()


async def eventually(true: Callable[[], object], seconds: float = 30.0) -> None:
    """Polls until `true()` (or what it awaits) holds; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        result = true()
        if inspect.isawaitable(result):
            result = await result
        if result:
            return
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.01)
