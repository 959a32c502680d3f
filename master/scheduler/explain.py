"""Why a pod is, or would be, on which node: every node's filters and scores by name; pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from master.scheduler.cluster import Cluster
from master.scheduler.reasons import Reason, reasons
from master.scheduler.requests import Wanted
from master.scheduler.scores import Scorer


@dataclass(frozen=True)
class NodeView:
    """One node: `reason` None means that the pod fits; `scores` are points by name, `total` their sum."""

    node: str
    reason: Reason | None
    scores: dict[str, float] = field(default_factory=dict)
    total: float = 0.0


def explain(cluster: Cluster, pod: Wanted) -> list[NodeView]:
    """All nodes, those that fit first, best first, then by name. A pod that holds room is looked at as if it did not.

    The cluster is as before afterwards.
    """
    held = cluster.get(pod.uid)
    if held is not None:
        cluster.release(pod.uid)
    try:
        return sorted(
            _views(cluster, pod),
            key=lambda view: (view.reason is not None, 0.0 if view.reason else -view.total, view.node),
        )
    finally:
        if held is not None:
            cluster.hold(pod.uid, held)


def _views(cluster: Cluster, pod: Wanted) -> list[NodeView]:
    if not len(cluster):
        return []
    promised = cluster.promised(pod.request.priority, pod.uid)
    refused = dict(reasons(cluster, pod.request, pod.crowd, promised))
    parts = Scorer(cluster, pod.request, pod.group, pod.crowd).parts()
    views = []
    for name, row in cluster.rows.items():
        scores = {part: round(float(points[row]), 1) for part, points in parts.items()}
        views.append(NodeView(name, refused.get(name), scores, round(sum(scores.values()), 1)))
    return views
