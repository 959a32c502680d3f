"""DaemonSets, Jobs, taints and budgets on a real store whose watches lose three changes of ten: they converge."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from common.errors import BudgetExhausted
from master.api.eviction import evict
from master.api.resources import Resources
from master.controllers.nodefit import pinned_to
from master.controllers.pods import FINISHED, is_terminating
from master.dispatcher.nodes import NodeTable
from master.store.store import Store
from protos import apps_pb2, batch_pb2, core_pb2, policy_pb2
from tests.master.controllers.builders import node, rc
from tests.master.controllers.living import LossyStore, QuickTable, controlled, stored, until


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[tuple[Store, Resources, NodeTable]]:
    async with stored(tmp_path / "data", LossyStore) as (store, resources):
        table = QuickTable()
        async with controlled(store, resources, table):
            yield store, resources, table


Cluster = tuple[Store, Resources, NodeTable]


def live(store: Store) -> list[core_pb2.Pod]:
    return [p for p in store.list("Pod", "default") if not is_terminating(p) and p.status.phase not in FINISHED]


async def become(resources: Resources, pod: core_pb2.Pod, phase: str, on: str = "") -> None:
    """The scheduler places the pod, and its node reports."""
    meta = pod.metadata
    await resources.bind("default", meta.name, meta.uid, pod.spec.nodeName or on or pinned_to(pod.spec) or "n0")

    def change(newest: core_pb2.Pod) -> None:
        newest.status.phase = phase
        del newest.status.conditions[:]
        ready = newest.status.conditions.add(type="Ready", status="True" if phase == "Running" else "False")
        ready.lastTransitionTime.GetCurrentTime()

    await resources.mutate("Pod", "default", meta.name, change, status=True, uid=meta.uid)


async def sweep(store: Store, resources: Resources) -> None:
    """Nodes stop what is going."""
    for pod in store.list("Pod", "default"):
        if is_terminating(pod) and pod.spec.nodeName:
            await resources.finish_pod("default", pod.metadata.name, pod.metadata.uid)


def fill(spec: Any, app: str, **more: Any) -> None:
    spec.metadata.labels["app"] = app
    spec.spec.CopyFrom(core_pb2.PodSpec(containers=[core_pb2.Container(name="c", image="i:1")], **more))


async def test_a_daemon_set_covers_the_nodes(cluster: Cluster) -> None:
    store, resources, table = cluster
    names = [f"n{number}" for number in range(4)]
    for name in names:
        await resources.create(node(name))
        table.heard(name)
    ds = apps_pb2.DaemonSet()
    ds.metadata.name = "logs"
    ds.spec.selector.matchLabels["app"] = "logs"
    fill(ds.spec.template, "logs")
    await resources.create(ds)

    def covered(*wanted: str) -> bool:
        for name in wanted:
            table.heard(name)
        return sorted(pinned_to(pod.spec) for pod in live(store)) == sorted(wanted)

    await until(lambda: covered(*names), "a pod for each node")
    await resources.delete("Node", "", "n3")
    await until(lambda: covered("n0", "n1", "n2"), "none for the node that is gone")
    for pod in live(store):
        await become(resources, pod, "Running")

    def change(newest: apps_pb2.DaemonSet) -> None:
        newest.spec.template.spec.containers[0].image = "i:2"

    await resources.mutate("DaemonSet", "default", "logs", change)

    def updated() -> bool:
        return bool(resources.get("DaemonSet", "default", "logs").status.updatedNumberScheduled == 3)

    for _ in range(60):
        if updated():
            break
        await sweep(store, resources)
        for pod in live(store):
            if pod.status.phase == "Pending":
                await become(resources, pod, "Running")
        with contextlib.suppress(AssertionError):
            await until(lambda: updated() or any(map(is_terminating, store.list("Pod"))), "the next step", 1)
    assert updated() and covered("n0", "n1", "n2")

    def kept() -> list[int]:
        return sorted(one.revision for one in store.list("ControllerRevision", "default"))

    await until(lambda: kept() == [1, 2], "both templates are known")
    await resources.delete("DaemonSet", "default", "logs")
    await until(lambda: not kept(), "they go with their set")


async def test_a_job_counts_each_pod_once_and_lets_go_of_all(cluster: Cluster) -> None:
    store, resources, _ = cluster
    job = batch_pb2.Job()
    job.metadata.name = "pi"
    job.spec.completions, job.spec.parallelism = 20, 5
    fill(job.spec.template, "pi", restartPolicy="Never")
    await resources.create(job)

    def status() -> batch_pb2.JobStatus:
        found: batch_pb2.JobStatus = store.get("Job", "default", "pi").status  # type: ignore[union-attr]
        return found

    def over() -> bool:
        return any(c.type == "Complete" and c.status == "True" for c in status().conditions)

    ended: set[str] = set()
    for _ in range(200):
        if over():
            break
        assert len(live(store)) <= 5
        for pod in live(store):
            await become(resources, pod, "Succeeded")
            ended.add(pod.metadata.uid)
        with contextlib.suppress(AssertionError):
            await until(lambda: over() or bool(live(store)), "more pods, or the end", 2)
    assert over() and len(ended) == 20
    assert (status().succeeded, status().failed, status().active) == (20, 0, 0)
    await until(lambda: not any(pod.metadata.finalizers for pod in store.list("Pod")), "no pod is held")
    await resources.delete("Job", "default", "pi")
    await until(lambda: not store.list("Pod", "default"), "its pods go with it")


async def test_pods_of_a_job_that_vanished_are_let_go(cluster: Cluster) -> None:
    store, resources, _ = cluster
    job = batch_pb2.Job()
    job.metadata.name = "long"
    fill(job.spec.template, "long", restartPolicy="Never")
    await resources.create(job)
    await until(lambda: bool(live(store)), "its pod")
    await become(resources, live(store)[0], "Running")
    await resources.delete("Job", "default", "long")

    def gone() -> bool:
        return not any(pod.metadata.finalizers for pod in store.list("Pod"))

    await until(lambda: gone() and not live(store), "the pod is going, and only its node holds it")
    await sweep(store, resources)
    await until(lambda: not store.list("Pod", "default"), "it goes")


async def test_a_budget_follows_its_pods_and_evictions_respect_it(cluster: Cluster) -> None:
    store, resources, _ = cluster
    await resources.create(rc("web", 3))
    pdb = policy_pb2.PodDisruptionBudget()
    pdb.metadata.name = "web"
    pdb.spec.selector.matchLabels["app"] = "web"
    pdb.spec.minAvailable.type, pdb.spec.minAvailable.strVal = 1, "50%"
    await resources.create(pdb)

    def status() -> policy_pb2.PodDisruptionBudgetStatus:
        found: policy_pb2.PodDisruptionBudgetStatus = store.get("PodDisruptionBudget", "default", "web").status  # type: ignore[union-attr]
        return found

    await until(lambda: len(live(store)) == 3, "three pods")
    assert status().disruptionsAllowed == 0
    first, *_ = pods = live(store)
    for pod in pods:
        await become(resources, pod, "Running", "n0")
    await until(lambda: (status().desiredHealthy, status().disruptionsAllowed) == (2, 1), "one may go")
    await evict(resources, "default", first.metadata.name)
    with pytest.raises(BudgetExhausted):
        await evict(resources, "default", pods[1].metadata.name)
    await until(lambda: not status().disruptedPods and status().currentHealthy == 2, "the eviction is seen")
    with pytest.raises(BudgetExhausted, match="needs 2 healthy pods and has 2"):
        await evict(resources, "default", pods[1].metadata.name)


async def test_a_node_mirrors_its_state_in_taints(cluster: Cluster) -> None:
    store, resources, table = cluster
    for name in ("n0", "n1"):
        await resources.create(node(name))
    table.heard("n0")

    def marks(name: str) -> set[str]:
        table.heard("n0")
        return {f"{t.key.rpartition('/')[2]}:{t.effect}" for t in store.get("Node", "", name).spec.taints}  # type: ignore[union-attr]

    await until(lambda: marks("n1") == {"unreachable:NoSchedule", "unreachable:NoExecute"}, "a silent node")
    assert marks("n0") == set()

    def cordon(newest: core_pb2.Node) -> None:
        newest.spec.unschedulable = True

    await resources.mutate("Node", "", "n0", cordon)
    await until(lambda: marks("n0") == {"unschedulable:NoSchedule"}, "a cordoned node")
