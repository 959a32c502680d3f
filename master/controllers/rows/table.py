"""All rows over one store, put together; a new family of controllers is one line here."""

from __future__ import annotations

from common.kinds import EVENT
from master.controllers import nodes
from master.controllers.index import Index
from master.controllers.rows.budgets import BudgetRows
from master.controllers.rows.daemons import DaemonRows
from master.controllers.rows.garbage import GarbageRows
from master.controllers.rows.jobs import JobRows
from master.controllers.rows.nodes import NodeRows
from master.controllers.rows.replicas import ReplicaRows
from master.controllers.rows.row import Row, View
from master.controllers.rows.taints import TaintRows
from master.controllers.rows.traffic import TrafficRows
from master.store.store import Change, Store


class Rows:
    """The controllers over one store. `index` may be replaced as a whole when the watch starts anew."""

    def __init__(self, objects: Store, table: nodes.NodeTable, timeouts: nodes.Timeouts) -> None:
        self._view = View(objects)
        # In this order they hear of a change: where traffic may go is what somebody waits for.
        self._families = (
            TrafficRows(self._view),
            NodeRows(self._view, table, timeouts),
            TaintRows(self._view),
            ReplicaRows(self._view),
            DaemonRows(self._view),
            JobRows(self._view),
            BudgetRows(self._view),
            GarbageRows(self._view),
        )

    @property
    def index(self) -> Index:
        return self._view.index

    @index.setter
    def index(self, index: Index) -> None:
        self._view.index = index

    def concerns(self, change: Change) -> bool:
        """Whether any row may want to hear of it: of an Event only where everything has to go."""
        return change.kind != EVENT.kind or self._view.emptying(change.key[1])

    def rows(self) -> tuple[Row, ...]:
        return tuple(row for family in self._families for row in family.rows())
