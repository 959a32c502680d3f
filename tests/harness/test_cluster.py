"""The harness's cluster: all Ready when it begins, every part can be broken and mended, and nothing is left."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from protos import control_pb2 as control
from protos.control_pb2_grpc import ControlPlaneStub
from tests.harness import BUSYBOX, Cluster, CommandFailed, eventually
from tests.harness.parts import BIN
from tests.harness.snapshot import NOTHING, leftovers

pytestmark = pytest.mark.e2e

POD = f"""
apiVersion: v1
kind: Pod
metadata: {{name: sleeper}}
spec:
  nodeName: node2
  terminationGracePeriodSeconds: 1
  containers:
  - {{name: main, image: "{BUSYBOX}", command: [sleep, "1000"]}}
"""


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with Cluster(hosts=2) as found:
        yield found
    assert await leftovers(found.hosts.addresses) == NOTHING


async def pod_runs(cluster: Cluster) -> bool:
    [pod] = await cluster.get("pods", "sleeper")
    return bool(pod["status"].get("phase") == "Running")


async def test_all_doors_to_the_master(cluster: Cluster) -> None:
    assert await cluster.ready() == {"node1": True, "node2": True}
    async with cluster.channel() as channel:
        answer = await ControlPlaneStub(channel).List(control.ListRequest(kind="Node"))
    assert len(answer.items) == 2
    # A host is no friend of the master: it needs the token.
    words = [str(BIN / "sampan"), "--master", cluster.master.address]
    with pytest.raises(CommandFailed, match="token"):
        await cluster.hosts[0].run([*words, "get", "nodes"])
    assert "node1" in await cluster.hosts[0].run([*words, "--token", cluster.master.admin_token(), "get", "nodes"])


async def test_every_part_dies_and_comes_back(cluster: Cluster) -> None:
    await cluster.apply(POD)
    await eventually(lambda: pod_runs(cluster), within=60, what="the pod runs")
    node = cluster.node("node2")

    for kill, part in ((node.kill_agent, "agent"), (node.kill_proxy, "proxy")):
        # A proxy is several processes: all of them go.
        dead = kill()

        async def another(part: str = part, dead: list[int] = dead) -> bool:
            now = set(node.pids(part))
            return bool(now) and now.isdisjoint(dead)

        await eventually(another, within=60, what=f"another {part}")

    await node.kill()
    assert node.pids("agent") == node.pids("proxy") == []
    assert [c["State"] for c in await node.host.containers("label=sampan.dev/node=node2")] == ["running"]

    await cluster.master.kill()
    with pytest.raises(CommandFailed):
        await cluster.sampan("get", "nodes")
    node.start()
    await cluster.master.start()
    await cluster.wait_ready()
    assert await pod_runs(cluster)


async def test_a_host_loses_power_and_boots(cluster: Cluster) -> None:
    node = cluster.node("node2")
    await node.power_off()

    async def noticed() -> bool:
        return not (await cluster.ready())["node2"]

    await eventually(noticed, within=60, what="node2 not Ready")
    assert (await cluster.ready())["node1"]
    await node.power_on()
    await cluster.wait_ready("node2")


async def test_a_node_is_added(cluster: Cluster) -> None:
    added = await cluster.add_node()
    await cluster.wait_ready(added.name)
