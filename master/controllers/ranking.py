"""Which pods of a controller go first when it has too many; pure."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from master.controllers.pods import is_ready, ready_since, seconds
from master.controllers.proof import counts
from protos import core_pb2

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


def ranked(pods: Sequence[core_pb2.Pod], min_ready: int = 0, now: float = 0.0) -> list[core_pb2.Pod]:
    """Pods in the order in which they go, the least worth keeping first.

    Unassigned, then Pending, Unknown, then not Ready, then Ready for less than `min_ready` seconds or too short to have
    proven itself (Kubernetes does not ask that), then low deletion cost, then those on the fullest node, then those
    Ready for the shortest time, restarted most, created last. The fullest node is counted again after each pod, so that
    what stays is spread evenly (Kubernetes counts once).
    """
    worth = {id(pod): _worth(pod, min_ready, now) for pod in pods}
    queues: dict[str, list[core_pb2.Pod]] = {}
    for pod in sorted(pods, key=lambda pod: (worth[id(pod)], _age(pod))):
        queues.setdefault(pod.spec.nodeName, []).append(pod)
    heap = [(*_entry(queue, 0, worth), node) for node, queue in queues.items()]
    heapq.heapify(heap)
    order: list[core_pb2.Pod] = []
    at = dict.fromkeys(queues, 0)
    while heap:
        node = heap[0][-1]
        order.append(queues[node][at[node]])
        at[node] += 1
        if at[node] < len(queues[node]):
            heapq.heapreplace(heap, (*_entry(queues[node], at[node], worth), node))
        else:
            heapq.heappop(heap)
    return order


def _entry(
    queue: list[core_pb2.Pod], at: int, worth: dict[int, tuple[int, ...]]
) -> tuple[tuple[int, ...], int, tuple[float, int, float, str]]:
    pod = queue[at]
    return worth[id(pod)], -(len(queue) - at), _age(pod)


def _worth(pod: core_pb2.Pod, min_ready: int, now: float) -> tuple[int, ...]:
    phase = {"": 0, "Pending": 0, "Unknown": 1, "Running": 2}.get(pod.status.phase, 1)
    return bool(pod.spec.nodeName), phase, is_ready(pod), counts(pod, min_ready, now), _cost(pod)


def _age(pod: core_pb2.Pod) -> tuple[float, int, float, str]:
    restarts = max((status.restartCount for status in pod.status.containerStatuses), default=0)
    return -(ready_since(pod) or 0.0), -restarts, -seconds(pod.metadata.creationTimestamp), pod.metadata.name


def _cost(pod: core_pb2.Pod) -> int:
    try:
        return int(pod.metadata.annotations.get(DELETION_COST, "0"))
    except ValueError:
        return 0
