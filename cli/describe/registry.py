"""The page of every kind, and what else each needs to know; a new kind is one entry here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cli.describe import batch, common, node, others, pod, workloads
from cli.describe.page import Page
from common.selectors import from_message

if TYPE_CHECKING:
    from protos.core_pb2 import Event


@dataclass(frozen=True)
class Query:
    """Objects to fetch for a page: of one kind, in the object's namespace ("": all), by selectors or name."""

    kind: str
    namespace: str = ""
    labels: str = ""
    fields: str = ""


@dataclass(frozen=True)
class _Entry:
    """`draw(page, object, related)` writes the page; `query(object)` says what `related` is."""

    draw: Callable[[Page, Any, Sequence[Any]], None]
    query: Callable[[Any], Query | None] = lambda obj: None


def _alone(draw: Callable[[Page, Any], None]) -> _Entry:
    return _Entry(lambda page, obj, related: draw(page, obj))


def _selected(obj: Any) -> Query | None:
    labels = ",".join(f"{key}={value}" for key, value in sorted(obj.spec.selector.items()))
    return Query("Pod", obj.metadata.namespace, labels=labels) if labels else None


def _matched(kind: str, obj: Any) -> Query | None:
    """Objects of a kind that a full label selector matches."""
    labels = str(from_message(obj.spec.selector))
    return Query(kind, obj.metadata.namespace, labels=labels) if labels else None


_PAGES: dict[str, _Entry] = {
    "Pod": _alone(pod.pod),
    "Node": _Entry(node.node, lambda obj: Query("Pod", fields=f"spec.nodeName={obj.metadata.name}")),
    "Service": _Entry(
        lambda page, obj, related: others.service(page, obj, related[0] if related else None),
        lambda obj: Query("Endpoints", obj.metadata.namespace, fields=f"metadata.name={obj.metadata.name}"),
    ),
    "Endpoints": _alone(others.endpoints),
    "ReplicationController": _Entry(others.controller, _selected),
    "ReplicaSet": _Entry(workloads.replica_set, lambda obj: _matched("Pod", obj)),
    "Deployment": _Entry(workloads.deployment, lambda obj: _matched("ReplicaSet", obj)),
    "DaemonSet": _Entry(batch.daemon_set, lambda obj: _matched("Pod", obj)),
    "Job": _alone(batch.job),
    "PodDisruptionBudget": _alone(batch.budget),
    "PriorityClass": _alone(batch.priority_class),
    "Namespace": _alone(others.namespace),
    "ConfigMap": _alone(others.config_map),
    "Secret": _alone(others.secret),
    "Event": _alone(others.event),
}
_OTHER = _alone(others.anything)


def query(kind: str, obj: Any) -> Query | None:
    """What the page of this object needs besides it and its events."""
    return _PAGES.get(kind, _OTHER).query(obj)


def draw(kind: str, obj: Any, related: Sequence[Any], events: Sequence[Event], now: float) -> str:
    """The whole page; `now` in seconds since the epoch."""
    page = Page()
    _PAGES.get(kind, _OTHER).draw(page, obj, related)
    if kind != "Event":
        common.events(page, events, now)
    return str(page)
