"""The row of PodDisruptionBudgets."""

from __future__ import annotations

from collections.abc import Iterator

from common import kinds
from common.errors import SampanError
from common.selectors import from_message
from master.controllers import disruption
from master.controllers.disruption import KIND
from master.controllers.plan import NOTHING, Plan
from master.controllers.pods import controller_of
from master.controllers.rows.row import Moment, Row, View
from master.store import store
from master.store.store import Key
from protos import core_pb2, meta_pb2, policy_pb2

_SCALED = ("ReplicationController", "ReplicaSet", "Deployment")


class BudgetRows:
    """One key a budget; a change of a pod or of what scales it may concern any of its namespace."""

    def __init__(self, view: View) -> None:
        self._view = view

    def rows(self) -> tuple[Row, ...]:
        return (Row("budgets", self._dirty, self._view.keys_of(KIND), self._budget, workers=4),)

    def _dirty(self, change: store.Change) -> Iterator[Key]:
        kind, namespace, _ = change.key
        if kind == KIND:
            yield change.key
        elif not self._view.store.count(KIND):
            return
        elif kind == "Pod":
            now, old = change.obj.metadata.labels, change.old.metadata.labels if change.old is not None else None
            yield from self._view.index.selectors_of(KIND, namespace, now)
            if old is not None and old != now:
                yield from self._view.index.selectors_of(KIND, namespace, old)
        elif kind in _SCALED and (change.old is None or change.obj.spec.replicas != change.old.spec.replicas):
            yield from (store.key_of(found) for found in self._view.store.list(KIND, namespace))

    def _budget(self, key: Key, moment: Moment) -> Plan:
        pdb = self._view.get(*key)
        if pdb is None or self._view.emptying(key[1]):
            return NOTHING
        return disruption.reconcile(pdb, self._pods(pdb), self._scale, moment.now)

    def _scale(self, reference: meta_pb2.OwnerReference, namespace: str) -> tuple[str, int] | None:
        """Follows owners up to the one that nobody controls: a ReplicaSet's number is its Deployment's."""
        try:
            kind = kinds.by_kind(reference.kind).kind
        except SampanError:
            return None
        owner = self._view.get(kind, namespace, reference.name)
        if owner is None or owner.metadata.uid != reference.uid or not hasattr(owner, "spec"):
            return None
        above = controller_of(owner)
        found = self._scale(above, namespace) if above is not None else None
        if found is not None:
            return found
        number = disruption.replicas_of(owner)
        return (owner.metadata.uid, number) if number is not None else None

    def _pods(self, pdb: policy_pb2.PodDisruptionBudget) -> list[core_pb2.Pod]:
        """The pods a budget selects: an absent selector none, an empty one all of the namespace."""
        namespace = pdb.metadata.namespace
        if not pdb.spec.HasField("selector"):
            return []
        selector = from_message(pdb.spec.selector)
        keys = self._view.index.matching(namespace, selector)
        found = self._view.store.list("Pod", namespace) if keys is None else self._view.read(keys)
        return [pod for pod in found if selector.matches(pod.metadata.labels)]
