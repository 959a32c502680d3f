"""A Docker host that loses its power, Sampan beside Docker Swarm: traffic away, node marked, all pods replaced.

Three hosts, six replicas, defaults on both sides, in turns. The clock starts when the host's cable goes dead; its
processes are killed right after, none says goodbye. *Traffic away* is when the last request began that failed, of
those that ask the node ports of the hosts that are left, half of them on new connections. Nobody asks Swarm's
containers: its routing mesh needs IPVS, which not every kernel has; before it marks the node its traffic cannot leave.
*Replaced* is when all replicas run on the hosts that are left; Ready is later by the probe's answer.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

from bench import needs, report
from bench.registry import ENGINE_OPTIONS, registry
from bench.swarm import Swarm, settle
from protos.control_pb2 import ListRequest
from protos.control_pb2_grpc import ControlPlaneStub
from tests.e2e.load import SERVER, TIMEOUT_SECONDS, manifest, steady
from tests.e2e.pythons import python_image
from tests.e2e.support import ready_pods
from tests.harness import BUSYBOX, Cluster, Host, Hosts, Node, eventually

if TYPE_CHECKING:
    from protos.control_pb2_grpc import ControlPlaneAsyncStub

REPLICAS = 6
RATE = 200.0
SELECTOR = "app=steady"
WAIT_SECONDS = 120.0
EVERY = 0.05
AWAY, MARKED, REPLACED, SERVING = "traffic away", "node marked", "all replaced", "all Ready"
BUDGETS = {AWAY: 4.0, REPLACED: 15.0}
Times = dict[str, list[float]]
Look = Callable[[], Awaitable[bool]]


async def since(start: float, look: Look, what: str) -> float:
    """Seconds from `start` until `look` says yes."""
    await eventually(look, within=WAIT_SECONDS, what=what, every=EVERY)
    return time.monotonic() - start


class Sampan:
    """A cluster whose hosts die in turn, and what was seen and what failed meanwhile."""

    def __init__(self, cluster: Cluster, image: str) -> None:
        self.cluster, self._image = cluster, image
        self.times: Times = {AWAY: [], MARKED: [], REPLACED: [], SERVING: []}
        self.asked = 0
        self.failed: Counter[str] = Counter()

    async def round(self, victim: Node) -> None:
        """One host dies, and comes back."""
        await self.cluster.apply(manifest(self._image, REPLICAS, drain_seconds=0))
        pods = await ready_pods(self.cluster, REPLICAS, within=WAIT_SECONDS, selector=SELECTOR)
        assert any(pod["spec"]["nodeName"] == victim.name for pod in pods)
        left = [node.host.address for node in self.cluster.nodes if node is not victim]
        async with self.cluster.channel() as channel, steady(left, rate=RATE) as load:
            stub = ControlPlaneStub(channel)
            await settle()
            load.failed.clear()
            asked, load.last_failed, start = load.asked, 0.0, time.monotonic()
            async with asyncio.TaskGroup() as group:
                group.create_task(victim.power_off())
                marked = group.create_task(since(start, lambda: _marked(stub, victim), "the node is marked"))
                replaced = group.create_task(since(start, lambda: _elsewhere(stub, victim, 0), "pods are replaced"))
                serving = group.create_task(since(start, lambda: _elsewhere(stub, victim, REPLICAS), "all are Ready"))
            # What hangs now has failed by then.
            await asyncio.sleep(TIMEOUT_SECONDS)
        self.asked += load.asked - asked
        self.failed += load.failed
        self.times[AWAY].append(max(0.0, load.last_failed - start))
        self.times[MARKED].append(marked.result())
        self.times[REPLACED].append(replaced.result())
        self.times[SERVING].append(serving.result())
        await victim.power_on()
        await self.cluster.wait_ready(within=WAIT_SECONDS)
        await self.cluster.sampan("delete", "rc", "steady", timeout=WAIT_SECONDS)
        await eventually(lambda: _gone(self.cluster), within=WAIT_SECONDS, what="pods are gone")


async def _marked(stub: ControlPlaneAsyncStub, victim: Node) -> bool:
    found = await stub.List(ListRequest(kind="nodes"))
    (node,) = [item.node for item in found.items if item.node.metadata.name == victim.name]
    return any(one.type == "Ready" and one.status != "True" for one in node.status.conditions)


async def _elsewhere(stub: ControlPlaneAsyncStub, victim: Node, ready: int) -> bool:
    """All replicas run on other nodes, at least `ready` of them Ready."""
    found = await stub.List(ListRequest(kind="pods", namespace="default", label_selector=SELECTOR))
    live = [item.pod for item in found.items if not item.pod.metadata.HasField("deletionTimestamp")]
    run = [pod for pod in live if pod.status.phase == "Running" and pod.spec.nodeName != victim.name]
    serve = [pod for pod in run if any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions)]
    return len(run) == len(live) == REPLICAS and len(serve) >= ready


async def _gone(cluster: Cluster) -> bool:
    return not await cluster.get("pods", "-l", SELECTOR)


class Peer:
    """The same with Docker Swarm; the manager's host stays alive."""

    def __init__(self, swarm: Swarm, image: str) -> None:
        self.swarm, self._image = swarm, image
        self.times: Times = {MARKED: [], REPLACED: []}

    async def round(self, victim: Host) -> None:
        await self.swarm.create("steady", self._image, REPLICAS, "python3", "-c", SERVER)
        assert await self._containers(victim)
        await settle()
        start = time.monotonic()
        async with asyncio.TaskGroup() as group:
            group.create_task(victim.kill())
            marked = group.create_task(since(start, self._marked, "the node is Down"))
            replaced = group.create_task(since(start, lambda: self._elsewhere(victim), "tasks are replaced"))
        self.times[MARKED].append(marked.result())
        self.times[REPLACED].append(replaced.result())
        await victim.boot()
        await eventually(self._whole, within=WAIT_SECONDS, what="the node is back", every=0.3)
        await self.swarm.remove("steady")

    async def _states(self) -> list[str]:
        return (await self.swarm.manager.docker("node", "ls", "--format", "{{.Status}}")).split()

    async def _marked(self) -> bool:
        return "Down" in await self._states()

    async def _whole(self) -> bool:
        return set(await self._states()) == {"Ready"}

    async def _containers(self, host: Host) -> list[str]:
        return (await host.docker("ps", "-q", "--filter", "name=steady")).split()

    async def _elsewhere(self, victim: Host) -> bool:
        left = [host for host in self.swarm.hosts if host is not victim]
        return sum([len(await self._containers(host)) for host in left]) == REPLICAS


@contextlib.asynccontextmanager
async def swarm_of(hosts: Hosts) -> AsyncIterator[Swarm]:
    swarm = Swarm(hosts)
    await swarm.form()
    try:
        yield swarm
    finally:
        await swarm.leave()


async def run(rounds: int, *, peer: bool) -> tuple[Sampan, Times]:
    image = await python_image()
    async with contextlib.AsyncExitStack() as stack:
        ours = Sampan(await stack.enter_async_context(Cluster(hosts=3, images=(BUSYBOX, image))), image)
        theirs: Peer | None = None
        if peer:
            hosts = await stack.enter_async_context(Hosts(3, images=(BUSYBOX, image), engine_options=ENGINE_OPTIONS))
            pulled = await stack.enter_async_context(registry(hosts, image))
            for host in hosts:
                await host.docker("pull", "-q", pulled)
            theirs = Peer(await stack.enter_async_context(swarm_of(hosts)), pulled)
        for number in range(rounds):
            await ours.round(ours.cluster.nodes[1 + number % 2])
            if theirs:
                await theirs.round(theirs.swarm.hosts[1 + number % 2])
    return ours, theirs.times if theirs else {}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how many hosts die on each side (default 5)")
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--no-peer", action="store_true", help="without Docker Swarm")
    options = parser.parse_args()
    needs.install(needs.CLUSTERS)
    ours, theirs = asyncio.run(run(1 if options.quick else options.rounds, peer=not options.no_peer))
    report.heading(f"A host dies: {REPLICAS} replicas on three Docker hosts, {RATE:.0f}/s", report.docker_version())
    report.compare("seconds", ours.times, "Docker Swarm", theirs)
    told = ", ".join(f"{kind} × {count}" for kind, count in ours.failed.most_common()) or "none"
    report.console.print(f"failed requests: {ours.failed.total()} of {ours.asked} ({told})")
    missed = 0
    for name, budget in BUDGETS.items():
        median = statistics.median(ours.times[name])
        missed += median > budget
        verdict = "missed" if median > budget else "met"
        report.console.print(f"{name}: {median:.1f} s of at most {budget:.0f} s: {verdict}")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
