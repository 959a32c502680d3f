"""The rows of nodes: who is silent, and whose pods go."""

from __future__ import annotations

from collections.abc import Iterable

from master.controllers import nodes
from master.controllers.plan import Plan
from master.controllers.rows.row import ALL, Moment, Row, View, readiness
from master.store import store
from master.store.store import Key


class NodeRows:
    """The node controller; it keeps what it remembers between passes."""

    def __init__(self, view: View, table: nodes.NodeTable, timeouts: nodes.Timeouts) -> None:
        self._view = view
        self._table = table
        self._timeouts = timeouts
        self._memory = nodes.Memory()

    def rows(self) -> tuple[Row, ...]:
        return (Row("nodes", self._dirty, lambda: [ALL], self._nodes, workers=1),)

    def _dirty(self, change: store.Change) -> Iterable[Key]:
        return [ALL] if change.kind == "Node" and readiness(change.obj) != readiness(change.old) else []

    def _nodes(self, key: Key, moment: Moment) -> Plan:
        plan, self._memory = nodes.reconcile(
            self._view.store.list("Node"),
            self._table.last_heartbeat,
            lambda name: self._view.read(sorted(self._view.index.pods_on.get(name))),
            now=moment.now,
            tick=moment.tick,
            base=moment.base,
            timeouts=self._timeouts.at_pace(self._table.heartbeat_period()),
            memory=self._memory,
        )
        return plan
