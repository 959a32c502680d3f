"""The scheduler on a real store: preemption through the ordinary delete, and what waits for labels, taints and pods."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from common import manifest
from master.api.resources import Resources
from master.controllers.pods import condition, is_terminating
from master.store.store import Store
from protos import core_pb2, scheduling_pb2
from tests.master.controllers.builders import node, pod
from tests.master.controllers.living import stored, until
from tests.master.scheduler.test_domains import near, specified
from tests.master.scheduler.test_shell import Cluster, get, message, scheduling


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with stored(tmp_path / "data") as (store, resources), scheduling(store, resources):
        yield store, resources


async def important(resources: Resources, name: str, value: int) -> None:
    made = scheduling_pb2.PriorityClass(value=value, preemptionPolicy="PreemptLowerPriority")
    made.metadata.name = name
    await resources.create(made)


async def change(resources: Resources, name: str, what: Callable[[Any], None]) -> None:
    await resources.mutate("Node", "", name, what)


def events(store: Store, reason: str) -> dict[str, str]:
    return {event.involvedObject.name: event.message for event in store.list("Event") if event.reason == reason}


async def test_a_more_important_pod_takes_the_room_of_a_lesser_one(cluster: Cluster) -> None:
    store, resources = cluster
    await important(resources, "high", 1000)
    await resources.create(node("n1", cpu="1"))
    await resources.create(pod("low", cpu="800m"))
    await until(lambda: bool(get(store, "low").spec.nodeName), "the lesser pod bound")
    await resources.create(specified("boss", {"priorityClassName": "high"}, cpu="800m"))
    await until(lambda: is_terminating(get(store, "low")), "the lesser pod asked to go")
    low = get(store, "low")
    assert low.metadata.deletionGracePeriodSeconds == 30, "it leaves with its grace"
    target = condition(low.status, "DisruptionTarget")
    assert target is not None and target.reason == "PreemptionByScheduler" and "default/boss" in target.message
    await until(lambda: get(store, "boss").status.nominatedNodeName == "n1", "the nomination")
    await until(lambda: set(events(store, "Preempted")) == {"low", "boss"}, "the events")
    assert events(store, "Preempted")["boss"].startswith("Preempted default/low (priority 0) on node n1")
    # Meanwhile nobody of less importance takes what is kept.
    await resources.create(pod("thief", cpu="300m"))
    await until(lambda: "room there is kept for" in message(store, "thief"), "a reason")
    await resources.finish_pod("default", "low", low.metadata.uid)
    await until(lambda: get(store, "boss").spec.nodeName == "n1", "the important pod bound")
    await until(lambda: "Insufficient cpu" in message(store, "thief"), "the thief still waits")


async def test_a_pod_that_may_not_preempt_waits(cluster: Cluster) -> None:
    store, resources = cluster
    made = scheduling_pb2.PriorityClass(value=1000, preemptionPolicy="Never")
    made.metadata.name = "polite"
    await resources.create(made)
    await resources.create(node("n1", cpu="1"))
    await resources.create(pod("low", cpu="800m"))
    await until(lambda: bool(get(store, "low").spec.nodeName), "the lesser pod bound")
    await resources.create(specified("polite", {"priorityClassName": "polite"}, cpu="800m"))
    await until(lambda: "Insufficient cpu" in message(store, "polite"), "a reason")
    assert not is_terminating(get(store, "low"))


async def test_the_important_one_of_two_that_wait_is_placed_first(cluster: Cluster) -> None:
    store, resources = cluster
    await important(resources, "high", 1000)
    await resources.create(pod("first", cpu="800m"))
    await resources.create(specified("second", {"priorityClassName": "high"}, cpu="800m"))
    await until(lambda: bool(message(store, "first") and message(store, "second")), "both wait")
    await resources.create(node("n1", cpu="1"))
    await until(lambda: get(store, "second").spec.nodeName == "n1", "the important pod bound")
    assert not get(store, "first").spec.nodeName


async def test_what_waits_for_a_label_a_taint_or_another_pod_is_placed_when_that_comes(cluster: Cluster) -> None:
    store, resources = cluster
    tainted = node("n1", labels={"host": "n1"})
    tainted.spec.taints.add(key="gpu", value="yes", effect="NoSchedule")
    await resources.create(tainted)
    await resources.create(specified("follower", {"affinity": near("host", "db")}, app="x"))
    await until(lambda: "untolerated taint" in message(store, "follower"), "the taint as the reason")

    def untaint(newest: core_pb2.Node) -> None:
        del newest.spec.taints[:]

    await change(resources, "n1", untaint)
    await until(lambda: "no pod with app=db is in the same host" in message(store, "follower"), "the affinity")
    await resources.create(pod("leader", labels={"app": "db"}))
    await until(lambda: get(store, "follower").spec.nodeName == "n1", "the follower beside its leader")
    await resources.create(specified("chooser", {"nodeSelector": {"disk": "ssd"}}))
    await until(lambda: "nodeSelector disk=ssd" in message(store, "chooser"), "the label as the reason")

    def label(newest: core_pb2.Node) -> None:
        newest.metadata.labels["disk"] = "ssd"

    await change(resources, "n1", label)
    await until(lambda: get(store, "chooser").spec.nodeName == "n1", "the chooser bound")


async def test_a_pod_made_with_a_node_by_hand_lets_its_friends_in(cluster: Cluster) -> None:
    store, resources = cluster
    await resources.create(node("n1", labels={"host": "n1"}))
    await resources.create(specified("friend", {"affinity": near("host", "db")}, app="x"))
    await until(lambda: bool(message(store, "friend")), "a reason")
    await resources.create(pod("db", labels={"app": "db"}, node="n1"))
    await until(lambda: get(store, "friend").spec.nodeName == "n1", "the friend bound")


TOLERATING = """
apiVersion: v1
kind: Pod
metadata: {name: nginx, labels: {env: test}}
spec:
  containers: [{name: nginx, image: nginx, imagePullPolicy: IfNotPresent}]
  tolerations: [{key: example-key, operator: Exists, effect: NoSchedule}]
"""
SPREADING = """
kind: Pod
apiVersion: v1
metadata: {name: mypod, labels: {foo: bar}}
spec:
  topologySpreadConstraints:
  - {maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {foo: bar}}}
  containers: [{name: pause, image: "registry.k8s.io/pause:3.1"}]
"""


def read(text: str) -> core_pb2.Pod:
    found = manifest.from_manifest(yaml.safe_load(text))
    assert isinstance(found.message, core_pb2.Pod) and not found.warnings
    found.message.metadata.namespace = "default"
    return found.message


async def test_the_examples_of_kubernetes_go_where_its_pages_say(cluster: Cluster) -> None:
    store, resources = cluster
    zones = {"node1": "zoneA", "node2": "zoneA", "node3": "zoneB", "node4": "zoneB"}
    for name, zone in zones.items():
        made = node(name, labels={"zone": zone})
        if name == "node1":
            made.spec.taints.add(key="example-key", value="x", effect="NoSchedule")
        await resources.create(made)
    for number, name in enumerate(("node1", "node2", "node3")):
        await resources.create(pod(f"there{number}", labels={"foo": "bar"}, node=name))
    await until(lambda: len(store.list("Pod")) == 3, "three pods")
    await resources.create(read(SPREADING))
    await until(lambda: get(store, "mypod").spec.nodeName in ("node3", "node4"), "the pod in zone B")
    for name in ("node2", "node3", "node4"):
        await change(resources, name, lambda newest: newest.spec.MergeFrom(core_pb2.NodeSpec(unschedulable=True)))
    await resources.create(pod("plain"))
    await resources.create(read(TOLERATING))
    await until(lambda: get(store, "nginx").spec.nodeName == "node1", "the tolerating pod on the tainted node")
    assert "untolerated taint {example-key: x}" in message(store, "plain")
