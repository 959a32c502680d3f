"""Why a pod fits nowhere: one reason per node for `describe`, and Kubernetes' one-line summary; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from common.quantity import format_bytes, milli_quantity
from master.scheduler.cluster import Cluster
from master.scheduler.domains import Rule, rules_of
from master.scheduler.filters import CORDON, NOTHING_PROMISED, Promised, missing_extra, tolerated, untolerated
from master.scheduler.hostports import clash, told
from master.scheduler.requests import Request
from master.scheduler.rules import NOBODY, Crowd

NODES_LISTED = 50


@dataclass(frozen=True)
class Reason:
    """`detail` is for one node's line; `counted` are the words of the summary (one node may lack several things);
    `filter` is Kubernetes' name of what refused the node."""

    detail: str
    counted: tuple[str, ...]
    filter: str = "NodeResourcesFit"


def message(
    cluster: Cluster,
    request: Request,
    limit: int = NODES_LISTED,
    *,
    crowd: Crowd = NOBODY,
    promised: Promised = NOTHING_PROMISED,
    preemption: str = "",
) -> str:
    """The summary (with what `preemption` says), then one line per node, sorted by name; at most `limit` of them."""
    found = reasons(cluster, request, crowd, promised)
    lines = [f"{name}: {reason.detail}" for name, reason in found[:limit]]
    if len(found) > limit:
        lines.append(f"... and {len(found) - limit} more nodes")
    first = summary(len(cluster), found)
    return "\n".join([f"{first} preemption: {preemption}." if preemption else first, *lines])


def summary(nodes: int, found: list[tuple[str, Reason]]) -> str:
    """Kubernetes' sentence: `0/3 nodes are available: 1 Insufficient memory, 2 node(s) were unschedulable.`"""
    if not nodes:
        return "0/0 nodes are available: no node has joined the cluster."
    counts = Counter(word for _, reason in found for word in reason.counted)
    parts = [f"{count} {word}" for word, count in sorted(counts.items(), key=lambda item: item[0])]
    return f"0/{nodes} nodes are available: {', '.join(parts)}."


def reasons(
    cluster: Cluster, request: Request, crowd: Crowd = NOBODY, promised: Promised = NOTHING_PROMISED
) -> list[tuple[str, Reason]]:
    """What keeps the pod from each node that it does not fit, sorted by the node's name."""
    rules = rules_of(cluster, request, crowd)
    found = []
    for name in sorted(cluster.rows):
        reason = _reason(cluster, request, cluster.rows[name], rules, promised)
        if reason is not None:
            found.append((name, reason))
    return found


def _reason(cluster: Cluster, request: Request, row: int, rules: Sequence[Rule], promised: Promised) -> Reason | None:
    """The first thing that stands in the way, in the order in which a person would put it right."""
    if not cluster.ready[row]:
        return Reason("not Ready", ("node(s) were not ready",), "NodeReady")
    if not cluster.fresh[row]:
        return Reason("not heard by this master, or not for some seconds", ("node(s) were not ready",), "NodeReady")
    if cluster.cordoned[row] and not tolerated(request.tolerations, CORDON):
        return Reason("cordoned", ("node(s) were unschedulable",), "NodeUnschedulable")
    reason = _labels(cluster, request, row)
    if reason is not None:
        return reason
    taint = untolerated(cluster.taint_sets[cluster.taint_codes[row]], request.tolerations)
    if taint is not None:
        key, value, effect = taint
        words = f"{key}={value}" if value else key
        return Reason(
            f"has the taint {words}:{effect}, which the pod does not tolerate",
            (f"node(s) had untolerated taint {{{key}: {value}}}",),
            "TaintToleration",
        )
    for port in request.ports:
        user = cluster.ports.user(port, row)
        if user is None and any(clash(port, taken) for other in promised.get(row, ()) for taken in other.ports):
            user = "a pod for which room is being made"
        if user is not None:
            return Reason(
                f"host port {told(port)} is in use by {user}",
                ("node(s) didn't have free ports for the requested pod ports",),
                "NodePorts",
            )
    reason = _too_little(cluster, request, row, promised)
    if reason is not None:
        return reason
    for rule in rules:
        if not rule.ok[row]:
            return Reason(rule.why(row), (rule.counted(row),), rule.name)
    return None


def _labels(cluster: Cluster, request: Request, row: int) -> Reason | None:
    labels = cluster.labels[row]
    counted = ("node(s) didn't match Pod's node affinity/selector",)
    missing = [f"{key}={value}" for key, value in request.selector if labels.get(key) != value]
    if missing:
        return Reason(f"does not match nodeSelector {', '.join(missing)}", counted, "NodeAffinity")
    terms = request.rules.nodes if request.rules is not None else None
    if terms is not None and not cluster.columns.any_of(terms)[row]:
        wanted = " or ".join(str(term) for term in terms) or "no node"
        return Reason(f"does not match nodeAffinity {wanted}", counted, "NodeAffinity")
    return None


def _too_little(cluster: Cluster, request: Request, row: int, promised: Promised) -> Reason | None:
    room, used = cluster.room[row].tolist(), cluster.used[row].tolist()
    for other in promised.get(row, ()):
        used = [used[0] + other.cpu, used[1] + other.memory, used[2] + 1]
    details, counted = [], []
    if used[2] >= room[2]:
        details.append(f"holds {used[2]} pods, its limit is {room[2]}")
        counted.append("Too many pods")
    free_cpu, free_memory = room[0] - used[0], room[1] - used[1]
    if request.cpu and free_cpu < request.cpu:
        details.append(f"needs {milli_quantity(request.cpu)} cpu, {milli_quantity(max(0, free_cpu))} free")
        counted.append("Insufficient cpu")
    if request.memory and free_memory < request.memory:
        details.append(f"needs {format_bytes(request.memory)} memory, {format_bytes(max(0, free_memory))} free")
        counted.append("Insufficient memory")
    for name, needed, free in missing_extra(cluster, request, row, promised):
        details.append(f"needs {needed} {name}, {max(0, free)} free")
        counted.append(f"Insufficient {name}")
    if not details:
        return None
    if row in promised:
        details.append("room there is kept for a pod of no lower priority")
    return Reason("; ".join(details), tuple(counted))
