"""What comes and goes leaves nothing behind: tables in memory, descriptors and tasks return to where they were."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from bench.soak_calls import Calls
from bench.soak_gauges import descriptors
from bench.soak_inside import tables
from common.rpc import SERVER_OPTIONS, open_channel
from master.api.control_plane import MasterInfo, add_control_plane
from master.api.interceptors import ErrorInterceptor
from master.controllers.runner import Controllers
from master.scheduler.shell import Scheduler
from node_agent.runtime.script import Answer, Asked
from protos.control_pb2_grpc import ControlPlaneStub
from tests.integration.simulated import Cluster, eventually

ROUNDS, PODS = 3, 120
NODES = ("node-1", "node-2", "node-3")
# At a time, as the pods of a removed node go together after a while.
LEAVERS = 30
# What a table may hold more than before: less than came and went, of pods and of nodes.
SLACK = 20
# Histories and memories of a length of their own, which these do not fill.
BOUNDED = (
    "master.store.store.Store._history",
    "common.frames.FrameWriter._changed",
    "master.scheduler.requests.Requests.",
    "master.scheduler.rules.",
    # A histogram is made with its first value; there is one per controller and call.
    "common.metrics.Histogram.counts",
)


class Whole(Cluster):
    """The cluster with controllers, scheduler and the users' API."""

    calls: Calls

    @property
    def resources(self) -> Any:
        return self.master.resources

    async def started(self, *names: str) -> None:
        for name in names:
            node = self.node(name)
            node.script.answer = answer
            node.start()
        await self.until_ready(*names)

    async def pods_run(self, count: int) -> None:
        def so() -> bool:
            pods = self.master.store.list("Pod", "default")
            return len(pods) == count and all(pod.status.phase == "Running" for pod in pods)

        await eventually(so, 120)

    async def none_left(self, *kinds: str) -> None:
        await eventually(lambda: not any(self.master.store.list(kind, "default") for kind in kinds), 120)

    async def quiet(self) -> None:
        """Until no container is left and every node has told of it."""

        async def idle() -> bool:
            return not any([await node.engine.containers() for node in self._nodes.values()])

        async with asyncio.timeout(120):
            while not await idle():
                await asyncio.sleep(0.05)


def answer(asked: Asked) -> Answer:
    return Answer(echoes=True) if asked.what == "dial" else Answer(output="here", seconds=3600)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Whole]:
    made = Whole(tmp_path)
    async with made, asyncio.TaskGroup() as group:
        master = made.master
        controllers = Controllers(master.store, master.resources, master.dispatcher.nodes)
        scheduler = Scheduler(master.store, master.resources, master.dispatcher.nodes)
        tasks = [group.create_task(controllers.run()), group.create_task(scheduler.run())]
        server = grpc.aio.server(interceptors=[ErrorInterceptor()], options=SERVER_OPTIONS)
        streams = master.dispatcher.streams
        plane = add_control_plane(server, master.resources, master.store, streams, scheduler, MasterInfo("test"))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with open_channel(f"127.0.0.1:{port}") as channel:
                made.calls = Calls(ControlPlaneStub(channel), "default")
                yield made
        finally:
            plane.close()
            await server.stop(1.0)
            for task in tasks:
                task.cancel()


def held() -> Counter[str]:
    """The tables of everything that is alive in this process, without those of bounded length."""
    gc.collect()
    return Counter(
        {
            name: size
            for name, size in tables().items()
            if not name.startswith(("type ", "asyncio.")) and not name.startswith(BOUNDED)
        }
    )


async def returned(before: Counter[str]) -> None:
    """Until no table holds more than before. What is told and drained a moment later has a moment."""
    grown: dict[str, tuple[int, int]] = {}

    def so() -> bool:
        grown.clear()
        grown.update({name: (before[name], size) for name, size in held().items() if size > before[name] + SLACK})
        return not grown

    with contextlib.suppress(AssertionError, TimeoutError):
        await eventually(so, 60)
    assert not grown, f"before and now: {grown}"


def things(name: str, config: str) -> list[dict[str, Any]]:
    """A pod with a label of its own, and a service that selects it."""
    meta = {"name": f"it-{name}", "namespace": "default"}
    container = {
        "name": "c",
        "image": "busybox:1",
        "ports": [{"containerPort": 80}],
        "envFrom": [{"configMapRef": {"name": config}}],
    }
    pod = {"containers": [container], "terminationGracePeriodSeconds": 1}
    service = {"selector": {"it": name}, "ports": [{"port": 80}]}
    return [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {**meta, "labels": {"it": name}}, "spec": pod},
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": service},
    ]


async def come_and_go(cluster: Whole, turn: int) -> None:
    """Pods with a service each and a ConfigMap for all, made and taken away."""
    store, config = cluster.master.store, f"config-{turn}"
    names = [f"{turn}-{number}" for number in range(PODS)]
    meta = {"name": config, "namespace": "default"}
    await cluster.calls.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta})
    async with asyncio.TaskGroup() as group:
        for name in names:
            for manifest in things(name, config):
                group.create_task(cluster.calls.apply(manifest))
    await cluster.pods_run(PODS)
    await eventually(lambda: sum(bool(one.subsets) for one in store.list("Endpoints", "default")) == PODS, 60)
    async with asyncio.TaskGroup() as group:
        for name in names:
            for kind in ("Pod", "Service"):
                group.create_task(cluster.calls.delete(kind, "default", f"it-{name}"))
    await cluster.calls.delete("ConfigMap", "default", config)
    await cluster.none_left("Pod", "Service", "Endpoints")
    await cluster.quiet()


async def test_pods_and_services_that_come_and_go_leave_nothing(cluster: Whole) -> None:
    await cluster.started(*NODES)
    await come_and_go(cluster, 0)
    before = held()
    for turn in range(1, ROUNDS):
        await come_and_go(cluster, turn)
    await returned(before)


async def join_and_leave(cluster: Whole, turn: int) -> None:
    """Nodes with a pod each that die and are removed for good."""
    names = [f"leaver-{turn}-{number}" for number in range(LEAVERS)]
    await cluster.started(*names)
    for name in names:
        await cluster.master.pod(f"on-{name}", name)
    await cluster.pods_run(LEAVERS)
    for name in names:
        await cluster._nodes.pop(name).kill()
        await cluster.resources.delete("Node", "", name)
    await cluster.none_left("Pod")
    dispatcher = cluster.master.dispatcher
    await eventually(lambda: list(dispatcher.nodes) == ["node-0"] == dispatcher._index.nodes(), 120)


async def test_nodes_that_leave_for_good_leave_nothing(cluster: Whole) -> None:
    await cluster.started("node-0")
    await join_and_leave(cluster, 0)
    before = held()
    await join_and_leave(cluster, 1)
    await returned(before)


async def test_sessions_and_streams_give_their_descriptors_back(cluster: Whole) -> None:
    await cluster.started(*NODES)
    await cluster.master.pod("web", "node-1")
    await cluster.pods_run(1)
    dispatcher = cluster.master.dispatcher

    async def churn(times: int) -> None:
        for _ in range(times):
            leave = (cluster.calls.leave_logs, cluster.calls.leave_exec, cluster.calls.leave_port)
            async with asyncio.TaskGroup() as group:
                group.create_task(cluster.calls.leave_watch())
                for one in leave * 3:
                    group.create_task(one("web"))
            sessions = {session.id for session in dispatcher.sessions}
            cluster.line.cut()
            await eventually(
                lambda known=sessions: (
                    len(dispatcher.sessions) == len(NODES)  # type: ignore[misc]
                    and not known & {session.id for session in dispatcher.sessions}
                    and all(dispatcher.nodes.connected(name) for name in NODES)
                ),
                60,
            )

    await churn(2)
    await eventually(lambda: not len(dispatcher.streams), 60)
    open_before, before = descriptors(os.getpid()), held()
    await churn(8)
    await eventually(lambda: not len(dispatcher.streams), 60)

    def back() -> bool:
        return descriptors(os.getpid()).total() <= open_before.total() + 2

    with contextlib.suppress(AssertionError, TimeoutError):
        await eventually(back, 60)
    assert back(), f"before {open_before}, now {descriptors(os.getpid())}"
    await returned(before)
