"""Placements a second of the scheduler's pure core, on a simulated cluster; prints machine, versions and figures.

python -m bench.scheduler [--nodes 5000] [--pods 100000] [--quick]
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import google.protobuf
import numpy as np

from master.scheduler.cluster import Cluster
from master.scheduler.core import place
from master.scheduler.preempt import carry_out, preempt
from master.scheduler.requests import Requests, Wanted
from protos import core_pb2

BATCH = 5000
ZONES = 3
Shape = Callable[[core_pb2.PodSpec], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=5000)
    parser.add_argument("--pods", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="fewer pods, one run: to see that it runs")
    options = parser.parse_args()
    if options.quick:
        options.pods, options.runs = min(options.pods, 20_000), 1
    print(
        f"machine: {platform.machine()}, {os.cpu_count()} cores; Python {platform.python_version()}, "
        f"numpy {np.__version__}, protobuf {google.protobuf.__version__}"
    )
    print(f"{options.nodes} nodes, {options.pods} pods, best of {options.runs} (target: 50,000 pods/s)")
    for title, controllers, batch in (
        ("one controller, batches of 5,000", 1, BATCH),
        ("100 controllers mixed, batches of 5,000", 100, BATCH),
        ("every pod alone (batch of 1)", 1, 1),
    ):
        count = options.pods if batch > 1 else min(options.pods, 5000)
        _show(title, count, [_run(options.nodes, count, controllers, batch) for _ in range(options.runs)])
    print("with rules, 10 controllers mixed, batches of 5,000:")
    for title, shape, most in SHAPES:
        count = min(options.pods, most, 10 * options.nodes)
        _show(f"  {title}", count, [_run(options.nodes, count, 10, BATCH, shape) for _ in range(options.runs)])
    seconds = min(_preempt(options.nodes) for _ in range(options.runs))
    print(f"a preemption on {options.nodes} full nodes: {1000 * seconds:.1f} ms")


def _show(title: str, count: int, runs: list[tuple[float, float]]) -> None:
    core, total = min(runs)
    print(f"{title:42} core {count / core:>9,.0f} pods/s; with reading the pods {count / total:>9,.0f} pods/s")


def _node_affinity(spec: core_pb2.PodSpec) -> None:
    required = spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution
    required.nodeSelectorTerms.add().matchExpressions.add(key="zone", operator="In", values=["z0", "z1"])
    preferred = spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution.add(weight=1)
    preferred.preference.matchExpressions.add(key="zone", operator="In", values=["z1"])


def _anti_affinity(spec: core_pb2.PodSpec) -> None:
    term = spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution.add()
    term.topologyKey = "kubernetes.io/hostname"
    term.labelSelector.matchLabels["app"] = spec.containers[0].image


def _affinity(spec: core_pb2.PodSpec) -> None:
    term = spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution.add(topologyKey="zone")
    term.labelSelector.matchLabels["app"] = spec.containers[0].image


def _preferred_anti_affinity(spec: core_pb2.PodSpec) -> None:
    weighted = spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution.add(weight=100)
    weighted.podAffinityTerm.topologyKey = "zone"
    weighted.podAffinityTerm.labelSelector.matchLabels["app"] = spec.containers[0].image


def _spread(key: str, when: str) -> Shape:
    def shape(spec: core_pb2.PodSpec) -> None:
        one = spec.topologySpreadConstraints.add(maxSkew=1, topologyKey=key, whenUnsatisfiable=when)
        one.labelSelector.matchLabels["app"] = spec.containers[0].image

    return shape


def _tolerations(spec: core_pb2.PodSpec) -> None:
    spec.tolerations.add(key="dedicated", operator="Equal", value="web", effect="NoSchedule")


SHAPES: tuple[tuple[str, Shape, int], ...] = (
    ("tolerations", _tolerations, 100_000),
    ("node affinity, required and preferred", _node_affinity, 100_000),
    ("anti-affinity by host", _anti_affinity, 50_000),
    ("affinity by zone", _affinity, 50_000),
    ("preferred anti-affinity by zone", _preferred_anti_affinity, 50_000),
    ("spread by zone, DoNotSchedule", _spread("zone", "DoNotSchedule"), 50_000),
    ("spread by host, DoNotSchedule", _spread("kubernetes.io/hostname", "DoNotSchedule"), 50_000),
    ("spread by zone, ScheduleAnyway", _spread("zone", "ScheduleAnyway"), 50_000),
)


def _preempt(nodes: int) -> float:
    """Seconds until victims are chosen for a pod that fits nowhere, where every node is full of lesser pods."""
    cluster, requests = _cluster(nodes), Requests()
    place(cluster, [requests.wanted(_pod(number, 0, cpu="16")) for number in range(2 * nodes)])
    boss = _pod(-1, 1, cpu="16")
    boss.spec.priority = 10
    wanted = requests.wanted(boss)
    with _timed() as took:
        assert not place(cluster, [wanted]).bound
        found = preempt(cluster, wanted)
    assert found is not None and len(found.victims) == 1
    carry_out(cluster, found)
    return took[0]


@contextmanager
def _timed() -> Iterator[list[float]]:
    took: list[float] = []
    started = time.perf_counter()
    yield took
    took.append(time.perf_counter() - started)


def _cluster(nodes: int) -> Cluster:
    cluster = Cluster()
    for number in range(nodes):
        cluster.put_node(_node(number), ready=True)
    return cluster


def _run(nodes: int, count: int, controllers: int, batch: int, shape: Shape | None = None) -> tuple[float, float]:
    """Seconds for placing alone, and for reading the pod messages as well."""
    cluster = _cluster(nodes)
    pods = [_pod(number, number % controllers, shape) for number in range(count)]
    requests = Requests()
    core = 0.0
    started = time.perf_counter()
    for at in range(0, count, batch):
        wanted: list[Wanted] = [requests.wanted(pod) for pod in pods[at : at + batch]]
        before = time.perf_counter()
        placement = place(cluster, wanted)
        core += time.perf_counter() - before
        assert not placement.waiting
    return core, time.perf_counter() - started


def _node(number: int) -> core_pb2.Node:
    node = core_pb2.Node()
    node.metadata.name = f"node-{number}"
    node.metadata.labels["zone"] = f"z{number % ZONES}"
    node.metadata.labels["kubernetes.io/hostname"] = node.metadata.name
    for resource, text in (("cpu", "32"), ("memory", "128Gi"), ("pods", "1000")):
        node.status.allocatable[resource].value = text
    return node


def _pod(number: int, controller: int, shape: Shape | None = None, cpu: str = "10m") -> core_pb2.Pod:
    pod = core_pb2.Pod()
    pod.metadata.name, pod.metadata.namespace, pod.metadata.uid = f"p{number}", "default", str(number)
    pod.metadata.ownerReferences.add(kind="ReplicationController", uid=f"rc-{controller}", controller=True)
    container = pod.spec.containers.add(name="main", image=f"app-{controller}:1")
    container.resources.requests["cpu"].value = cpu
    container.resources.requests["memory"].value = "16Mi"
    pod.metadata.labels["app"] = container.image
    if shape is not None:
        shape(pod.spec)
    return pod


if __name__ == "__main__":
    main()
