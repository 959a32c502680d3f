"""The scheduler on a real store: binds, explains, and comes back to what waits."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from master.api.resources import Resources
from master.controllers.pods import condition
from master.dispatcher.nodes import NodeTable
from master.scheduler.shell import Scheduler
from master.store.store import Store
from protos import core_pb2
from tests.master.controllers.builders import node, pod
from tests.master.controllers.living import stored, until


class Chatty(NodeTable):
    """Every node but those named in `silent` was heard just now."""

    def __init__(self) -> None:
        super().__init__()
        self.silent: set[str] = set()

    def last_heartbeat(self, name: str) -> float | None:
        return None if name in self.silent else time.monotonic()


@contextlib.asynccontextmanager
async def scheduling(store: Store, resources: Resources, table: NodeTable | None = None) -> AsyncIterator[None]:
    scheduler = Scheduler(store, resources, Chatty() if table is None else table, retry_seconds=0.5)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(scheduler.run())
        try:
            yield
        finally:
            task.cancel()


Cluster = tuple[Store, Resources]


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with stored(tmp_path / "data") as (store, resources), scheduling(store, resources):
        yield store, resources


def get(store: Store, name: str) -> core_pb2.Pod:
    found = store.get("Pod", "default", name)
    assert isinstance(found, core_pb2.Pod)
    return found


def message(store: Store, name: str) -> str:
    found = condition(get(store, name).status, "PodScheduled")
    return str(found.message) if found is not None and found.status == "False" else ""


async def cordon(resources: Resources, name: str, on: bool) -> None:
    def change(newest: core_pb2.Node) -> None:
        newest.spec.unschedulable = on

    await resources.mutate("Node", "", name, change)


async def test_a_flood_of_pods_is_bound_evenly(cluster: Cluster) -> None:
    store, resources = cluster
    for number in range(3):
        await resources.create(node(f"n{number}"))
    await asyncio.gather(*(resources.create(pod(f"p{number}", labels={"app": "web"})) for number in range(60)))
    await until(lambda: all(made.spec.nodeName for made in store.list("Pod")), "all pods bound")
    assert set(Counter(made.spec.nodeName for made in store.list("Pod")).values()) == {20}
    found = condition(get(store, "p0").status, "PodScheduled")
    assert found is not None and found.status == "True"
    await until(lambda: any(event.reason == "Scheduled" for event in store.list("Event")), "an event")


async def test_what_fits_nowhere_says_why_and_is_placed_when_room_comes(cluster: Cluster) -> None:
    store, resources = cluster
    await resources.create(pod("big", cpu="3"))
    await until(lambda: "no node has joined" in message(store, "big"), "a reason")
    await resources.create(node("small", cpu="2"))
    cordoned = node("cordoned")
    cordoned.spec.unschedulable = True
    await resources.create(cordoned)
    await until(lambda: "cordoned: cordoned" in message(store, "big"), "a reason per node")
    assert "small: needs 3 cpu, 2 free" in message(store, "big")
    assert message(store, "big").startswith(
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable."
    )
    await until(lambda: any(event.reason == "FailedScheduling" for event in store.list("Event")), "an event")
    await cordon(resources, "cordoned", False)
    await until(lambda: get(store, "big").spec.nodeName == "cordoned", "the pod bound after uncordon")


async def test_a_pod_that_went_frees_its_room(cluster: Cluster) -> None:
    store, resources = cluster
    await resources.create(node("n1", cpu="1"))
    await resources.create(pod("first", cpu="800m"))
    await until(lambda: bool(get(store, "first").spec.nodeName), "the first pod bound")
    await resources.create(pod("second", cpu="800m"))
    await until(lambda: "Insufficient cpu" in message(store, "second"), "a reason")
    await resources.finish_pod("default", "first", get(store, "first").metadata.uid)
    await until(lambda: bool(get(store, "second").spec.nodeName), "the second pod bound")


async def test_a_node_that_is_busy_by_measure_gets_less(tmp_path: Path) -> None:
    async with stored(tmp_path / "data") as (store, resources):
        for name in ("busy", "calm"):
            await resources.create(node(name))
        await asyncio.gather(*(resources.create(pod(f"p{number}")) for number in range(10)))
        measures = [("busy", {"cpu": "3500m", "memory": "1Gi"}), ("calm", {"cpu": "?"}), ("gone", {})]
        scheduler = Scheduler(store, resources, Chatty(), measures=lambda: measures)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(scheduler.run())
            await until(lambda: all(made.spec.nodeName for made in store.list("Pod")), "all pods bound")
            views = scheduler.explain("default", "p0")
            task.cancel()
        assert {made.spec.nodeName for made in store.list("Pod")} == {"calm"}
        assert [view.node for view in views] == ["calm", "busy"] and views[1].scores["MeasuredUse"] < 0


async def test_a_message_that_did_not_change_is_not_written(cluster: Cluster) -> None:
    store, resources = cluster
    await resources.create(node("other", ready="False"))
    await resources.create(pod("waits"))
    await until(lambda: "not Ready" in message(store, "waits"), "a reason")
    revision = get(store, "waits").metadata.resourceVersion
    for name in ("more-1", "more-2", "more-3"):
        await resources.create(pod(name))
        await until(lambda name=name: bool(message(store, name)), "a pass")  # type: ignore[misc]
    assert get(store, "waits").metadata.resourceVersion == revision


async def test_a_new_scheduler_counts_what_is_bound(tmp_path: Path) -> None:
    async with stored(tmp_path / "data") as (store, resources):
        await resources.create(node("n1", cpu="1"))
        await resources.create(pod("first", cpu="800m"))
        async with scheduling(store, resources):
            await until(lambda: bool(get(store, "first").spec.nodeName), "bound")
        await resources.create(pod("second", cpu="800m"))
        async with scheduling(store, resources):
            await until(lambda: "200m free" in message(store, "second"), "a reason")


async def test_a_pod_made_with_a_node_is_left_alone_and_counted(cluster: Cluster) -> None:
    store, resources = cluster
    await resources.create(node("n1", cpu="1"))
    await resources.create(pod("by-hand", cpu="900m", node="n1"))
    await resources.create(pod("waits", cpu="200m"))
    await until(lambda: "100m free" in message(store, "waits"), "a reason")


async def test_a_node_that_this_master_has_not_heard_gets_no_pods(tmp_path: Path) -> None:
    table = Chatty()
    table.silent.add("n1")
    async with stored(tmp_path / "data") as (store, resources):
        await resources.create(node("n1"))
        await resources.create(pod("waits"))
        async with scheduling(store, resources, table):
            await until(lambda: "n1: not heard" in message(store, "waits"), "a reason")
            table.silent.clear()
            await until(lambda: get(store, "waits").spec.nodeName == "n1", "the pod bound")
