"""The row of taints: a node's own from its state, and the pods that must leave because of any."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from master.controllers import taints
from master.controllers.plan import NOTHING, Plan
from master.controllers.pods import condition
from master.controllers.rows.row import Moment, Row, View
from master.controllers.tolerations import NO_EXECUTE
from master.store import store
from master.store.store import Key
from protos import core_pb2

_CONDITIONS = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")


class TaintRows:
    """One key a node."""

    def __init__(self, view: View) -> None:
        self._view = view

    def rows(self) -> tuple[Row, ...]:
        return (Row("taints", self._dirty, self._view.keys_of("Node"), self._taints, workers=4),)

    def _dirty(self, change: store.Change) -> Iterator[Key]:
        if change.kind == "Node":
            if change.type != "DELETED" and _facts(change.obj) != _facts(change.old):
                yield change.key
        elif change.kind == "Pod" and change.type != "DELETED" and change.obj.spec.nodeName:
            name = change.obj.spec.nodeName
            # Tolerations that are added later only put the end off: it is looked at anew when it comes.
            if change.old is None or change.old.spec.nodeName != name:
                node = self._view.get("Node", "", name)
                if node is not None and any(taint.effect == NO_EXECUTE for taint in node.spec.taints):
                    yield ("Node", "", name)

    def _taints(self, key: Key, moment: Moment) -> Plan:
        node = self._view.get(*key)
        if node is None:
            return NOTHING
        return taints.reconcile(node, self._pods_on(key[2]), moment.now)

    def _pods_on(self, name: str) -> Iterator[core_pb2.Pod]:
        """Read only when they are asked for: of most nodes they are not."""
        yield from self._view.read(sorted(self._view.index.pods_on.get(name)))


def _facts(node: Any | None) -> tuple[Any, ...]:
    """What of a node its taints depend on, and the taints."""
    if node is None:
        return ()
    states = tuple(found.status if (found := condition(node.status, kind)) else "" for kind in _CONDITIONS)
    marks = tuple((t.key, t.value, t.effect, t.HasField("timeAdded")) for t in node.spec.taints)
    return (*states, node.spec.unschedulable, marks)
