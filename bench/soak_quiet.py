"""When a cluster is quiet: everything that was asked for is there, and nothing is on its way; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

MOVING = (
    "Node",
    "Namespace",
    "Pod",
    "Deployment",
    "ReplicaSet",
    "ReplicationController",
    "DaemonSet",
    "Job",
)
"""The kinds that show whether anything is on its way."""


def wanted_pods(owner: Any) -> int:
    """Of a Deployment, ReplicaSet or ReplicationController, with Kubernetes' default of one."""
    return owner.spec.replicas if owner.spec.HasField("replicas") else 1


def deployed(found: Any, *, available: bool = False) -> bool:
    """Whether a Deployment's rollout is over: all its pods are of the last template. `available`: and serve."""
    status, wanted = found.status, wanted_pods(found)
    rolled = bool(
        status.observedGeneration >= found.metadata.generation and status.updatedReplicas == wanted == status.replicas
    )
    return rolled and (not available or status.availableReplicas == wanted)


def unsettled(objects: Mapping[str, Sequence[Any]], nodes: int, passing: str) -> list[str]:
    """What is still on its way, in words; nothing when the cluster is quiet.

    `nodes`: how many there are to be; names of namespaces that come and go begin with `passing`.
    """
    found: Counter[str] = Counter()
    ready = sum(
        any(condition.type == "Ready" and condition.status == "True" for condition in node.status.conditions)
        for node in objects["Node"]
    )
    if ready != nodes or len(objects["Node"]) != nodes:
        found[f"{ready} of {len(objects['Node'])} nodes are Ready, not {nodes}"] = 1
    for kind, held in objects.items():
        for one in held:
            if one.metadata.HasField("deletionTimestamp"):
                found[f"{kind} is going"] += 1
    found["Deployment rolls"] = sum(not deployed(one) for one in objects["Deployment"])
    for kind in ("ReplicationController", "ReplicaSet"):
        found[f"{kind} scales"] = sum(one.status.replicas != wanted_pods(one) for one in objects[kind])
    found["DaemonSet rolls"] = sum(not _everywhere(one, nodes) for one in objects["DaemonSet"])
    found["Job is there"] = len(objects["Job"])
    found["Namespace is passing"] = sum(one.metadata.name.startswith(passing) for one in objects["Namespace"])
    found["Pod has no node"] = sum(not one.spec.nodeName for one in objects["Pod"])
    return [f"{count} × {what}" for what, count in found.items() if count]


def _everywhere(daemons: Any, nodes: int) -> bool:
    status = daemons.status
    return bool(
        status.observedGeneration >= daemons.metadata.generation
        and status.desiredNumberScheduled == nodes
        and status.updatedNumberScheduled == status.numberAvailable == nodes
    )
