"""Master and agents over real gRPC with a simulated engine: the whole way of a pod, and faults on it."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from master.dispatcher.sessions import Session
from node_agent.agent import NodeAgent
from node_agent.runtime.seam import Runtime
from node_agent.session import JoinRefused
from node_agent.simulate import simulated_agent
from node_agent.storage import Storage
from protos import agent_pb2
from tests.integration.simulated import Cluster, eventually


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with Cluster(tmp_path) as made:
        yield made


async def started(cluster: Cluster, *names: str) -> None:
    for name in names:
        cluster.node(name).start()
    await cluster.until_ready(*names)


async def test_a_pod_runs_and_goes(cluster: Cluster) -> None:
    await started(cluster, "node-1", "node-2")
    await cluster.master.pod("web", "node-1")
    await cluster.until_phase("Running", "web")
    status = cluster.master.read("Pod", "default", "web").status
    assert status.podIP.startswith("10.244.") and status.hostIP == "192.0.2.1"
    assert list(await cluster.node("node-1").containers()) == ["web/c"]
    assert await cluster.node("node-2").containers() == {}
    await cluster.master.resources.delete("Pod", "default", "web")
    await eventually(lambda: cluster.phase("web") == "gone")
    assert await cluster.node("node-1").containers() == {}


async def test_nodes_know_each_other(cluster: Cluster) -> None:
    await started(cluster, "node-1", "node-2")
    agent = cluster.node("node-1").agent
    assert agent is not None
    await eventually(lambda: "node/node-2" in agent._routes.items)
    peer = agent._routes.items["node/node-2"].node
    assert (peer.address, peer.pod_cidr) == ("192.0.2.2", cluster.master.read("Node", "", "node-2").spec.podCIDR)


async def test_a_wrong_token_ends_a_new_agent_with_the_reason(cluster: Cluster) -> None:
    node = cluster.with_token("node-1", "abc123." + "0" * 32)
    node.start()
    with pytest.raises(JoinRefused, match="unknown or was revoked"):
        await node.outcome()


async def test_agent_restart_adopts_its_containers(cluster: Cluster) -> None:
    await started(cluster, "node-1")
    await cluster.master.pod("web", "node-1")
    await cluster.until_phase("Running", "web")
    before = await cluster.node("node-1").containers()
    await cluster.node("node-1").kill()
    assert await cluster.node("node-1").containers() == before
    session = cluster.master.dispatcher.sessions.of("node-1")
    cluster.node("node-1").start()
    await eventually(lambda: cluster.master.dispatcher.sessions.of("node-1") is not session)
    await cluster.master.pod("second", "node-1")
    await cluster.until_phase("Running", "web", "second")
    assert (await cluster.node("node-1").containers())["web/c"] == before["web/c"]


async def test_a_pod_deleted_while_the_agent_was_away_is_stopped(cluster: Cluster) -> None:
    await started(cluster, "node-1")
    await cluster.master.pod("web", "node-1")
    await cluster.master.pod("other", "node-1")
    await cluster.until_phase("Running", "web", "other")
    await cluster.node("node-1").kill()
    await cluster.master.resources.delete("Pod", "default", "web", grace_seconds=0)
    assert cluster.phase("web") == "gone"
    cluster.node("node-1").start()
    await eventually(lambda: cluster.node("node-1").runs("other/c"))


async def test_master_restart_loses_nothing_and_pods_run_on(cluster: Cluster) -> None:
    await started(cluster, "node-1")
    await cluster.master.pod("web", "node-1")
    await cluster.until_phase("Running", "web")
    before = await cluster.node("node-1").containers()
    await cluster.stop_master()
    assert await cluster.node("node-1").containers() == before
    await cluster.start_master()
    await eventually(lambda: cluster.master.dispatcher.nodes.connected("node-1"), 60)
    await cluster.master.pod("second", "node-1")
    await cluster.until_phase("Running", "web", "second")
    assert (await cluster.node("node-1").containers())["web/c"] == before["web/c"]


async def test_a_node_that_boots_without_a_master_starts_its_pods(cluster: Cluster) -> None:
    await started(cluster, "node-1")
    await cluster.master.pod("web", "node-1")
    await cluster.until_phase("Running", "web")
    node = cluster.node("node-1")
    await eventually(lambda: node.disk.load("assignments.pb"))
    await cluster.stop_master()
    await node.kill()
    for one in await node.engine.containers():
        await node.engine.remove(one.id)
    node.start()
    await eventually(lambda: node.runs("web/c"))


def open_streams(session: Session | None) -> bool:
    return session is not None and session.streams == 4


async def test_a_cut_session_begins_anew_and_nothing_restarts(cluster: Cluster) -> None:
    await started(cluster, "node-1")
    await cluster.master.pod("web", "node-1")
    await cluster.until_phase("Running", "web")
    before = await cluster.node("node-1").containers()
    for _ in range(3):
        # A cut before the streams are open harms none of them: gRPC dials again by itself.
        await eventually(lambda: open_streams(cluster.master.dispatcher.sessions.of("node-1")))
        session = cluster.master.dispatcher.sessions.of("node-1")
        assert session is not None
        cluster.line.cut()
        await eventually(session.ended.is_set, 60)
        await eventually(lambda: cluster.master.dispatcher.nodes.connected("node-1"), 60)
    await cluster.master.pod("second", "node-1")
    await cluster.until_phase("Running", "second")
    assert (await cluster.node("node-1").containers())["web/c"] == before["web/c"]


async def test_a_silent_line_is_noticed_and_survived(cluster: Cluster) -> None:
    await started(cluster, "node-1")
    session = cluster.master.dispatcher.sessions.of("node-1")
    cluster.line.silence()
    await eventually(lambda: cluster.master.dispatcher.nodes.silent_for("node-1") > 3.5, 60)
    cluster.line.flow()
    await eventually(lambda: cluster.master.dispatcher.sessions.of("node-1") is not session, 60)
    await cluster.master.pod("web", "node-1")
    await cluster.until_phase("Running", "web")


class LosesFrames(NodeAgent):
    """Three of ten frames never arrive."""

    dice = random.Random(7)
    lost = 0

    def frame(self, stream: str, frame: agent_pb2.Frame) -> None:
        if self.dice.random() < 0.3:
            LosesFrames.lost += 1
            return
        super().frame(stream, frame)


async def test_lost_frames_are_noticed_and_the_node_converges(cluster: Cluster) -> None:
    def make(config: object, runtime: Runtime, storage: Storage) -> NodeAgent:
        agent = simulated_agent(cluster.node("node-1").config, runtime, storage)
        agent.__class__ = LosesFrames
        return agent

    cluster.node("node-1").start(make)
    await cluster.until_ready("node-1")
    names = [f"p{number}" for number in range(60)]
    for name in names:
        await cluster.master.pod(name, "node-1")
        await asyncio.sleep(0)
    # A loss at the very end shows with the next change; here there is always a next one.
    more = itertools.count()
    async with asyncio.timeout(120):
        while not (LosesFrames.lost and all(cluster.phase(name) == "Running" for name in names)):
            await cluster.master.pod(f"more-{next(more)}", "node-1")
            await asyncio.sleep(0.1)


async def test_a_removed_node_stops_its_pods_and_joins_anew(cluster: Cluster) -> None:
    await started(cluster, "node-1")
    uid = cluster.master.read("Node", "", "node-1").metadata.uid
    await cluster.master.resources.delete("Node", "", "node-1")
    await eventually(
        lambda: cluster.ready("node-1") == "True" and cluster.master.read("Node", "", "node-1").metadata.uid != uid, 60
    )


async def test_logs_travel_from_the_node(cluster: Cluster) -> None:
    await started(cluster, "node-1")
    pod = await cluster.master.pod("web", "node-1")
    await cluster.until_phase("Running", "web")
    command = agent_pb2.LogsCommand(pod_uid=pod.metadata.uid, container="c")
    data = b"".join([chunk async for chunk in cluster.master.dispatcher.streams.logs("node-1", command)])
    assert data == b"c of web started\n"


async def test_a_hung_engine_makes_a_node_not_ready_but_not_silent(cluster: Cluster) -> None:
    await started(cluster, "node-1")
    node = cluster.node("node-1")
    await node.kill()
    node.script.down = True
    node.start()
    await eventually(lambda: cluster.ready("node-1") == "False", 60)
    assert cluster.master.read("Node", "", "node-1").status.capacity["cpu"].value == "8"
    assert cluster.master.dispatcher.nodes.connected("node-1")
    node.script.down = False
    await cluster.until_ready("node-1")


async def test_an_agent_that_is_ended_while_its_session_breaks_ends(cluster: Cluster) -> None:
    node = cluster.node("node-1")
    for steps in range(0, 40, 2):
        agent = node.start()
        await eventually(lambda known=agent: known.link.connected, 30)  # type: ignore[misc]
        cluster.line.cut()
        for _ in range(steps):
            await asyncio.sleep(0)
        async with asyncio.timeout(30):
            await node.kill()
