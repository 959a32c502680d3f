"""Sampan beside Docker Swarm on Docker hosts of the same kind: create 20 replicas, replace a killed container.

Also one pod against `docker run`, and the memory of master, agent and proxy at idle. Both clusters are up all the
time, each on three hosts of its own, and take turns (docs/benches.md). The first round of either is a warm-up, in which
the engines pull the image. Each side's command-line tool counts as its users have it; what looks at the result asks the
master or the engines without a process of its own, on both sides. Run it as `make bench`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import psutil

from bench import needs, report
from bench.calm import Calm
from bench.engine import running
from bench.registry import ENGINE_OPTIONS, registry
from bench.rounds import REACH, Times, calm_of, calm_pairs, in_turns, options, worked
from bench.slices import Chosen
from bench.swarm import Swarm, settle
from protos.control_pb2 import ListRequest
from protos.control_pb2_grpc import ControlPlaneStub
from tests.harness import BUSYBOX, Cluster, Hosts, eventually

REPLICAS = 20
CREATE, REPLACE, ONE = "create 20 replicas", "replace a killed container", "start one pod"
BUDGETS = {CREATE: 1.0, REPLACE: 1.0}
MEMORY = {"master": 90.0, "agent + proxy": 70.0}
OURS = {"label": ["sampan.dev/kind=container"]}
IDLE_SECONDS = 5.0


def _pod_spec(image: str) -> dict[str, Any]:
    container = {"name": "c", "image": image, "command": ["sleep", "3600"]}
    return {"terminationGracePeriodSeconds": 2, "containers": [container]}


def _controller(image: str) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "load"}}, "spec": _pod_spec(image)}
    return {
        "apiVersion": "v1",
        "kind": "ReplicationController",
        "metadata": {"name": "load"},
        "spec": {"replicas": REPLICAS, "selector": {"app": "load"}, "template": template},
    }


class Ours:
    """Rounds of Sampan."""

    def __init__(self, cluster: Cluster, image: str, calm: Calm) -> None:
        self.times: Times = {CREATE: [], REPLACE: [], ONE: []}
        self._cluster, self._image, self._calm = cluster, image, calm
        self._hosts = list(cluster.hosts)

    async def round(self) -> None:
        with self._calm.timed(self.times[CREATE]):
            await self._cluster.apply(json.dumps(_controller(self._image)))
            await self._running(REPLICAS)
        await settle()
        before = await running(self._hosts, OURS)
        victim = next(one for one, host in before.items() if host is self._hosts[1])
        with self._calm.timed(self.times[REPLACE]):
            await self._hosts[1].docker("kill", "-s", "KILL", victim)

            async def again() -> bool:
                now = await running(self._hosts, OURS)
                return victim not in now and len(now) == REPLICAS

            await eventually(again, within=60, what="the container runs again", every=0.02)
        await self._cluster.sampan("delete", "rc", "load", timeout=90)
        await eventually(self._none, within=60, what="pods are gone")
        await settle()
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": _pod_spec(self._image)}
        with self._calm.timed(self.times[ONE]):
            await self._cluster.apply(json.dumps(pod))
            await eventually(lambda: running(self._hosts, OURS), within=30, what="it runs", every=0.01)
        await self._cluster.sampan("delete", "pod", "one", "--now")
        await eventually(self._none, within=60, what="the pod is gone")
        await settle()

    async def _running(self, count: int) -> None:
        async with self._cluster.channel() as channel:
            stub = ControlPlaneStub(channel)

            async def look() -> bool:
                found = await stub.List(ListRequest(kind="pods", namespace="default", label_selector="app=load"))
                live = [i.pod for i in found.items if not i.pod.metadata.HasField("deletionTimestamp")]
                return sum(pod.status.phase == "Running" for pod in live) == count == len(live)

            await eventually(look, within=120, what=f"{count} pods run", every=0.05)

    async def _none(self) -> bool:
        return not await running(self._hosts, OURS)


class Theirs:
    """Rounds of Docker Swarm, and of plain `docker run`."""

    def __init__(self, swarm: Swarm, image: str, calm: Calm) -> None:
        self.times: Times = {CREATE: [], REPLACE: [], ONE: []}
        self._swarm, self._image, self._calm = swarm, image, calm

    async def round(self) -> None:
        host = self._swarm.hosts[1]
        with self._calm.timed(self.times[CREATE]):
            await self._swarm.create("load", self._image, REPLICAS, "sleep", "3600")
        await settle()
        victim = next(one for one, at in (await running([host], {"name": ["load"]})).items() if at is host)
        with self._calm.timed(self.times[REPLACE]):
            await self._swarm.kill_one(host, victim, "load", REPLICAS)
        await self._swarm.remove("load")
        await settle()
        with self._calm.timed(self.times[ONE]):
            await host.docker("run", "-d", "--name", "one", self._image, "sleep", "3600")
        await host.docker("rm", "-f", "one")
        await settle()


def _memory(cluster: Cluster) -> dict[str, float]:
    """MB of each part at idle; agents, proxies (with their workers) and supervisors as means over the nodes.

    Proportional set size: a page that processes share counts once, in parts.
    """

    def resident(pids: list[int]) -> float:
        return sum(float(psutil.Process(pid).memory_full_info().pss) for pid in pids) / 1e6

    nodes = len(cluster.nodes)
    agent = sum(resident(node.pids("agent")) for node in cluster.nodes) / nodes
    proxy = sum(resident(node.pids("proxy")) for node in cluster.nodes) / nodes
    return {
        "master": resident([cluster.master.process.pid or 0]),
        "agent": agent,
        "proxy": proxy,
        "agent + proxy": agent + proxy,
        "supervisor": sum(resident([node.supervisor.pid or 0]) for node in cluster.nodes) / nodes,
    }


async def measure(rounds: int, calm: Calm) -> tuple[Times, Times, dict[str, float]]:
    """Slices of ours and of the peer's; idle memory in MB."""
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(Cluster(hosts=3, engine_options=ENGINE_OPTIONS))
        await asyncio.sleep(IDLE_SECONDS)
        memory = _memory(cluster)
        hosts = await stack.enter_async_context(Hosts(3, engine_options=ENGINE_OPTIONS))
        ours = Ours(cluster, await stack.enter_async_context(registry(cluster.hosts, BUSYBOX)), calm)
        swarm = Swarm(hosts)
        stack.push_async_callback(swarm.leave)
        await swarm.form()
        theirs = Theirs(swarm, await stack.enter_async_context(registry(hosts, BUSYBOX)), calm)
        await _warm_up(ours.round, theirs.round)
        for side in (ours, theirs):
            for slices in side.times.values():
                slices.clear()
        calm.kept.clear()
        try:
            await in_turns(
                calm, (ours.round, theirs.round), rounds, lambda: calm_pairs(_judged(ours.times), theirs.times)
            )
        except AssertionError as error:
            # What was measured was measured, also when an engine does not do what it should.
            report.console.print(f"ended early: {error}")
        return ours.times, theirs.times, memory


async def _warm_up(*sides: Callable[[], Awaitable[None]]) -> None:
    begun = time.monotonic()
    for side in sides:
        await side()
    report.console.print(
        f"warm-up of both, in which the image is pulled, not counted: {time.monotonic() - begun:.0f} s"
    )


def _judged(times: Times) -> Times:
    return {name: times[name] for name in BUDGETS}


def verdicts(ratios: dict[str, Chosen], memory: dict[str, float]) -> list[str]:
    """A line for each budget of the design."""
    lines = [
        report.verdict(f"{name}, to Docker Swarm", ratios[name], budget, most=True)
        for name, budget in BUDGETS.items()
        if name in ratios
    ]
    for name, budget in MEMORY.items():
        word = "holds" if memory[name] <= budget else "MISSED"
        lines.append(f"{word}: {name} at idle <= {budget:.0f} MB: {memory[name]:.1f} MB")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.cluster", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each thing is done (default 5)")
    parser.add_argument("--quick", action="store_true", help="one round")
    options(parser)
    parsed = parser.parse_args()
    calm = calm_of(parsed)
    if parsed.quick:
        parsed.rounds, calm.patience.left = 1, 0.0
    needs.install(needs.CLUSTERS)
    ours, theirs, memory = asyncio.run(measure(parsed.rounds, calm))
    report.heading("Two times three Docker hosts (network namespaces, one dockerd each)", report.docker_version())
    ratios = report.pairs("seconds", ours, "Docker Swarm (one pod: docker run)", theirs, REACH)
    report.pairs("processor seconds of the whole machine meanwhile", worked(ours), "the same", worked(theirs), REACH)
    report.compare("MB at idle (proportional set size)", {name: [value] for name, value in memory.items()}, "-", {})
    for line in (*verdicts(ratios, memory), *calm.report()):
        report.console.print(line)


if __name__ == "__main__":
    main()
