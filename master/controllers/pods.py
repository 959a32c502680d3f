"""What several controllers ask of a pod or a node; pure."""

from __future__ import annotations

from typing import Any

from protos import core_pb2, meta_pb2

FINISHED = frozenset({"Succeeded", "Failed"})


def condition(status: Any, kind: str) -> Any | None:
    """The condition of this type in a pod's or node's status, or None."""
    for found in status.conditions:
        if found.type == kind:
            return found
    return None


def is_ready(pod: core_pb2.Pod) -> bool:
    """True when the pod's Ready condition is True."""
    found = condition(pod.status, "Ready")
    return found is not None and found.status == "True"


def is_terminating(obj: Any) -> bool:
    """True once deletion was asked for."""
    return bool(obj.metadata.HasField("deletionTimestamp"))


def is_active(pod: core_pb2.Pod) -> bool:
    """Kubernetes' word for a pod that counts as a replica: neither finished nor Terminating."""
    return pod.status.phase not in FINISHED and not is_terminating(pod)


def ready_since(pod: core_pb2.Pod) -> float | None:
    """Unix seconds since which the pod is Ready, or None when it is not."""
    found = condition(pod.status, "Ready")
    if found is None or found.status != "True":
        return None
    return seconds(found.lastTransitionTime)


def is_available(pod: core_pb2.Pod, min_ready: int, now: float) -> bool:
    """Kubernetes' word for Ready, and that for `min_ready` seconds already; `now` in Unix seconds."""
    since = ready_since(pod)
    return since is not None and (not min_ready or since + min_ready <= now)


def seconds(stamp: Any) -> float:
    """A protobuf Timestamp as Unix seconds; 0 when unset."""
    return float(stamp.seconds) + float(stamp.nanos) / 1e9


def controller_of(obj: Any) -> meta_pb2.OwnerReference | None:
    """The one owner reference that manages the object, or None."""
    for reference in obj.metadata.ownerReferences:
        if reference.controller:
            found: meta_pb2.OwnerReference = reference
            return found
    return None


def node_serves(node: core_pb2.Node | None) -> bool:
    """False when traffic must not go to the node: it is gone, or its Ready condition is False or Unknown."""
    if node is None:
        return False
    found = condition(node.status, "Ready")
    return found is not None and found.status == "True"
