"""A node that runs short of memory: tainted, a pod evicted and replaced elsewhere, and all well again afterwards."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.support import pods, ready
from tests.harness import BUSYBOX, Cluster, eventually

pytestmark = [pytest.mark.root, pytest.mark.e2e, pytest.mark.timeout(600)]

_READINGS = "readings.json"
_OPTIONS = ("--readings-file", _READINGS, "--eviction-pressure-transition-period", "5s")
_WORKLOAD = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web"},
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "containers": [
                    {"name": "main", "image": BUSYBOX, "command": ["sh", "-c", "trap exit TERM; sleep 3600 & wait"]}
                ]
            },
        },
    },
}


async def test_a_node_short_of_memory() -> None:
    async with Cluster(hosts=2, node_options=_OPTIONS) as cluster:
        await cluster.apply(json.dumps(_WORKLOAD))
        first = await eventually(lambda: _spread(cluster), within=90, what="a pod runs on either node")
        short = cluster.node("node1")
        (short.data / _READINGS).write_text(json.dumps({"memory.available": "30Mi"}))
        gone = await eventually(lambda: _evicted(cluster), within=90, what="the pod on node1 is evicted")
        assert gone["spec"]["nodeName"] == "node1"
        assert "low on resource: memory. Threshold quantity: 100Mi, available: 30Mi." in gone["status"]["message"]
        other = next(pod for pod in first if pod["spec"]["nodeName"] == "node2")
        live = await eventually(lambda: _live_on(cluster, {"node2"}, 2), within=90, what="two pods run on node2")
        assert other["metadata"]["uid"] in {pod["metadata"]["uid"] for pod in live}
        (node,) = await cluster.get("node", "node1")
        assert "node.kubernetes.io/memory-pressure" in {taint["key"] for taint in node["spec"]["taints"]}
        pressed = next(one for one in node["status"]["conditions"] if one["type"] == "MemoryPressure")
        assert (pressed["status"], pressed["reason"]) == ("True", "KubeletHasInsufficientMemory")
        await eventually(lambda: _told(cluster), within=60, what="both events")
        (short.data / _READINGS).unlink()
        await eventually(lambda: _untainted(cluster), within=90, what="node1 takes pods again")


async def _told(cluster: Cluster) -> bool:
    told = {event["reason"] for event in await cluster.get("events", "-A")}
    return {"EvictionThresholdMet", "Evicted"} <= told


async def _spread(cluster: Cluster) -> list[dict[str, Any]]:
    return await _live_on(cluster, {"node1", "node2"}, 2)


async def _live_on(cluster: Cluster, nodes: set[str], count: int) -> list[dict[str, Any]]:
    found = [pod for pod in await pods(cluster) if ready(pod)]
    return found if len(found) == count and {pod["spec"]["nodeName"] for pod in found} == nodes else []


async def _evicted(cluster: Cluster) -> dict[str, Any]:
    ended = [pod for pod in await pods(cluster) if pod["status"].get("reason") == "Evicted"]
    return ended[0] if ended else {}


async def _untainted(cluster: Cluster) -> bool:
    (node,) = await cluster.get("node", "node1")
    return not node["spec"].get("taints")
