"""The simulated side of `bench.ready`: one process with many agents, and the master with an ear at its sessions."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import structlog

from common import logs
from common.frames import FrameReader
from common.wireframes import decode
from master.dispatcher.sessions import Session
from node_agent.agent import NodeAgent
from node_agent.assignments import ROUTES, FrameState, Items
from node_agent.config import AgentConfig
from node_agent.machine import capacity, registration
from node_agent.reporter import Reporter
from node_agent.session import MasterLink
from node_agent.simulate import LastingRuntime, SimulatedNetwork
from node_agent.storage import MemoryStorage
from node_agent.streams.line import Line
from protos import agent_pb2, core_pb2

JOIN_SECONDS = 0.004
# Of each process; pods are for them, by this label.
WHOLE = 5
LABEL = "bench.sampan.io/whole"
# The service's key in the table.
WEB = "service/default/web"
TAP, NODES = "SAMPAN_BENCH_TAP", "SAMPAN_BENCH_NODES"


def say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


class Tables:
    """Counts this process's agents that have the table with a pod of `web` in it, and tells when the last has."""

    def __init__(self, agents: int) -> None:
        self._agents = agents
        self._counts: Counter[str] = Counter()
        self._first: dict[str, float] = {}

    def one(self, known: int, endpoints: int, revision: int) -> int:
        """An agent that has counted `known` pods counts `endpoints` now; what it is to know."""
        if endpoints != known:
            now, pod = time.time(), str(endpoints)
            self._first.setdefault(pod, now)
            self._counts[pod] += 1
            if self._counts[pod] == self._agents:
                say({"tabled": pod, "first": self._first[pod], "at": now, "revision": revision})
        return endpoints


def endpoints(items: Items) -> int:
    """How many pods `web` has in a table."""
    item = items.get(WEB)
    return sum(len(port.endpoints) for port in item.service.ports) if item is not None else 0


class Follower:
    """A node without a machine: a real session with all its streams, the real reader of frames, and no pods.

    That is what a thousand machines would do with a change until their proxies have it; what else an agent does
    (measuring, relisting, files) they do each for itself, and here it would be a thousand times on the master's cores.
    """

    def __init__(self, config: AgentConfig, tables: Tables) -> None:
        self._config, self._tables = config, tables
        self._frames: dict[str, FrameReader[agent_pb2.Item]] = {"assignments": FrameReader(), "routes": FrameReader()}
        self._known = 0
        self.reporter = Reporter()
        self.link = MasterLink(config.master, self)
        ready = core_pb2.NodeCondition(type="Ready", status="True", reason="AgentReady")
        self.reporter.node(agent_pb2.NodeStatusReport(conditions=[ready]))

    async def hello(self) -> agent_pb2.RegisterRequest:
        name, has = self._config.name, capacity(4, 8 << 30)
        machine = agent_pb2.MachineFacts(
            boot_id="1", machine_id=name, address="192.0.2.1", hostname=name, capacity=has, allocatable=has
        )
        return registration(self._config, machine, token=self._config.token, credential="")

    async def registered(self, answer: agent_pb2.RegisterResponse) -> None:
        return None

    def reopen(self, stream: str) -> None:
        self._frames[stream].reopen()

    def frame(self, stream: str, frame: agent_pb2.Frame) -> None:
        reader = self._frames[stream]
        applied = reader.apply(decode(frame))
        if stream != "routes" or applied is None:
            return
        if applied.whole or WEB in applied.upserts:
            self.link.routes_news()
            self._known = self._tables.one(self._known, endpoints(reader.items), reader.revision)

    def statuses(self) -> list[agent_pb2.PodReport]:
        return []

    def acknowledge(self, report: agent_pb2.NodeReport) -> None:
        applied = self.routes_applied()
        report.routes_epoch, report.routes_revision = applied.epoch, applied.revision

    def routes_applied(self) -> agent_pb2.RoutesRequest:
        reader = self._frames["routes"]
        return agent_pb2.RoutesRequest(epoch=reader.epoch, revision=reader.revision)

    async def logs(self, command: agent_pb2.LogsCommand) -> AsyncIterator[bytes]:
        yield b""

    async def query(self, command: agent_pb2.QueryCommand) -> AsyncIterator[bytes]:
        yield b""

    async def converse(self, command: agent_pb2.Command, line: Line) -> int | None:
        return None


class Watching(NodeAgent):
    """A whole agent, with pods on a simulated engine, that notes a table with a new endpoint of `web` in it.

    It does not write the table to a disk: machines do that each for itself and a second later.
    """

    def __init__(self, config: AgentConfig, engine: LastingRuntime, tables: Tables) -> None:
        async def token(known: bool) -> str:
            return config.token

        super().__init__(
            config,
            runtimes=lambda cluster: engine,
            networks=lambda runtime, network: SimulatedNetwork(network),
            storage=MemoryStorage(),
            token=token,
            with_proxy=False,
        )
        self._routes = FrameState(ROUTES, self._keeper, lazily=False)
        self._tables = tables
        self._known = 0

    def frame(self, stream: str, frame: agent_pb2.Frame) -> None:
        super().frame(stream, frame)
        if stream == "routes":
            self._known = self._tables.one(self._known, endpoints(self._routes.items), self._routes.revision)


class Engine(LastingRuntime):
    """Tells when a pod's container has started: without a readiness probe that is when the pod is ready."""

    async def start(self, id: str) -> None:
        await super().start(id)
        seen = self._box(id).seen
        if seen.name:
            say({"ready": seen.identity.pod, "at": seen.started_at})


async def _agents(master: str, token: str, first: int, count: int) -> None:
    """Runs agents until the process is killed."""
    tables = Tables(count)
    async with asyncio.TaskGroup() as group:
        for number in range(first, first + count):
            name, whole = f"n{number}", number < first + WHOLE
            config = AgentConfig(
                name,
                master,
                Path("/nowhere"),
                token=token,
                runtime="simulated",
                node_ip="192.0.2.1",
                labels=((LABEL, "yes"),) if whole else (),
            )
            if whole:
                engine = Engine(node=name, images=("app:1",))
                group.create_task(Watching(config, engine, tables).run(), name=name)
            else:
                group.create_task(Follower(config, tables).link.run(), name=name)
            await asyncio.sleep(JOIN_SECONDS)


def run_agents(master: str, token: str, share: str) -> None:
    """`share` is FIRST:COUNT."""
    logs.configure(role="agent", level="error")
    structlog.contextvars.clear_contextvars()
    # A collection in a process that holds hundreds of agents takes as long as hundreds of machines' would.
    gc.disable()
    first, count = (int(part) for part in share.split(":"))
    asyncio.run(_agents(master, token, first, count))


class Ear:
    """Hears in the master when each session acknowledges; writes a line when all have a revision, with the time."""

    # A session that moves by more revisions than that is only joining.
    BACK = 50

    def __init__(self, tap: Path, nodes: int) -> None:
        self._file = os.open(tap, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._nodes = nodes
        self._counts: defaultdict[int, int] = defaultdict(int)

    def heard(self, before: int, now: int) -> None:
        for revision in range(max(before, now - self.BACK) + 1, now + 1):
            count = self._counts[revision] = self._counts[revision] + 1
            if count == self._nodes:
                os.write(self._file, (json.dumps({"acked": revision, "at": time.time()}) + "\n").encode())


def run_master() -> None:
    """The master as `python -m master` runs it; its flags are those of this process."""
    ear = Ear(Path(os.environ[TAP]), int(os.environ[NODES]))
    applied = Session.applied

    def listening(self: Session, epoch: str, revision: int, draining: Any, *, repeated: bool = False) -> bool:
        _, before = self.routes_acked
        news = applied(self, epoch, revision, draining, repeated=repeated)
        if news:
            ear.heard(before, self.routes_acked[1])
        return news

    Session.applied = listening  # type: ignore[method-assign]
    from master.__main__ import main

    main()


if __name__ == "__main__":
    run_master()
