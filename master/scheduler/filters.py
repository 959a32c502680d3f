"""What a node must have on its own for a pod: readiness, labels, taints, host ports, room; pure.

What depends on other pods of a domain is in domains.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from master.scheduler.cluster import Cluster, Taint
from master.scheduler.columns import Bools
from master.scheduler.hostports import clash
from master.scheduler.requests import Request, Toleration

HARD_EFFECTS = ("NoSchedule", "NoExecute")
CORDON: Taint = ("node.kubernetes.io/unschedulable", "", "NoSchedule")
"""What a cordon is to tolerations, as in Kubernetes."""

Promised = Mapping[int, Sequence[Request]]
"""What other pods were promised, by row; see Cluster.promised."""

NOTHING_PROMISED: Promised = {}


def suitable(cluster: Cluster, request: Request) -> Bools:
    """Rows that would do if they were empty: nothing that pods can make room for is asked."""
    size = cluster.size
    mask: Bools = cluster.exists[:size] & cluster.ready[:size] & cluster.fresh[:size]
    if not tolerated(request.tolerations, CORDON):
        mask &= ~cluster.cordoned[:size]
    if request.selector or request.rules is not None:
        mask &= chosen(cluster, request)
    if len(cluster.taint_sets) > 1:
        mask &= untainted(cluster, request.tolerations)
    return mask


def chosen(cluster: Cluster, request: Request) -> Bools:
    """Rows that nodeSelector and required node affinity choose."""
    mask = np.ones(cluster.size, bool)
    if request.selector:
        mask &= cluster.columns.equal(request.selector)
    if request.rules is not None and request.rules.nodes is not None:
        mask &= cluster.columns.any_of(request.rules.nodes)
    return mask


def fitting(cluster: Cluster, request: Request, promised: Promised = NOTHING_PROMISED) -> Bools:
    """Rows on which the pod may run now, as far as the node itself is concerned."""
    size = cluster.size
    mask = suitable(cluster, request)
    room, used = cluster.room[:size], cluster.used[:size]
    mask &= used[:, 2] < room[:, 2]
    if request.cpu:
        mask &= room[:, 0] - used[:, 0] >= request.cpu
    if request.memory:
        mask &= room[:, 1] - used[:, 1] >= request.memory
    for port in request.ports:
        for row in cluster.ports.rows(port):
            mask[row] = False
    if request.extra:
        for row in np.flatnonzero(mask).tolist():
            mask[row] = not any(missing_extra(cluster, request, row))
    for row in promised:
        if mask[row]:
            mask[row] = has_room(cluster, request, row, promised)
    return mask


def has_room(cluster: Cluster, request: Request, row: int, promised: Promised = NOTHING_PROMISED) -> bool:
    """Whether resources and host ports of one row suffice: what another placement there may have changed."""
    cpu, memory, pods = request.cpu, request.memory, 1
    if promised:
        for other in promised.get(row, ()):
            cpu, memory, pods = cpu + other.cpu, memory + other.memory, pods + 1
            if any(clash(port, taken) for port in request.ports for taken in other.ports):
                return False
    room, used = cluster.room_by, cluster.used_by
    if used[2][row] + pods > room[2][row] or (request.cpu and room[0][row] - used[0][row] < cpu):
        return False
    if request.memory and room[1][row] - used[1][row] < memory:
        return False
    for port in request.ports:
        if cluster.ports.user(port, row) is not None:
            return False
    return not request.extra or not any(missing_extra(cluster, request, row, promised))


def missing_extra(
    cluster: Cluster, request: Request, row: int, promised: Promised = NOTHING_PROMISED
) -> Iterable[tuple[str, int, int]]:
    """Other resources of which the node has too little: name, needed, free.

    Ephemeral storage counts only where the node reports it: Docker hosts don't keep account of it.
    """
    room, used = cluster.extra_room[row], cluster.extra_used[row]
    for name, needed in request.extra:
        if name == "ephemeral-storage" and name not in room:
            continue
        others = sum(dict(other.extra).get(name, 0) for other in promised.get(row, ()))
        free = room.get(name, 0) - used.get(name, 0) - others
        if free < needed:
            yield name, needed, free


# -- taints -----------------------------------------------------------------------------------


def tolerated(tolerations: Sequence[Toleration], taint: Taint) -> bool:
    return any(_tolerates(toleration, taint) for toleration in tolerations)


def untainted(cluster: Cluster, tolerations: Sequence[Toleration]) -> Bools:
    """Rows without a NoSchedule or NoExecute taint that the pod does not tolerate."""
    return _by_taints(cluster, lambda taints: untolerated(taints, tolerations) is None).astype(bool)


def dissuading(cluster: Cluster, tolerations: Sequence[Toleration]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """How many PreferNoSchedule taints each row has that the pod does not tolerate."""
    return _by_taints(
        cluster,
        lambda taints: sum(taint[2] == "PreferNoSchedule" and not tolerated(tolerations, taint) for taint in taints),
    )


def untolerated(taints: Iterable[Taint], tolerations: Sequence[Toleration]) -> Taint | None:
    """The first taint that keeps the pod away."""
    for taint in taints:
        if taint[2] in HARD_EFFECTS and not tolerated(tolerations, taint):
            return taint
    return None


def _by_taints(
    cluster: Cluster, judge: Callable[[tuple[Taint, ...]], float]
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """One look per distinct set of taints, not per node."""
    table = np.array([judge(taints) for taints in cluster.taint_sets], np.float64)
    found: np.ndarray[tuple[int], np.dtype[np.float64]] = table[cluster.taint_codes[: cluster.size]]
    return found


def _tolerates(toleration: Toleration, taint: Taint) -> bool:
    key, operator, value, effect = toleration
    if effect and effect != taint[2]:
        return False
    if key and key != taint[0]:
        return False
    if operator == "Exists":
        return True
    return bool(key) and value == taint[1]
