"""When the soak calls a cluster quiet."""

from __future__ import annotations

from typing import Any

from bench.soak_quiet import MOVING, deployed, unsettled
from protos import apps_pb2, core_pb2


def node(name: str, ready: str = "True") -> core_pb2.Node:
    made = core_pb2.Node(metadata=core_pb2.ObjectMeta(name=name))
    made.status.conditions.add(type="Ready", status=ready)
    return made


def rolled(**status: int) -> apps_pb2.Deployment:
    made = apps_pb2.Deployment()
    made.metadata.name, made.metadata.generation = "web", 3
    made.spec.replicas = 4
    figures = {"observedGeneration": 3, "replicas": 4, "updatedReplicas": 4, "availableReplicas": 4, **status}
    for name, value in figures.items():
        setattr(made.status, name, value)
    return made


def cluster(**more: list[Any]) -> dict[str, list[Any]]:
    objects: dict[str, list[Any]] = {kind: [] for kind in MOVING}
    return objects | {"Node": [node("a"), node("b")], "Deployment": [rolled()]} | more


def test_a_rollout_is_over_when_all_its_pods_are_of_the_last_template() -> None:
    assert deployed(rolled())
    assert not deployed(rolled(observedGeneration=2))
    assert not deployed(rolled(updatedReplicas=3))
    assert not deployed(rolled(replicas=5)), "old pods are still there"
    assert deployed(rolled(availableReplicas=2)) and not deployed(rolled(availableReplicas=2), available=True)


def test_quiet_is_when_nothing_is_on_its_way() -> None:
    going = core_pb2.Pod()
    going.metadata.deletionTimestamp.seconds = 1
    going.spec.nodeName = "a"
    passing = core_pb2.Namespace()
    passing.metadata.name = "passing-1"
    assert unsettled(cluster(), 2, "passing-") == []
    assert unsettled(cluster(), 3, "passing-") == ["1 × 2 of 2 nodes are Ready, not 3"]
    assert unsettled(cluster(Node=[node("a"), node("b", "Unknown")]), 2, "passing-")
    assert unsettled(cluster(Pod=[going]), 2, "passing-") == ["1 × Pod is going"]
    assert unsettled(cluster(Pod=[core_pb2.Pod()]), 2, "passing-") == ["1 × Pod has no node"]
    assert unsettled(cluster(Namespace=[passing]), 2, "passing-") == ["1 × Namespace is passing"]
    assert unsettled(cluster(Deployment=[rolled(updatedReplicas=3)]), 2, "passing-") == ["1 × Deployment rolls"]
