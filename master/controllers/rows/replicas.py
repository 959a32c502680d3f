"""The rows of what keeps a number of pods: ReplicationControllers, ReplicaSets, and the Deployments above those."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from master.controllers import replicaset, replication
from master.controllers.deployment import reconcile as deployment
from master.controllers.index import selector_of
from master.controllers.plan import NOTHING, Plan
from master.controllers.pods import controller_of, is_ready, is_terminating
from master.controllers.rows.row import Moment, Row, View
from master.store import store
from master.store.store import Key
from protos import apps_pb2


class ReplicaRows:
    """Controllers whose objects are found by a selector and by their owner."""

    def __init__(self, view: View) -> None:
        self._view = view

    def rows(self) -> tuple[Row, ...]:
        keys_of = self._view.keys_of
        return (
            Row("replication", self._dirty_of(replication.KIND), keys_of(replication.KIND), self._replication),
            Row("replicasets", self._dirty_of(replicaset.KIND), keys_of(replicaset.KIND), self._replicaset),
            Row("deployments", self._dirty_deployments, keys_of(deployment.KIND), self._deployment),
        )

    def _dirty_of(self, kind: str) -> Any:
        def dirty(change: store.Change) -> Iterator[Key]:
            if change.kind == kind:
                yield change.key
            elif change.kind == "Pod":
                yield from self._view.owners(change, kind)

        return dirty

    def _replication(self, key: Key, moment: Moment) -> Plan:
        rc = self._view.get(*key)
        if rc is None or self._view.emptying(key[1]):
            return NOTHING
        pods = self._view.candidates(rc, replication.selector_of(rc))
        return replication.reconcile(rc, pods, moment.now)

    def _replicaset(self, key: Key, moment: Moment) -> Plan:
        rs = self._view.get(*key)
        if rs is None or self._view.emptying(key[1]):
            return NOTHING
        return replicaset.reconcile(rs, self._view.candidates(rs, selector_of(rs)), moment.now)

    # -- deployments --------------------------------------------------------------------------

    def _dirty_deployments(self, change: store.Change) -> Iterator[Key]:
        kind, namespace, _ = change.key
        if kind == deployment.KIND:
            yield change.key
        elif kind == replicaset.KIND:
            yield from self._view.owners(change, deployment.KIND)
        elif kind in ("ConfigMap", "Secret"):
            yield from (key for key in self._view.index.config_users.get(change.key) if key[0] == deployment.KIND)
        elif kind == "Pod" and _counts(change):
            # Before its ReplicaSet has told it in its status: a rollout waits for this very moment.
            owner = controller_of(change.obj)
            if owner is not None and owner.kind == replicaset.KIND:
                rs = self._view.get(replicaset.KIND, namespace, owner.name)
                above = controller_of(rs) if rs is not None else None
                if above is not None and above.kind == deployment.KIND:
                    yield (deployment.KIND, namespace, above.name)

    def _deployment(self, key: Key, moment: Moment) -> Plan:
        found = self._view.get(*key)
        if found is None or self._view.emptying(key[1]):
            return NOTHING
        sets = self._view.candidates(found, selector_of(found), replicaset.KIND)
        return deployment.reconcile(
            found,
            sets,
            self._pods_of,
            moment.now,
            read=lambda wanted: self._view.get(*wanted),
            taken=lambda name: self._view.get(replicaset.KIND, key[1], name) is not None,
        )

    def _pods_of(self, rs: apps_pb2.ReplicaSet) -> list[Any]:
        found = self._view.read(self._view.dependents(rs.metadata.uid, "Pod"))
        return [pod for pod in found if (owner := controller_of(pod)) and owner.uid == rs.metadata.uid]


def _counts(change: store.Change) -> bool:
    """Whether the change may alter how many pods there are, or how many are ready."""
    if change.type != "MODIFIED" or change.old is None:
        return True
    return (is_ready(change.obj), is_terminating(change.obj), change.obj.status.phase) != (
        is_ready(change.old),
        is_terminating(change.old),
        change.old.status.phase,
    )
