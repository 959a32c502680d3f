"""The row of endpoints: whose traffic may go where."""

from __future__ import annotations

from collections.abc import Iterator

from master.controllers import endpoints
from master.controllers.plan import NOTHING, Plan
from master.controllers.rows.row import Moment, Row, View, nodes_serve, readiness
from master.store import store
from master.store.store import Key


class TrafficRows:
    """The endpoints controller; its keys are those of services."""

    def __init__(self, view: View) -> None:
        self._view = view

    def rows(self) -> tuple[Row, ...]:
        return (Row("endpoints", self._dirty, self._keys, self._endpoints, workers=16),)

    def _dirty(self, change: store.Change) -> Iterator[Key]:
        kind, namespace, name = change.key
        if kind in ("Service", "Endpoints"):
            yield ("Service", namespace, name)
        elif kind == "Pod":
            for pod in (change.obj, change.old):
                if pod is not None:
                    yield from self._view.index.selectors_of("Service", namespace, pod.metadata.labels)
        elif kind == "Node" and readiness(change.obj) != readiness(change.old):
            for pod in self._view.read(self._view.index.pods_on.get(name)):
                yield from self._view.index.selectors_of("Service", pod.metadata.namespace, pod.metadata.labels)

    def _keys(self) -> Iterator[Key]:
        for kind in ("Service", "Endpoints"):
            for obj in self._view.store.list(kind):
                yield ("Service", obj.metadata.namespace, obj.metadata.name)

    def _endpoints(self, key: Key, moment: Moment) -> Plan:
        _, namespace, name = key
        service = self._view.get(*key)
        current = self._view.get("Endpoints", namespace, name)
        if self._view.emptying(namespace) and current is None:
            return NOTHING
        chosen = self._view.index.selected(namespace, service.spec.selector) if service is not None else []
        return endpoints.reconcile(service, self._view.read(chosen), self._serves, current)

    def _serves(self, name: str) -> bool:
        return nodes_serve(self._view.get("Node", "", name))
