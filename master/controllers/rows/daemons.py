"""The row of DaemonSets, which a change of any node may concern."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

from master.controllers import daemon_history, daemonset
from master.controllers.daemonset import KIND, Memory
from master.controllers.index import selector_of
from master.controllers.plan import NOTHING, Plan
from master.controllers.pods import controller_of
from master.controllers.rows.row import Moment, Row, View
from master.store import store
from master.store.store import Key

SECONDS_PER_NODE = 0.0004
"""Between two passes of one set, some times what a pass costs: on 5,000 nodes it looks at 10,000 objects."""

SPARE = 16
"""Sets that may be remembered though they are gone, beside as many as there are."""


class DaemonRows:
    """One key a DaemonSet; it keeps how often pods failed on which node, and the time of the last pass, by uid."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._memory: dict[str, Memory] = {}
        self._looked: dict[str, float] = {}

    def rows(self) -> tuple[Row, ...]:
        return (Row("daemonsets", self._dirty, self._view.keys_of(KIND), self._daemons, workers=4),)

    def _dirty(self, change: store.Change) -> Iterator[Key]:
        kind, namespace, _ = change.key
        if kind == KIND:
            if change.type == "DELETED":
                self._memory.pop(change.obj.metadata.uid, None)
                self._looked.pop(change.obj.metadata.uid, None)
            yield change.key
        elif kind == daemon_history.KIND:
            for revision in (change.obj, change.old):
                owner = controller_of(revision) if revision is not None else None
                if owner is not None and owner.kind == KIND:
                    yield (KIND, namespace, owner.name)
        elif kind == "Node" and (change.type == "DELETED" or _facts(change.obj) != _facts(change.old)):
            yield from self._view.keys_of(KIND)()
        elif kind == "Pod" and self._view.store.count(KIND):
            yield from self._view.owners(change, KIND)

    def _daemons(self, key: Key, moment: Moment) -> Plan:
        ds = self._view.get(*key)
        if ds is None or self._view.emptying(key[1]):
            return NOTHING
        selector, uid = selector_of(ds), ds.metadata.uid
        if len(self._memory) > 2 * self._view.store.count(KIND) + SPARE:
            # The end of some was not seen: the watch had fallen behind.
            there = {one.metadata.uid for one in self._view.store.list(KIND)}
            self._memory = {known: kept for known, kept in self._memory.items() if known in there}
            self._looked = {known: at for known, at in self._looked.items() if known in there}
        wait = self._looked.get(uid, -math.inf) + SECONDS_PER_NODE * self._view.store.count("Node") - moment.tick
        if wait > 0:
            return Plan(again=wait)
        self._looked[uid] = moment.tick
        pods = self._view.candidates(ds, selector)
        nodes = self._view.store.list("Node")
        plan, self._memory[uid] = daemonset.reconcile(ds, pods, nodes, moment.now, self._memory.get(uid, {}))
        revisions = self._view.store.list(daemon_history.KIND, key[1])
        history = daemon_history.reconcile(ds, selector, revisions, pods, daemonset.template_hash(ds.spec.template))
        return dataclasses.replace(plan, actions=(*plan.actions, *history))


def _facts(node: Any | None) -> tuple[Any, ...]:
    """What of a node decides whether it should run a daemon pod."""
    if node is None:
        return ()
    return (dict(node.metadata.labels), [(t.key, t.value, t.effect) for t in node.spec.taints])
