"""Nothing is dropped when pods go: deletions, scalings, a killed agent and a restarted master under a steady load."""

from __future__ import annotations

import asyncio

import pytest

from tests.e2e.load import PORT, manifest, steady
from tests.e2e.support import ready_pods, served
from tests.harness import BUSYBOX, Cluster, eventually

pytestmark = [pytest.mark.root, pytest.mark.e2e, pytest.mark.timeout(600)]

REPLICAS = 6
BATCHES, BATCH = 5, 4
SCALINGS = (9, 3, 8, REPLICAS)
RATE = 200.0


async def test_no_request_fails_while_pods_come_and_go(sampan_image: str) -> None:
    async with Cluster(hosts=3, images=(BUSYBOX, sampan_image)) as cluster:
        await cluster.apply(manifest(sampan_image, REPLICAS, drain_seconds=1))
        await ready_pods(cluster, REPLICAS, within=90, selector="app=steady")
        for node in cluster.nodes:
            # From here on every request has to succeed, at every node.
            await served(node.host, port=PORT)
        async with steady([node.host.address for node in cluster.nodes], rate=RATE) as load:
            await eventually(lambda: _asked(load.asked), within=90, what="requests flow")
            for number in range(BATCHES):
                load.phase = f"deletion {number}"
                pods = await ready_pods(cluster, REPLICAS, selector="app=steady")
                names = sorted(pod["metadata"]["name"] for pod in pods)[:BATCH]
                await cluster.sampan("delete", "pod", *names, timeout=120)
            for replicas in SCALINGS:
                load.phase = f"scaling to {replicas}"
                await cluster.sampan("scale", "rc", "steady", f"--replicas={replicas}")
                await ready_pods(cluster, replicas, selector="app=steady")
            load.phase = "agent killed"
            cluster.nodes[0].kill_agent()
            await _delete_one(cluster)
            load.phase = "master restarted"
            await cluster.master.kill()
            await cluster.master.start()
            await cluster.wait_ready(within=90)
            await _delete_one(cluster)
            await ready_pods(cluster, REPLICAS, selector="app=steady")
        assert load.asked > 1000
        assert not load.failed, (dict(load.failed), load.when)


async def _asked(count: int) -> bool:
    await asyncio.sleep(0)
    return count > 50


async def _delete_one(cluster: Cluster) -> None:
    (pod, *_) = await ready_pods(cluster, REPLICAS, selector="app=steady")
    await cluster.sampan("delete", "pod", pod["metadata"]["name"], timeout=120)
