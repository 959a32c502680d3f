"""Deployments on a real store, with a real runner whose watch loses three changes of ten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from common.errors import SampanError
from master.api.resources import Resources
from master.controllers.pods import is_ready, is_terminating
from master.dispatcher.nodes import NodeTable
from master.store.store import Store, key_of
from protos import apps_pb2, core_pb2
from tests.master.controllers.builders import node
from tests.master.controllers.deployment.world import deployment
from tests.master.controllers.living import LossyStore, QuickTable, beating, controlled, stored, until

Cluster = tuple[Store, Resources, NodeTable]


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with stored(tmp_path / "data", LossyStore) as (store, resources):
        table = QuickTable()
        async with controlled(store, resources, table), beating(table, "n1"), asyncio.TaskGroup() as group:
            await resources.create(node("n1"))
            running = group.create_task(run_pods(store, resources))
            try:
                yield store, resources, table
            finally:
                running.cancel()


async def run_pods(store: Store, resources: Resources) -> None:
    """A node that makes every pod ready, and lets go of those that are to go."""
    while True:
        for pod in store.list("Pod", "default"):
            _, namespace, name = key_of(pod)
            if is_terminating(pod):
                await resources.finish_pod(namespace, name, pod.metadata.uid)
            elif not is_ready(pod):
                await resources.bind(namespace, name, pod.metadata.uid, "n1")
                await resources.mutate("Pod", namespace, name, _ready, status=True, uid=pod.metadata.uid)
        await asyncio.sleep(0.01)


def _ready(pod: core_pb2.Pod) -> None:
    pod.status.phase = "Running"
    del pod.status.conditions[:]
    pod.status.conditions.add(type="Ready", status="True").lastTransitionTime.GetCurrentTime()


def images(store: Store) -> list[str]:
    return [pod.spec.containers[0].image for pod in store.list("Pod", "default") if not is_terminating(pod)]


async def change(resources: Resources, how: Callable[[Any], None]) -> None:
    await resources.mutate("Deployment", "default", "web", how)


async def test_a_life_of_a_deployment(cluster: Cluster) -> None:
    store, resources, _ = cluster
    await resources.create(deployment(replicas=4))
    await until(lambda: images(store) == ["web:1"] * 4, "four pods")

    def update(found: apps_pb2.Deployment) -> None:
        found.spec.template.spec.containers[0].image = "web:2"

    await change(resources, update)
    await until(lambda: images(store) == ["web:2"] * 4, "the new template")

    def done() -> bool:
        found = store.get("Deployment", "default", "web")
        assert found is not None
        return any(
            one.reason == "NewReplicaSetAvailable" and '"' in one.message for one in found.status.conditions
        ) and (found.status.updatedReplicas == found.status.availableReplicas == 4)

    await until(done, "the status")
    reasons = {event.reason for event in store.list("Event", "default") if event.involvedObject.kind == "Deployment"}
    assert reasons == {"ScalingReplicaSet"}
    # A pod that is lost is replaced; a deleted Deployment takes its sets and pods along.
    metas = [pod.metadata for pod in store.list("Pod", "default")]
    # Old ones may still be on their way out.
    lost = next(meta for meta in metas if not meta.HasField("deletionTimestamp"))
    await resources.delete("Pod", "default", lost.name, grace_seconds=0)
    await until(lambda: len(images(store)) == 4, "a replacement")
    await resources.delete("Deployment", "default", "web")
    await until(lambda: not store.list("ReplicaSet", "default") and not images(store), "everything to go")


async def test_a_changed_secret_rolls_its_deployment(cluster: Cluster) -> None:
    store, resources, _ = cluster
    meta = core_pb2.ObjectMeta(name="keys", namespace="default")
    await resources.create(core_pb2.Secret(metadata=meta, data={"k": b"one"}))
    found = deployment(replicas=2)
    found.metadata.annotations["sampan.dev/restart-on-config-change"] = "true"
    found.spec.template.spec.containers[0].envFrom.add().secretRef.localObjectReference.name = "keys"
    await resources.create(found)
    await until(lambda: len(images(store)) == 2, "two pods")
    before = {pod.metadata.uid for pod in store.list("Pod", "default")}
    assert len(store.list("ReplicaSet", "default")) == 1, "the hash is there before the first ReplicaSet"

    def other(secret: core_pb2.Secret) -> None:
        secret.data["k"] = b"two"

    await resources.mutate("Secret", "default", "keys", other)

    def replaced() -> bool:
        pods = store.list("Pod", "default")
        return len(pods) == 2 and not before & {pod.metadata.uid for pod in pods}

    await until(replaced, "new pods")


async def test_pods_that_cannot_be_made_are_told_on_set_and_deployment(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, resources, _ = cluster
    create = resources.create

    async def refusing(obj: Any, **options: Any) -> Any:
        if isinstance(obj, core_pb2.Pod):
            raise SampanError("no pods today")
        return await create(obj, **options)

    monkeypatch.setattr(resources, "create", refusing)
    await resources.create(deployment(replicas=1))

    def told(kind: str) -> bool:
        return any(
            one.type == "ReplicaFailure" and one.status == "True" and "no pods today" in one.message
            for found in store.list(kind, "default")
            for one in found.status.conditions
        )

    await until(lambda: told("ReplicaSet") and told("Deployment"), "ReplicaFailure")
    monkeypatch.undo()
    await until(lambda: len(images(store)) == 1, "the pod after all")
    await until(lambda: not told("ReplicaSet") and not told("Deployment"), "the condition to go")
