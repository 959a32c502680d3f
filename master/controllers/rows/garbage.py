"""The rows of what has to go: namespaces, orphans, pods whose node is gone or that nobody holds, finished pods."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from common import kinds
from common.errors import SampanError
from master.controllers import garbage
from master.controllers.plan import NOTHING, Plan
from master.controllers.pods import is_terminating
from master.controllers.rows.row import ALL, Moment, Row, View
from master.store import store
from master.store.store import Key
from protos import meta_pb2


class GarbageRows:
    """The controllers of master/controllers/garbage.py."""

    def __init__(self, view: View) -> None:
        self._view = view

    def rows(self) -> tuple[Row, ...]:
        return (
            Row("namespaces", self._dirty_namespaces, self._view.keys_of("Namespace"), self._namespace),
            Row("owners", self._dirty_owners, self._owner_keys, self._owner),
            Row("lost-pods", self._dirty_lost, self._lost_keys, self._lost, workers=2),
            Row("unheld-pods", self._dirty_unheld, self._view.keys_of("Pod"), self._unheld),
            Row("finished-pods", self._dirty_finished, lambda: [ALL], self._finished, workers=1),
        )

    def _dirty_namespaces(self, change: store.Change) -> Iterator[Key]:
        kind, namespace, _ = change.key
        if kind == "Namespace":
            yield change.key
        elif namespace and self._view.emptying(namespace):
            yield ("Namespace", "", namespace)

    def _namespace(self, key: Key, moment: Moment) -> Plan:
        namespace = self._view.get(*key)
        if namespace is None or not is_terminating(namespace):
            return NOTHING
        spaces = [kind.kind for kind in kinds.KINDS if kind.namespaced]
        contents = [obj for kind in spaces for obj in self._view.store.list(kind, key[2])]
        return garbage.reconcile_namespace(namespace, contents)

    def _dirty_owners(self, change: store.Change) -> Iterator[Key]:
        """Keys here are ("", "", uid of an owner)."""
        if change.kind == "Event":
            return
        uid = change.obj.metadata.uid
        if change.type == "DELETED" or is_terminating(change.obj):
            yield ("", "", uid)
        for obj in (change.obj, change.old):
            if obj is not None and (change.type != "MODIFIED" or _owners(change.obj) != _owners(change.old)):
                yield from (("", "", owner) for owner in _owners(obj))

    def _owner_keys(self) -> Iterator[Key]:
        for uid in {*self._view.index.dependents.words(), *self._view.index.leaving.words()}:
            yield ("", "", uid)

    def _owner(self, key: Key, moment: Moment) -> Plan:
        uid = key[2]
        keys = self._view.index.dependents.get(uid)
        owner: Any | None = next(iter(self._view.read(self._view.index.leaving.get(uid))), None) or self._owner_of(
            uid, keys
        )
        if owner is UNKNOWN or (owner is not None and not is_terminating(owner)):
            return NOTHING
        return garbage.reconcile_owner(uid, owner, self._view.read(sorted(keys)), self._owner_object)

    def _owner_of(self, uid: str, dependents: Iterable[Key]) -> Any | None:
        """The owner, found by the first reference to it that still leads somewhere."""
        for key in dependents:
            obj = self._view.get(*key)
            for reference in obj.metadata.ownerReferences if obj is not None else ():
                if reference.uid == uid:
                    owner = self._owner_object(reference, key[1])
                    if owner is not None:
                        return owner
        return None

    def _owner_object(self, reference: meta_pb2.OwnerReference, namespace: str) -> Any | None:
        try:
            kind = kinds.by_kind(reference.kind)
        except SampanError:
            # Not a kind of ours: whether that owner is there is not for us to say.
            return UNKNOWN
        found = self._view.get(kind.kind, namespace if kind.namespaced else "", reference.name)
        return found if found is not None and found.metadata.uid == reference.uid else None

    def _dirty_lost(self, change: store.Change) -> Iterator[Key]:
        kind, _, name = change.key
        if kind == "Node" and change.type == "DELETED":
            yield ("Node", "", name)
        elif kind == "Pod" and change.obj.spec.nodeName and change.type == "ADDED":
            yield ("Node", "", change.obj.spec.nodeName)

    def _lost_keys(self) -> Iterator[Key]:
        return (("Node", "", name) for name in self._view.index.pods_on.words())

    def _lost(self, key: Key, moment: Moment) -> Plan:
        if self._view.get(*key) is not None:
            return NOTHING
        return garbage.reconcile_lost(False, self._view.read(sorted(self._view.index.pods_on.get(key[2]))), moment.now)

    def _dirty_unheld(self, change: store.Change) -> Iterable[Key]:
        return [change.key] if change.kind == "Pod" and is_terminating(change.obj) else []

    def _unheld(self, key: Key, moment: Moment) -> Plan:
        return garbage.reconcile_unheld(self._view.get(*key))

    def _dirty_finished(self, change: store.Change) -> Iterable[Key]:
        if change.kind != "Pod" or len(self._view.index.finished.get("")) <= garbage.FINISHED_LIMIT:
            return []
        return [ALL]

    def _finished(self, key: Key, moment: Moment) -> Plan:
        found = self._view.index.finished.get("")
        return garbage.reconcile_finished(self._view.read(found)) if len(found) > garbage.FINISHED_LIMIT else NOTHING


class _Unknown:
    """Stands for an owner of a kind that is not served: it is there, and it stays."""

    def __init__(self) -> None:
        self.metadata = meta_pb2.ObjectMeta()


UNKNOWN: Any = _Unknown()


def _owners(obj: Any) -> set[str]:
    return {reference.uid for reference in obj.metadata.ownerReferences}
