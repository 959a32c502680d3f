"""How long a pod that has become ready takes to be in every node's routing table, with 1,000 simulated agents.

    python -m bench.ready [--nodes 1000] [--rounds 100] [--quick]

A real master process on loopback, and agents with real sessions in two processes; a few of them run pods, the others
only follow the table. One pod at a time becomes ready
behind a service; the clock runs from the simulated engine's start of its container to the moment the last agent has
the table with it, and to the moment the master has heard the last agent's acknowledgement. Master and all agents
share this machine's cores; a thousand machines would not. Only pods in calm stretches count (docs/benches.md).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import signal
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from bench import report
from bench.calm import Calm
from bench.ready_agents import LABEL, NODES, TAP, WHOLE, run_agents
from common.rpc import open_channel
from node_agent.session import first_failure
from protos import control_pb2, core_pb2
from protos.control_pb2_grpc import ControlPlaneStub
from tests.integration.master_process import MasterProcess

PROCESSES = 2
TARGET_SECONDS = 0.1
# On a busy machine.
JOINED_SECONDS = 600.0
# Services that only make the table as large as a real one.
OTHERS = 50
# Pods before those that count.
WARM = 5
# How long the cluster is watched while no pod comes: what heartbeats alone cost.
IDLE_SECONDS = 5.0
# So many times as many pods at most, for enough of them in calm stretches; fewer calm ones make no percentiles.
MOST, FEWEST = 3, 30


class Children:
    """The agents' processes, and what they and the master have said."""

    def __init__(self, tap: Path) -> None:
        self.ready: dict[str, float] = {}
        # By the number of the service's endpoints: first and last table, and the table's revision.
        self.tabled: dict[str, list[tuple[float, float, int]]] = {}
        self.acked: dict[int, float] = {}
        self._tap, self._read_to = tap, 0
        self.news = asyncio.Event()
        self._processes: list[asyncio.subprocess.Process] = []

    async def start(self, group: asyncio.TaskGroup, master: str, token: str, nodes: int) -> None:
        share = nodes // PROCESSES
        for number in range(PROCESSES):
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "bench.ready",
                "--agents",
                f"{number * share}:{share}",
                "--master",
                master,
                "--token",
                token,
                stdout=asyncio.subprocess.PIPE,
            )
            self._processes.append(process)
            group.create_task(self._read(process), name=f"agents-{number}")

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes]

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for data in process.stdout:
            line = json.loads(data)
            if "ready" in line:
                self.ready[line["ready"]] = line["at"]
            else:
                found = (line["first"], line["at"], line["revision"])
                self.tabled.setdefault(line["tabled"], []).append(found)
            self.news.set()

    async def everywhere(self, pod: str, endpoints: int) -> tuple[float, float, float]:
        """Seconds from the pod's readiness to the first table, the last table and the last acknowledgement."""
        tables = self.tabled.setdefault(str(endpoints), [])
        async with asyncio.timeout(60):
            while pod not in self.ready or len(tables) < PROCESSES:
                self.news.clear()
                await self.news.wait()
            revision = max(at for _, _, at in tables)
            while not (acked := self._acked(revision)):  # noqa: ASYNC110 - the other end is a file
                await asyncio.sleep(0.02)
        start = self.ready[pod]
        return min(first for first, _, _ in tables) - start, max(last for _, last, _ in tables) - start, acked - start

    def _acked(self, revision: int) -> float:
        if self._tap.exists():
            with self._tap.open() as file:
                file.seek(self._read_to)
                while line := file.readline():
                    heard = json.loads(line)
                    self.acked[heard["acked"]] = heard["at"]
                self._read_to = file.tell()
        return self.acked.get(revision, 0.0)

    async def stop(self) -> None:
        for process in self._processes:
            if process.returncode is None:
                process.kill()
            await process.wait()


def service(name: str) -> core_pb2.Service:
    made = core_pb2.Service(metadata=core_pb2.ObjectMeta(name=name, namespace="default"))
    made.spec.selector["app"] = name
    made.spec.ports.add(name="http", port=80)
    return made


def pod(name: str) -> core_pb2.Pod:
    made = core_pb2.Pod(metadata=core_pb2.ObjectMeta(name=name, namespace="default", labels={"app": "web"}))
    made.spec.nodeSelector[LABEL] = "yes"
    made.spec.containers.add(name="app", image="app:1", imagePullPolicy="Never")
    return made


@dataclass(frozen=True)
class Event:
    """Seconds as of `Children.everywhere` for one pod, and when that was."""

    seconds: tuple[float, float, float]
    begin: float
    end: float


async def measure(nodes: int, rounds: int, pause: float, calm: Calm) -> list[Event]:
    """An event for each pod: `rounds`, and more (MOST times as many) while fewer than that fell into calm stretches."""
    found: list[Event] = []
    with tempfile.TemporaryDirectory() as folder:
        token, tap = Path(folder) / "token", Path(folder) / "tap"
        flags = ["--cluster-cidr", "10.0.0.0/12", "--service-cidr", "10.96.0.0/16", "--log-level", "warning"]
        flags += ["--bootstrap-token-file", str(token)]
        environ = {TAP: str(tap), NODES: str(nodes)}
        async with MasterProcess(Path(folder) / "data", flags, module="bench.ready_agents", environ=environ) as master:
            children = Children(tap)
            async with asyncio.TaskGroup() as group, open_channel(master.address) as channel:
                stub: Any = ControlPlaneStub(channel)
                try:
                    began = time.monotonic()
                    await children.start(group, master.address, token.read_text().strip(), nodes)
                    for name in ("web", *(f"other-{number}" for number in range(OTHERS))):
                        await stub.Create(control_pb2.CreateRequest(object=control_pb2.Object(service=service(name))))
                    await _all_ready(stub, nodes)
                    report.console.print(
                        f"{nodes} agents are ready after {time.monotonic() - began:.0f} s; "
                        f"master {master.pid}, agents {children.pids}"
                    )
                    pids = [master.pid, *children.pids]
                    calm.own = lambda: sum(map(cpu_seconds, (os.getpid(), *pids))) * os.sysconf("SC_CLK_TCK")
                    idle = await _idle(pids)
                    before, since = [0.0] * len(pids), 0.0
                    number = 0
                    while len(found) < rounds or _wanting(found, rounds, calm):
                        if number == WARM:
                            before, since = [cpu_seconds(pid) for pid in pids], time.monotonic()
                        name, begin = f"p{number}", time.monotonic()
                        calm.note()
                        await stub.Create(control_pb2.CreateRequest(object=control_pb2.Object(pod=pod(name))))
                        try:
                            seconds = await children.everywhere(name, number + 1)
                        except TimeoutError as error:
                            raise RuntimeError(await _story(stub, children, name)) from error
                        if number >= WARM:
                            found.append(Event(seconds, begin, time.monotonic()))
                        number += 1
                        calm.note()
                        await asyncio.sleep(pause)
                    calm.note()
                    took = time.monotonic() - since
                    spent = [
                        (cpu_seconds(pid) - was - rate * took) / len(found) * 1000
                        for pid, was, rate in zip(pids, before, idle, strict=True)
                    ]
                    report.console.print(
                        f"processor time a pod: master {spent[0]:.0f} ms, agents {sum(spent[1:]):.0f} ms, "
                        f"{1000 * sum(spent) / nodes:.0f} us a node; beside it a second of heartbeats: master "
                        f"{idle[0] * 1000:.0f} ms, agents {sum(idle[1:]) * 1000:.0f} ms; load {os.getloadavg()[0]:.1f}"
                    )
                finally:
                    await children.stop()
    return found


async def _idle(pids: list[int]) -> list[float]:
    """Processor time a second of each process while no pod comes."""
    before, since = [cpu_seconds(pid) for pid in pids], time.monotonic()
    await asyncio.sleep(IDLE_SECONDS)
    took = time.monotonic() - since
    return [(cpu_seconds(pid) - was) / took for pid, was in zip(pids, before, strict=True)]


def _wanting(found: list[Event], rounds: int, calm: Calm) -> bool:
    return len(found) < MOST * rounds and len(in_calm(found, calm)) < rounds


def in_calm(found: list[Event], calm: Calm) -> list[Event]:
    """Those that fell into calm stretches."""
    return [event for event in found if calm.level(event.begin, event.end) <= 1]


async def _story(stub: Any, children: Children, name: str) -> str:
    """What is known of a pod that did not come everywhere."""
    answer = await stub.Get(control_pb2.GetRequest(kind="Pod", namespace="default", name=name))
    found = answer.object.pod
    conditions = {condition.type: condition.status for condition in found.status.conditions}
    steps = f"started {name in children.ready}, tables {list(children.tabled.items())[-1:]}"
    node = (await stub.Get(control_pb2.GetRequest(kind="Node", name=found.spec.nodeName))).object.node
    serves = {condition.type: f"{condition.status} {condition.reason}" for condition in node.status.conditions}
    ends = await stub.Get(control_pb2.GetRequest(kind="Endpoints", namespace="default", name="web"))
    listed = [address.targetRef.name for subset in ends.object.endpoints.subsets for address in subset.addresses]
    return (
        f"{name} on {found.spec.nodeName} (Ready {serves.get('Ready')}): {found.status.phase} {conditions}; "
        f"{'in' if name in listed else 'not in'} the Endpoints; {steps}"
    )


async def _all_ready(stub: Any, nodes: int) -> None:
    ready, due = 0, time.monotonic() + JOINED_SECONDS
    while time.monotonic() < due:
        answer = await stub.List(control_pb2.ListRequest(kind="Node", limit=nodes + 1))
        ready = sum(
            any(c.type == "Ready" and c.status == "True" for c in item.node.status.conditions) for item in answer.items
        )
        if ready == nodes:
            return
        await asyncio.sleep(2)
    raise RuntimeError(f"{ready} of {nodes} agents are ready after {JOINED_SECONDS:.0f} s")


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far, in its own code and in the kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def percentile(values: list[float], share: float) -> float:
    """The nearest rank: at least `share` of the values are not above it."""
    return sorted(values)[max(0, math.ceil(len(values) * share) - 1)]


def _measured(nodes: int, rounds: int, pause: float, calm: Calm) -> list[Event]:
    """As `measure`; ends the program in one line when that fails or is broken off, with nothing left running."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    found: list[Event] = []
    said = ""
    try:
        found = asyncio.run(measure(nodes, rounds, pause, calm))
    except* KeyboardInterrupt:
        said = "broken off"
    except* (RuntimeError, OSError, grpc.RpcError) as failures:
        said = f"failed: {first_failure(failures)}"
    if said:
        sys.exit(f"bench.ready: {said}")
    return found


def main() -> int:
    """1 when the target was missed in calm; where the machine was never calm there is nothing to judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=1000, help="simulated agents (default 1000)")
    parser.add_argument("--rounds", type=int, default=100, help="pods, one after another (default 100)")
    parser.add_argument("--pause", type=float, default=0.2, help="seconds between two pods (default 0.2)")
    parser.add_argument("--quick", action="store_true", help="200 agents and 30 pods")
    parser.add_argument("--agents", help=argparse.SUPPRESS)
    parser.add_argument("--master", help=argparse.SUPPRESS)
    parser.add_argument("--token", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.agents:
        run_agents(options.master, options.token, options.agents)
        return 0
    nodes, rounds = (200, 30) if options.quick else (options.nodes, options.rounds)
    calm = Calm()
    all_ = _measured(nodes, rounds, options.pause, calm)
    report.heading(f"Pod ready -> in every routing table, {nodes} agents in {PROCESSES} processes")
    report.console.print(f"agents:   {PROCESSES * WHOLE} with pods on a simulated engine, the others sessions alone")
    counted = in_calm(all_, calm)
    report.console.print(
        f"calm is at most {calm.bar}; "
        f"{len(counted)} of {len(all_)} pods fell into calm stretches, the others are left out"
    )
    disturbed = len(counted) < min(FEWEST, rounds)
    if disturbed:
        # Too few for percentiles: the least disturbed ones, as many as were asked for.
        counted = sorted(all_, key=lambda event: calm.level(event.begin, event.end))[:rounds]
        report.console.print(f"NOT CALM: the {len(counted)} least disturbed ones count")
    p99 = 0.0
    names = ("first table", "last table", "last acknowledgement")
    for name, seconds in zip(names, zip(*(event.seconds for event in counted), strict=True), strict=True):
        p99 = percentile(list(seconds), 0.99)
        values = [value * 1000 for value in seconds]
        report.console.print(
            f"{name}: p50 {statistics.median(values):.1f} ms, p99 {p99 * 1000:.1f} ms, "
            f"least {min(values):.1f}, most {max(values):.1f} (n={len(values)})"
        )
    missed = p99 >= TARGET_SECONDS
    verdict = f"{'~ ' if disturbed else ''}{'missed' if missed else 'met'}"
    report.console.print(
        f"target: last acknowledgement within {TARGET_SECONDS * 1000:.0f} ms, p99: {p99 * 1000:.0f} ms, "
        f"[bold]{verdict}[/bold]" + (" (not calm: no verdict)" if disturbed else "")
    )
    return int(missed and not disturbed)


if __name__ == "__main__":
    sys.exit(main())
