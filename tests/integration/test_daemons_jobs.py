"""DaemonSets, Jobs, taints and drains over a master's parts and agents on simulated engines, with real gRPC between."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from common.errors import BudgetExhausted
from master.api.eviction import evict
from master.controllers.pods import is_ready, is_terminating
from master.controllers.runner import Controllers
from master.scheduler.shell import Scheduler
from node_agent.runtime.script import Behaviour, run_for_ever
from node_agent.runtime.seam import ContainerSpec
from protos import apps_pb2, batch_pb2, core_pb2, policy_pb2
from tests.integration.simulated import Cluster, eventually


class Whole(Cluster):
    """The cluster with controllers and scheduler, which the smaller tests do without."""

    async def __aenter__(self) -> Whole:
        await super().__aenter__()
        return self

    @property
    def resources(self) -> Any:
        return self.master.resources

    def pods(self, *, live: bool = True) -> list[core_pb2.Pod]:
        return [pod for pod in self.master.store.list("Pod", "default") if not (live and is_terminating(pod))]

    def places(self) -> list[str]:
        """Nodes on which a live pod runs, sorted."""
        return sorted(pod.spec.nodeName for pod in self.pods() if pod.status.phase == "Running" and is_ready(pod))

    def get(self, kind: str, name: str) -> Any:
        return self.master.store.get(kind, "" if kind == "Node" else "default", name)

    async def started(self, *names: str, behave: Callable[[ContainerSpec], Behaviour] = run_for_ever) -> None:
        for name in names:
            node = self.node(name)
            node.script.behave = behave
            node.start()
        await self.until_ready(*names)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Whole]:
    async with Whole(tmp_path) as made, asyncio.TaskGroup() as group:
        master = made.master
        controllers = Controllers(master.store, master.resources, master.dispatcher.nodes)
        scheduler = Scheduler(master.store, master.resources, master.dispatcher.nodes)
        tasks = [group.create_task(controllers.run()), group.create_task(scheduler.run())]
        try:
            yield made
        finally:
            for task in tasks:
                task.cancel()


def template(into: Any, app: str, **spec: Any) -> None:
    into.metadata.labels["app"] = app
    into.spec.CopyFrom(core_pb2.PodSpec(containers=[core_pb2.Container(name="c", image="busybox:1")], **spec))


async def daemons(cluster: Whole, name: str) -> apps_pb2.DaemonSet:
    ds = apps_pb2.DaemonSet()
    ds.metadata.name = name
    ds.spec.selector.matchLabels["app"] = name
    template(ds.spec.template, name)
    made: apps_pb2.DaemonSet = await cluster.resources.create(ds)
    return made


async def test_a_daemon_set_follows_the_nodes_and_their_taints(cluster: Whole) -> None:
    await cluster.started("node-1", "node-2")
    await daemons(cluster, "logs")
    await eventually(lambda: cluster.places() == ["node-1", "node-2"], 60)
    await cluster.started("node-3")
    await eventually(lambda: cluster.places() == ["node-1", "node-2", "node-3"], 60)

    def change(image: str) -> Callable[[Any], None]:
        def do(newest: Any) -> None:
            newest.spec.template.spec.containers[0].image = image

        return do

    await cluster.resources.mutate("DaemonSet", "default", "logs", change("busybox:2"))
    await eventually(
        lambda: (
            cluster.places() == ["node-1", "node-2", "node-3"]
            and {pod.spec.containers[0].image for pod in cluster.pods()} == {"busybox:2"}
        ),
        90,
    )
    await eventually(lambda: cluster.get("DaemonSet", "logs").status.updatedNumberScheduled == 3)

    def taint(newest: core_pb2.Node) -> None:
        newest.spec.taints.add(key="broken", effect="NoExecute")

    await cluster.resources.mutate("Node", "", "node-2", taint)
    await eventually(lambda: cluster.places() == ["node-1", "node-3"], 60)

    def cordon(newest: core_pb2.Node) -> None:
        newest.spec.unschedulable = True
        del newest.spec.taints[:]

    await cluster.resources.mutate("Node", "", "node-2", cordon)
    await eventually(
        lambda: [t.key for t in cluster.get("Node", "node-2").spec.taints] == ["node.kubernetes.io/unschedulable"]
    )
    # A daemon pod bears the cordon: it comes back.
    await eventually(lambda: cluster.places() == ["node-1", "node-2", "node-3"], 60)


async def test_jobs_run_to_their_end_and_are_counted(cluster: Whole) -> None:
    def behave(spec: ContainerSpec) -> Behaviour:
        failing = spec.identity.pod.startswith("bad")
        return Behaviour(exits_after=0.05, exit_code=1 if failing else 0)

    await cluster.started("node-1", "node-2", behave=behave)
    for name, limit in (("good", 6), ("bad", 0)):
        job = batch_pb2.Job()
        job.metadata.name = name
        job.spec.completions, job.spec.parallelism, job.spec.backoffLimit = 6, 2, limit
        job.spec.completionMode = "Indexed"
        template(job.spec.template, name, restartPolicy="Never")
        await cluster.resources.create(job)

    def held(name: str, kind: str) -> str:
        status = cluster.get("Job", name).status
        return next((c.reason or "yes" for c in status.conditions if c.type == kind and c.status == "True"), "")

    await eventually(lambda: bool(held("good", "Complete")), 60)
    status = cluster.get("Job", "good").status
    assert (status.succeeded, status.failed, status.completedIndexes) == (6, 0, "0-5")
    await eventually(lambda: held("bad", "Failed") == "BackoffLimitExceeded", 60)
    await eventually(lambda: not any(pod.metadata.finalizers for pod in cluster.pods(live=False)))
    await cluster.resources.delete("Job", "default", "good")
    await cluster.resources.delete("Job", "default", "bad")
    await eventually(lambda: not cluster.pods(live=False), 60)


async def test_a_deleted_job_lets_its_running_pods_go(cluster: Whole) -> None:
    await cluster.started("node-1")
    job = batch_pb2.Job()
    job.metadata.name = "long"
    template(job.spec.template, "long", restartPolicy="OnFailure")
    await cluster.resources.create(job)
    await eventually(lambda: cluster.places() == ["node-1"], 60)
    await cluster.resources.delete("Job", "default", "long", propagation="Foreground")
    await eventually(lambda: not cluster.pods(live=False) and cluster.get("Job", "long") is None, 60)


async def test_evictions_never_take_more_than_the_budget_allows(cluster: Whole) -> None:
    """Everything on a node is evicted at once, again and again, until it is empty: at least 3 of 4 always serve."""
    await cluster.started("node-1", "node-2")
    rc = core_pb2.ReplicationController()
    rc.metadata.name = "web"
    rc.spec.replicas = 4
    rc.spec.selector["app"] = "web"
    template(rc.spec.template, "web")
    await cluster.resources.create(rc)
    pdb = policy_pb2.PodDisruptionBudget()
    pdb.metadata.name = "web"
    pdb.spec.selector.matchLabels["app"] = "web"
    pdb.spec.maxUnavailable.intVal = 1
    await cluster.resources.create(pdb)
    await eventually(lambda: cluster.places() == ["node-1", "node-1", "node-2", "node-2"], 60)
    await eventually(lambda: cluster.get("PodDisruptionBudget", "web").status.disruptionsAllowed == 1)

    def cordon(newest: core_pb2.Node) -> None:
        newest.spec.unschedulable = True

    await cluster.resources.mutate("Node", "", "node-1", cordon)
    refused = 0
    least = 4
    watch = cluster.master.store.watch(["Pod"])

    async def count() -> None:
        nonlocal least
        while await watch.batch():
            least = min(least, len(cluster.places()))

    async with asyncio.TaskGroup() as group:
        counting = group.create_task(count())
        try:
            async with asyncio.timeout(120):
                while on := [pod for pod in cluster.pods() if pod.spec.nodeName == "node-1"]:
                    for pod in on:
                        with contextlib.suppress(BudgetExhausted):
                            refused += 1
                            await evict(cluster.resources, "default", pod.metadata.name, uid=pod.metadata.uid)
                            refused -= 1
                    await asyncio.sleep(0.02)
            await eventually(lambda: cluster.places() == ["node-2"] * 4, 60)
        finally:
            counting.cancel()
            watch.close()
    assert refused > 0 and least == 3
