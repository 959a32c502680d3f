"""A master's parts and simulated agents over real gRPC on loopback, and a line between them that can break."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.tasks import Tasks
from node_agent.agent import NodeAgent
from node_agent.config import AgentConfig
from node_agent.runtime.simulated import Script
from node_agent.simulate import LastingRuntime, simulated_agent
from node_agent.storage import MemoryStorage
from tests.master.dispatcher.conftest import MasterParts, eventually, running_master

__all__ = ["Cluster", "Line", "MasterParts", "SimulatedNode", "eventually"]


class Line:
    """A TCP relay in front of the master: `cut()` resets every connection, `silence()` swallows bytes."""

    def __init__(self) -> None:
        self.target = 0
        self.port = 0
        self._tasks = Tasks("line")
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await self._tasks.close()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def silence(self) -> None:
        self._flowing.clear()

    def flow(self) -> None:
        self._flowing.set()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        self._tasks.start("up", self._pump(reader, far_writer))
        self._tasks.start("down", self._pump(far_reader, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


class SimulatedNode:
    """One node: an engine and a disk that stay, and an agent that comes and goes."""

    def __init__(self, config: AgentConfig, tasks: Tasks) -> None:
        self.config = config
        self.script = Script()
        self.engine = LastingRuntime(node=config.name, script=self.script)
        self.disk = MemoryStorage()
        self._tasks = tasks
        self._task: asyncio.Task[Any] | None = None
        self.agent: NodeAgent | None = None

    def start(self, make: Callable[..., NodeAgent] = simulated_agent) -> NodeAgent:
        self.agent = make(self.config, self.engine, self.disk)
        self._task = self._tasks.start(self.config.name, self.agent.run())
        return self.agent

    async def kill(self) -> None:
        """Ends the agent; containers and disk stay as they are."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])

    async def outcome(self) -> None:
        """Waits for the agent's own end and raises what ended it."""
        assert self._task is not None
        await self._task

    async def containers(self) -> dict[str, str]:
        """Ids of running containers by "pod/container"."""
        seen = await self.engine.containers()
        return {f"{one.identity.pod}/{one.name}": one.id for one in seen if one.name and one.state.value == "running"}

    async def runs(self, *containers: str) -> bool:
        """Whether exactly these run."""
        return sorted(await self.containers()) == sorted(containers)


class Cluster:
    """Use as `async with Cluster(path) as cluster`; with `routes_port` the agents' routing tables pass by the line."""

    def __init__(self, folder: Path, *, routes_port: bool = False) -> None:
        self._folder, self._routes_port = folder, routes_port
        self._stack = contextlib.AsyncExitStack()
        self._tasks = Tasks("cluster")
        self._nodes: dict[str, SimulatedNode] = {}
        self._master_stack = contextlib.AsyncExitStack()
        self.line = Line()
        self._master: MasterParts | None = None
        self.token = ""

    @property
    def master(self) -> MasterParts:
        assert self._master is not None, "the master is down"
        return self._master

    async def __aenter__(self) -> Cluster:
        await self.line.start()
        await self.start_master()
        self.token = self.master.token
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._tasks.close()
        await self.stop_master()
        await self.line.close()

    async def start_master(self) -> None:
        self._master = await self._master_stack.enter_async_context(
            running_master(self._folder / "store", routes_port=self._routes_port)
        )
        self.line.target = int(self._master.target.rpartition(":")[2])

    async def stop_master(self) -> None:
        if self._master is not None:
            self._master = None
            await self._master_stack.aclose()
            self._master_stack = contextlib.AsyncExitStack()

    def node(self, name: str) -> SimulatedNode:
        if name not in self._nodes:
            config = AgentConfig(
                name=name,
                master=f"127.0.0.1:{self.line.port}",
                data=self._folder / name,
                token=self.token,
                runtime="simulated",
                node_ip=f"192.0.2.{len(self._nodes) + 1}",
            )
            self._nodes[name] = SimulatedNode(config, self._tasks)
        return self._nodes[name]

    def with_token(self, name: str, token: str) -> SimulatedNode:
        node = self.node(name)
        node.config = dataclasses.replace(node.config, token=token)
        return node

    def phase(self, pod: str) -> str:
        found = self.master.store.get("Pod", "default", pod)
        return found.status.phase if found is not None else "gone"

    def ready(self, node: str) -> str:
        found = self.master.store.get("Node", "", node)
        if found is None:
            return "missing"
        return next((c.status for c in found.status.conditions if c.type == "Ready"), "none")

    async def until_ready(self, *nodes: str) -> None:
        await eventually(lambda: all(self.ready(node) == "True" for node in nodes), 60)

    async def until_phase(self, phase: str, *pods: str) -> None:
        await eventually(lambda: all(self.phase(pod) == phase for pod in pods), 60)
