"""The controllers on a real store: they converge, whatever happened, and clean up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from master.api.resources import Resources
from master.controllers.pods import condition, is_terminating
from master.dispatcher.nodes import NodeTable
from master.store.store import Put, Store, clone
from protos import core_pb2
from tests.master.controllers.builders import node, pod, rc, service
from tests.master.controllers.living import LossyStore, QuickTable, beating, controlled, stored, until


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[tuple[Store, Resources, NodeTable]]:
    async with stored(tmp_path / "data") as (store, resources):
        table = QuickTable()
        async with controlled(store, resources, table):
            yield store, resources, table


Cluster = tuple[Store, Resources, NodeTable]


def pods(store: Store) -> list[core_pb2.Pod]:
    return [made for made in store.list("Pod", "default") if not is_terminating(made)]


def read(store: Store, kind: str, name: str) -> Any:
    return store.get(kind, "" if kind == "Node" else "default", name)


async def set_ready(resources: Resources, made: core_pb2.Pod, ip: str, on: str) -> None:
    await resources.bind("default", made.metadata.name, made.metadata.uid, on)

    def change(newest: core_pb2.Pod) -> None:
        newest.status.phase, newest.status.podIP = "Running", ip
        ready = newest.status.conditions.add(type="Ready", status="True")
        ready.lastTransitionTime.GetCurrentTime()

    await resources.mutate("Pod", "default", made.metadata.name, change, status=True)


async def test_scales_replaces_and_counts(cluster: Cluster) -> None:
    store, resources, _ = cluster
    await resources.create(rc("web", 5))
    await until(lambda: len(pods(store)) == 5, "five pods")
    await resources.delete("Pod", "default", pods(store)[0].metadata.name)
    await until(lambda: len(pods(store)) == 5, "a replacement")

    def scale(newest: core_pb2.ReplicationController) -> None:
        newest.spec.replicas = 2

    await resources.mutate("ReplicationController", "default", "web", scale)
    await until(lambda: len(pods(store)) == 2, "two pods")
    await until(lambda: read(store, "ReplicationController", "web").status.replicas == 2, "the status")
    assert {event.reason for event in store.list("Event")} >= {"SuccessfulCreate", "SuccessfulDelete"}
    await resources.delete("ReplicationController", "default", "web")
    await until(lambda: not pods(store), "its pods to go")


async def test_many_controllers_at_once_never_make_too_many(cluster: Cluster) -> None:
    store, resources, _ = cluster
    most = 0
    await asyncio.gather(*(resources.create(rc(f"rc-{number}", 10)) for number in range(10)))

    def all_there() -> bool:
        nonlocal most
        most = max(most, len(pods(store)))
        return most == 100 and all(
            made.status.replicas == 10 for made in store.list("ReplicationController", "default")
        )

    await until(all_there, "100 pods")
    assert most == 100
    assert not [event for event in store.list("Event") if event.reason == "SuccessfulDelete"]


async def test_endpoints_follow_pods_and_nodes(cluster: Cluster) -> None:
    store, resources, table = cluster
    for name in ("n1", "n2"):
        await resources.create(node(name))
        table.opened(name, "session")
    await resources.create(service("web", {"app": "web"}, {"http": 8080}))
    await resources.create(rc("web", 2))
    await until(lambda: len(pods(store)) == 2, "two pods")
    for number, made in enumerate(pods(store)):
        await set_ready(resources, made, f"10.244.{number}.5", f"n{number + 1}")

    def ready() -> list[str]:
        found = store.get("Endpoints", "default", "web")
        return [] if found is None else [address.ip for subset in found.subsets for address in subset.addresses]

    def beat(*names: str) -> None:
        for name in names:
            table.heard(name)

    def when(expected: list[str]) -> Any:
        def holds() -> bool:
            beat("n1", "n2")
            return ready() == expected

        return holds

    await until(when(["10.244.0.5", "10.244.1.5"]), "both pods in the endpoints")

    def left() -> bool:
        beat("n1")
        return ready() == ["10.244.0.5"]

    await until(left, "the silent node's pod to leave the endpoints")
    found = condition(read(store, "Node", "n2").status, "Ready")
    assert found is not None and (found.status, found.reason) == ("Unknown", "NodeStatusUnknown")
    on_dead = next(made for made in store.list("Pod", "default") if made.spec.nodeName == "n2")

    def replaced() -> bool:
        beat("n1")
        gone = store.get("Pod", "default", on_dead.metadata.name)
        return bool(gone is not None and is_terminating(gone)) and len(pods(store)) == 2

    await until(replaced, "the dead node's pod to be replaced", seconds=60)
    await resources.delete("Service", "default", "web")
    await until(lambda: store.get("Endpoints", "default", "web") is None, "endpoints to go with their service")


async def test_a_namespace_is_emptied_and_goes(cluster: Cluster) -> None:
    store, resources, _ = cluster
    await resources.create(core_pb2.Namespace(metadata=core_pb2.ObjectMeta(name="old")))
    controller = rc("web", 3)
    controller.metadata.namespace = "old"
    await resources.create(controller)
    await until(lambda: len(store.list("Pod", "old")) == 3, "three pods")
    await resources.delete("Namespace", "", "old")
    await until(lambda: store.get("Namespace", "", "old") is None, "the namespace to go")
    assert not store.list("Pod", "old") and not store.list("ReplicationController", "old")


async def test_foreground_deletion_waits_for_the_pods(cluster: Cluster) -> None:
    store, resources, _ = cluster
    await resources.create(node("n1"))
    await resources.create(rc("web", 1))
    await until(lambda: len(pods(store)) == 1, "a pod")
    made = pods(store)[0]
    await set_ready(resources, made, "10.244.0.5", "n1")
    await resources.delete("ReplicationController", "default", "web", propagation="Foreground")
    await until(lambda: is_terminating(store.get("Pod", "default", made.metadata.name)), "the pod to be asked to go")
    assert store.get("ReplicationController", "default", "web") is not None
    await resources.finish_pod("default", made.metadata.name, made.metadata.uid)
    await until(lambda: store.get("ReplicationController", "default", "web") is None, "the controller to go last")


async def test_pods_of_a_removed_node_go(cluster: Cluster) -> None:
    store, resources, _ = cluster
    await resources.create(node("n1"))
    # Old enough for a missing Node to be believed.
    resources.clock = lambda: time.time() - 60
    await resources.create(pod("bare"))
    resources.clock = time.time
    made = read(store, "Pod", "bare")
    await set_ready(resources, made, "10.244.0.5", "n1")
    await resources.delete("Node", "", "n1")
    await until(lambda: store.get("Pod", "default", "bare") is None, "the lost pod to be removed")


async def test_what_cannot_be_created_is_told_on_the_controller(cluster: Cluster) -> None:
    store, resources, _ = cluster
    await resources.create(rc("web", 1))
    await until(lambda: len(pods(store)) == 1, "a pod")
    # Straight into the store: no validation stands between, as after an upgrade with stricter rules.
    bad = clone(store.get("ReplicationController", "default", "web"))
    bad.spec.replicas = 2
    bad.spec.template.spec.containers[0].name = "Not A Name"
    await store.commit(Put(bad))
    await until(lambda: any(event.reason == "FailedCreate" for event in store.list("Event")), "a FailedCreate event")


async def test_losing_three_changes_of_ten_still_converges(tmp_path: Path) -> None:
    async with stored(tmp_path / "data", LossyStore) as (store, resources):
        table = QuickTable()
        async with controlled(store, resources, table), beating(table, "n1"):
            await resources.create(node("n1"))
            for name in ("a", "b", "c"):
                await resources.create(rc(name, 4))
                await resources.create(service(name, {"app": name}, {"http": 8080}))
            await until(lambda: len(pods(store)) == 12, "twelve pods")
            for made in pods(store)[::2]:
                await resources.delete("Pod", "default", made.metadata.name)
            await until(lambda: len(pods(store)) == 12, "replacements")
            for number, made in enumerate(pods(store)):
                await set_ready(resources, made, f"10.244.0.{number + 2}", "n1")

            def complete() -> bool:
                found = [store.get("Endpoints", "default", name) for name in "abc"]
                return all(
                    endpoints is not None and sum(len(subset.addresses) for subset in endpoints.subsets) == 4
                    for endpoints in found
                ) and all(made.status.readyReplicas == 4 for made in store.list("ReplicationController"))

            await until(complete, "endpoints and statuses")
            await resources.delete("ReplicationController", "default", "a")
            await until(lambda: sum(not is_terminating(made) for made in store.list("Pod")) == 8, "a's pods to go")
