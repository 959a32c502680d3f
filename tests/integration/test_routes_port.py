"""Agents whose routing tables come on the master's port for these alone, or do not when nothing answers there."""

from __future__ import annotations

import functools
from pathlib import Path

from protos import core_pb2
from tests.integration.simulated import Cluster, eventually


def service(name: str) -> core_pb2.Service:
    made = core_pb2.Service(metadata=core_pb2.ObjectMeta(name=name, namespace="default"))
    made.spec.ports.add(name="http", port=80)
    return made


def acked(cluster: Cluster, *nodes: str) -> bool:
    """Whether the nodes have acknowledged the table as it is."""
    sessions = [cluster.master.dispatcher.sessions.of(node) for node in nodes]
    revision = cluster.master.dispatcher._routes.writer.revision
    return all(session is not None and session.routes_acked[1] == revision for session in sessions)


async def test_tables_come_on_the_port_of_their_own_and_a_new_session_begins_when_it_breaks(tmp_path: Path) -> None:
    async with Cluster(tmp_path, routes_port=True) as cluster:
        one, two = cluster.node("node-1").start(), cluster.node("node-2").start()
        await cluster.until_ready("node-1", "node-2")
        lanes = cluster.master.dispatcher.fan_out.lanes
        await eventually(lambda: len(lanes) == 2)
        await cluster.master.resources.create(service("web"))
        await eventually(lambda: acked(cluster, "node-1", "node-2"))
        before = one.link.sessions, two.link.sessions
        for lane in list(lanes):
            lane.abort()
        await eventually(lambda: one.link.sessions > before[0] and two.link.sessions > before[1])
        await eventually(lambda: len(lanes) == 2)
        await cluster.master.resources.create(service("other"))
        await eventually(lambda: acked(cluster, "node-1", "node-2"))


async def test_an_agent_that_does_not_reach_the_port_gets_its_tables_all_the_same(tmp_path: Path) -> None:
    async with Cluster(tmp_path, routes_port=True) as cluster:
        # The port is still named to the agents, as it is where a firewall stands before it.
        cluster.master.dispatcher.fan_out.close()
        cluster.node("node-1").start()
        await cluster.until_ready("node-1")
        # In the session that it has: the port does not end it. (A machine that stands still for seconds does.)
        for number in range(5):
            session = cluster.master.dispatcher.sessions.of("node-1")
            await cluster.master.resources.create(service(f"web-{number}"))
            await eventually(lambda: acked(cluster, "node-1"))
            if session is not None and cluster.master.dispatcher.sessions.of("node-1") is session:
                break
        else:
            raise AssertionError("no session lasts")
        assert not cluster.master.dispatcher.fan_out.lanes


async def test_a_session_that_is_cut_ends_the_stream_of_routes_with_it(tmp_path: Path) -> None:
    async with Cluster(tmp_path, routes_port=True) as cluster:
        agent = cluster.node("node-1").start()
        await cluster.until_ready("node-1")
        for _ in range(3):
            before = agent.link.sessions
            cluster.line.cut()
            await eventually(functools.partial(lambda was: agent.link.sessions > was, before), 60)
            await eventually(lambda: len(cluster.master.dispatcher.fan_out.lanes) == 1, 60)
