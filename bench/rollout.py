"""Rolling updates and a drained node under 300 requests a second, and an update of 20 replicas beside Docker Swarm's.

Three Docker hosts; half of the requests on new connections, half on kept ones, through the node ports of all hosts.
Every failure is counted by kind; none is expected. Swarm, on three hosts of its own, updates the same containers with
parallelism 1, no delay and monitor 0. Nobody asks them meanwhile (its routing mesh needs IPVS, which not every kernel
has), so Sampan is timed without requests, too, and these rounds are in turns with Swarm's (docs/benches.md).
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace

from bench import needs, report
from bench.calm import Calm
from bench.registry import ENGINE_OPTIONS, registry
from bench.rounds import REACH, Times, calm_of, calm_pairs, in_turns, options, worked
from bench.slices import Slice
from bench.swarm import Swarm, settle
from protos.control_pb2 import ListRequest
from protos.control_pb2_grpc import ControlPlaneStub
from tests.e2e.load import SERVER, Load, deployment, steady
from tests.e2e.pythons import python_image
from tests.e2e.support import ready_pods
from tests.harness import BUSYBOX, Cluster, Hosts, eventually

FEW, MANY = 6, 20
RATE = 300.0
DRAIN_SECONDS = 1
SELECTOR = "app=steady"
WAIT_SECONDS = 180.0
# Of Swarm's time, at most.
BUDGET = 0.25
ROLLED, GONE = "20 replicas, rolled out", "20 replicas, old ones gone"
UNDER_LOAD = f"{FEW} replicas under {RATE:.0f}/s"
LOADED = f"20 replicas under {RATE:.0f}/s, old ones gone"
DISRUPTION = """
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: steady}
spec: {maxUnavailable: 25%, selector: {matchLabels: {app: steady}}}
"""


class Bench:
    """A cluster with the steady servers, and the number of the template that they have."""

    def __init__(self, cluster: Cluster, image: str, updates: int, rounds: int, calm: Calm) -> None:
        self.cluster, self.updates, self.rounds = cluster, updates, rounds
        self.times: Times = {UNDER_LOAD: [], LOADED: [], ROLLED: [], GONE: []}
        self.calm = calm
        self.drained: list[float] = []
        self._image = image
        self._version = 0

    async def roll(self, replicas: int, *, new: bool = True) -> tuple[float, float]:
        """Seconds until `replicas` pods of a new template are available, and until the old ones are gone, too."""
        self._version += new
        start = time.monotonic()
        await self.cluster.apply(deployment(self._image, replicas, DRAIN_SECONDS, self._version))
        async with self.cluster.channel() as channel:
            stub = ControlPlaneStub(channel)

            async def rolled() -> bool:
                found = (await stub.List(ListRequest(kind="deployments", namespace="default"))).items[0].deployment
                status = found.status
                if status.observedGeneration < found.metadata.generation:
                    return False
                return status.updatedReplicas == status.replicas == status.availableReplicas == replicas

            async def gone() -> bool:
                found = await stub.List(ListRequest(kind="pods", namespace="default", label_selector=SELECTOR))
                return len(found.items) == replicas

            await eventually(rolled, within=WAIT_SECONDS, what=f"{replicas} pods rolled out", every=0.05)
            done = time.monotonic() - start
            await eventually(gone, within=WAIT_SECONDS, what="the old pods are gone", every=0.05)
        return done, time.monotonic() - start

    async def few(self) -> None:
        for _ in range(self.updates):
            await self._timed(FEW, UNDER_LOAD, "")

    async def many(self) -> None:
        for _ in range(self.rounds):
            await self._timed(MANY, "", LOADED)
            await settle()

    async def in_peace(self) -> None:
        """One update that nobody disturbs."""
        await settle()
        await self._timed(MANY, ROLLED, GONE)

    async def _timed(self, replicas: int, rolled: str, gone: str) -> None:
        slices: list[Slice[float]] = []
        with self.calm.timed(slices):
            done, all_ = await self.roll(replicas)
        for name, seconds in ((rolled, done), (gone, all_)):
            if name:
                self.times[name].append(replace(slices[0], value=seconds))

    async def all_on_first(self) -> None:
        """Every pod on the first node, the others open again."""
        others = [node.name for node in self.cluster.nodes[1:]]
        await self.cluster.sampan("cordon", *others)
        await self.roll(MANY)
        await self.cluster.sampan("uncordon", *others)
        await self.cluster.apply(DISRUPTION)

    async def drain(self) -> None:
        first = self.cluster.nodes[0].name
        start = time.monotonic()
        await self.cluster.sampan("drain", first, timeout=WAIT_SECONDS)
        self.drained.append(time.monotonic() - start)
        found = await ready_pods(self.cluster, MANY, within=WAIT_SECONDS, selector=SELECTOR)
        assert all(pod["spec"]["nodeName"] != first for pod in found)


@dataclass
class Found:
    """What was measured; the load; by phase what failed and how many were asked; the peer's times."""

    bench: Bench
    load: Load
    failed: dict[str, Counter[str]] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    theirs: list[Slice[float]] = field(default_factory=list)

    def pairs(self) -> int:
        return calm_pairs({GONE: self.bench.times[GONE]}, {GONE: self.theirs})


async def measure(image: str, updates: int, rounds: int, calm: Calm) -> Found:
    """Everything: under requests first, then in turns with the peer."""
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(
            Cluster(hosts=3, images=(BUSYBOX, image), engine_options=ENGINE_OPTIONS)
        )
        bench = Bench(cluster, await stack.enter_async_context(registry(cluster.hosts, image)), updates, rounds, calm)
        found = await _under_requests(bench)
        calm.kept.clear()
        try:
            await _beside_swarm(stack, found, image)
        except AssertionError as error:
            # What was measured was measured, also when an engine does not do what it should.
            report.console.print(f"ended early: {error}")
        return found


async def _under_requests(bench: Bench) -> Found:
    await bench.roll(FEW)
    await asyncio.sleep(2)
    phases: dict[str, Callable[[], Awaitable[object]]] = {
        f"{bench.updates} rolling updates of {FEW} replicas": bench.few,
        f"scaled to {MANY}": lambda: bench.roll(MANY, new=False),
        f"{bench.rounds} rolling updates of {MANY} replicas": bench.many,
        f"all {MANY} to one node": bench.all_on_first,
        f"drain of the node with {MANY} pods": bench.drain,
    }
    async with steady([node.host.address for node in bench.cluster.nodes], rate=RATE) as load:
        found = Found(bench, load)
        for phase, act in phases.items():
            before, count = Counter(load.failed), load.asked
            load.phase = phase
            await act()
            found.failed[phase], found.asked[phase] = load.failed - before, load.asked - count
    await bench.cluster.sampan("uncordon", bench.cluster.nodes[0].name)
    return found


async def _beside_swarm(stack: AsyncExitStack, found: Found, image: str) -> None:
    """Updates of ours and of the peer's in turns, after one of each that does not count."""
    bench, calm = found.bench, found.bench.calm
    hosts = await stack.enter_async_context(Hosts(3, images=(BUSYBOX, image), engine_options=ENGINE_OPTIONS))
    name = await stack.enter_async_context(registry(hosts, image))
    swarm = Swarm(hosts)
    stack.push_async_callback(swarm.leave)
    await swarm.form()
    await swarm.create("steady", name, MANY, "python3", "-c", SERVER)
    await bench.roll(MANY)
    await swarm.update("steady", MANY)

    async def theirs() -> None:
        await settle()
        with calm.timed(found.theirs):
            await swarm.update("steady", MANY)

    await in_turns(calm, (bench.in_peace, theirs), bench.rounds, found.pairs)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.rollout", description=__doc__)
    parser.add_argument("--updates", type=int, default=100, help=f"rolling updates of {FEW} replicas (default 100)")
    parser.add_argument("--rounds", type=int, default=3, help=f"rolling updates of {MANY} replicas (default 3)")
    parser.add_argument("--image", default="", help="an image with python3 (default: made of Debian packages)")
    parser.add_argument("--quick", action="store_true", help="two updates under requests, one round")
    options(parser)
    parsed = parser.parse_args()
    calm = calm_of(parsed)
    if parsed.quick:
        parsed.updates, parsed.rounds, calm.patience.left = 2, 1, 0.0
    needs.install(needs.CLUSTERS)
    image = parsed.image or asyncio.run(python_image())
    found = asyncio.run(measure(image, parsed.updates, parsed.rounds, calm))
    bench = found.bench
    report.heading(f"Rollouts under {RATE:.0f} requests a second", report.docker_version())
    for phase, kinds in found.failed.items():
        told = ", ".join(f"{kind} × {count}" for kind, count in kinds.most_common()) or "none"
        report.console.print(f"{phase}: {sum(kinds.values())} of {found.asked[phase]} requests failed ({told})")
    for line in found.load.when[:20]:
        report.console.print(f"  {line}")
    report.console.print(f"drain of a node with {MANY} pods, at most a quarter away: {report.spread(bench.drained)} s")
    peers = dict.fromkeys((ROLLED, GONE), found.theirs)
    ratios = report.pairs("seconds, rolling updates", bench.times, "Docker Swarm", peers, REACH)
    report.pairs(
        "processor seconds of the whole machine meanwhile", worked(bench.times), "the same", worked(peers), REACH
    )
    if GONE in ratios:
        report.console.print(report.verdict(f"{GONE}, to Docker Swarm", ratios[GONE], BUDGET, most=True))
    for line in calm.report():
        report.console.print(line)


if __name__ == "__main__":
    main()
