"""How many requests fail while pods, agents, proxy workers and the master come and go, under 500 requests a second.

Three Docker hosts; half of the requests on new connections, half on kept ones, through the node ports of all hosts.
Every failure is counted by kind; beside it stands how much of the processors was stolen meanwhile. Only the connections
that a killed proxy worker held may fail.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import signal
from collections import Counter
from collections.abc import Awaitable, Callable

import psutil

from bench import needs, report
from bench.calm import Calm
from bench.slices import Bar, Slice
from tests.e2e.load import Load, manifest, steady
from tests.e2e.support import ready_pods
from tests.harness import BUSYBOX, SAMPAN, Cluster, Node, eventually

REPLICAS, MOST, LEAST = 9, 12, 6
RATE = 500.0
BATCH = 5
SELECTOR = "app=steady"
WAIT_SECONDS = 120.0


async def deletions(cluster: Cluster, count: int) -> None:
    """`count` pods in batches, each batch when the one before is replaced."""
    for _ in range(count // BATCH):
        pods = await ready_pods(cluster, REPLICAS, within=WAIT_SECONDS, selector=SELECTOR)
        names = sorted(pod["metadata"]["name"] for pod in pods)[:BATCH]
        await cluster.sampan("delete", "pod", *names, timeout=WAIT_SECONDS)
    await ready_pods(cluster, REPLICAS, within=WAIT_SECONDS, selector=SELECTOR)


async def scalings(cluster: Cluster, count: int) -> None:
    """Up and down in turn, each when the one before is complete."""
    for number in range(count):
        wanted = LEAST if number % 2 else MOST
        await cluster.sampan("scale", "rc", "steady", f"--replicas={wanted}")
        await ready_pods(cluster, wanted, within=WAIT_SECONDS, selector=SELECTOR)
    await cluster.sampan("scale", "rc", "steady", f"--replicas={REPLICAS}")
    await ready_pods(cluster, REPLICAS, within=WAIT_SECONDS, selector=SELECTOR)


async def agent_killed(cluster: Cluster) -> None:
    before = cluster.nodes[0].kill_agent()
    await deletions(cluster, BATCH)
    await eventually(lambda: _again(cluster.nodes[0], "agent", before), within=30, what="the agent is back")
    await cluster.wait_ready()


async def worker_killed(cluster: Cluster) -> None:
    """One worker process of a proxy; where a proxy has none, the phase says nothing."""
    node = cluster.nodes[1]
    workers = workers_of(node)
    if not workers:
        return
    workers[0].send_signal(signal.SIGKILL)
    await eventually(lambda: _workers_back(node, workers[0].pid, len(workers)), within=10, what="a worker is back")
    await asyncio.sleep(2)


async def master_restarted(cluster: Cluster) -> None:
    await cluster.master.kill()
    await asyncio.sleep(2)
    await cluster.master.start()
    await cluster.wait_ready()
    await deletions(cluster, BATCH)


def workers_of(node: Node) -> list[psutil.Process]:
    """The processes of a node's proxy that serve connections: children of the one that the proxy keeps to fork them."""
    found: dict[int, psutil.Process] = {}
    for pid in node.pids("proxy"):
        for child in psutil.Process(pid).children():
            found |= {worker.pid: worker for worker in child.children()}
    return [found[pid] for pid in sorted(found)]


async def _workers_back(node: Node, gone: int, count: int) -> bool:
    now = [worker.pid for worker in workers_of(node)]
    return gone not in now and len(now) >= count


async def _again(node: Node, part: str, before: list[int]) -> bool:
    return bool(set(node.pids(part)) - set(before))


async def run(
    image: str, deleted: int, scaled: int, calm: Calm
) -> tuple[Load, dict[str, Counter[str]], dict[str, int], list[Slice[float]]]:
    """The load, by phase what failed and how many were asked, and each phase's seconds and noise."""
    slices: list[Slice[float]] = []
    phases: dict[str, Callable[[Cluster], Awaitable[None]]] = {
        f"{deleted} pods deleted": lambda cluster: deletions(cluster, deleted),
        f"{scaled} scalings up and down": lambda cluster: scalings(cluster, scaled),
        "agent kill -9": agent_killed,
        "proxy worker kill -9": worker_killed,
        "master kill -9 and start": master_restarted,
    }
    failed: dict[str, Counter[str]] = {}
    asked: dict[str, int] = {}
    async with Cluster(hosts=3, images=(BUSYBOX, image), node_options=("--proxy-workers", "2")) as cluster:
        await cluster.apply(manifest(image, REPLICAS, drain_seconds=1))
        await ready_pods(cluster, REPLICAS, within=WAIT_SECONDS, selector=SELECTOR)
        await asyncio.sleep(2)
        async with steady([node.host.address for node in cluster.nodes], rate=RATE) as load:
            for name, phase in phases.items():
                before, count = Counter(load.failed), load.asked
                load.phase = name
                with calm.timed(slices):
                    await phase(cluster)
                failed[name], asked[name] = load.failed - before, load.asked - count
    return load, failed, asked, slices


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deletions", type=int, default=100, help="pods deleted, in batches of 5 (default 100)")
    parser.add_argument("--image", default=SAMPAN, help=f"an image with python3 (default {SAMPAN})")
    parser.add_argument("--scalings", type=int, default=20, help="scale ups and downs (default 20)")
    options = parser.parse_args()
    needs.install(needs.CLUSTER)
    calm = Calm(Bar(others=math.inf))
    load, failed, asked, slices = asyncio.run(run(options.image, options.deletions, options.scalings, calm))
    report.heading(f"Failed requests of {load.asked} at {RATE:.0f} a second", report.docker_version())
    for (name, kinds), one in zip(failed.items(), slices, strict=True):
        told = ", ".join(f"{kind} × {count}" for kind, count in kinds.most_common()) or "none"
        noise = f"{one.value:.0f} s, {one.noise.stolen:.0%} stolen"
        report.console.print(f"{name}: {sum(kinds.values())} of {asked[name]} failed ({told}); {noise}")
    for line in load.when[:20]:
        report.console.print(f"  {line}")


if __name__ == "__main__":
    main()
