"""What has to go because something else went: namespaces' content, dependents of owners, pods nobody holds; pure.

Rules: Kubernetes' namespace, garbage collector and pod garbage controllers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from master.controllers.plan import NOTHING, Action, Change, Delete, Plan, Release
from master.controllers.pods import FINISHED, is_terminating, seconds
from master.store.store import key_of
from protos import core_pb2, meta_pb2

FOREGROUND = "foregroundDeletion"
NAMESPACE_FINALIZER = "kubernetes"
FINISHED_LIMIT = 1000
"""Finished pods kept in the cluster. Kubernetes keeps 12,500; our hosts are smaller."""
NODE_MISSING_SECONDS = 20.0
"""A young pod may name a node that is about to register."""

Lookup = Callable[[meta_pb2.OwnerReference, str], Any | None]
"""The object an owner reference means, seen from a dependent in this namespace, or None when it is gone."""


def reconcile_namespace(namespace: core_pb2.Namespace, contents: Sequence[Any]) -> Plan:
    """Empties a Terminating namespace, pods with their grace; when nothing is left, lets it go."""
    if not is_terminating(namespace):
        return NOTHING
    doomed = [Delete(key_of(obj), obj.metadata.uid) for obj in contents if not is_terminating(obj)]
    if contents:
        return Plan(tuple(doomed))
    return Plan((Release(key_of(namespace), namespace.metadata.uid, NAMESPACE_FINALIZER),))


def reconcile_owner(uid: str, owner: Any | None, dependents: Iterable[Any], lookup: Lookup) -> Plan:
    """What becomes of the dependents of the owner with this uid.

    The owner is gone: dependents without another owner are deleted, the others lose the reference. The owner is
    Terminating with the finalizer foregroundDeletion: the same, and it goes once none that blocks it is left.
    Otherwise nothing: a deletion with the policy Orphan takes the references off itself (master/api/deletion.py).
    """
    owned = [obj for obj in dependents if any(ref.uid == uid for ref in obj.metadata.ownerReferences)]
    if owner is not None and not is_terminating(owner):
        return NOTHING
    if owner is not None and FOREGROUND not in owner.metadata.finalizers:
        return NOTHING
    actions: list[Action] = []
    blocked = False
    for obj in owned:
        if _has_other_owner(obj, uid, lookup):
            actions.append(_loosen(obj, uid))
            continue
        blocked |= any(ref.uid == uid and ref.blockOwnerDeletion for ref in obj.metadata.ownerReferences)
        if not is_terminating(obj):
            propagation = "Background" if owner is None else "Foreground"
            actions.append(Delete(key_of(obj), obj.metadata.uid, propagation=propagation))
    if owner is not None and not blocked:
        actions.append(Release(key_of(owner), uid, FOREGROUND))
    return Plan(tuple(actions))


def reconcile_lost(node_exists: bool, pods: Iterable[core_pb2.Pod], now: float) -> Plan:
    """Removes pods bound to a Node that is no more; nobody is left who could stop them. `now` in Unix seconds."""
    if node_exists:
        return NOTHING
    waits = {key_of(pod): (pod, seconds(pod.metadata.creationTimestamp) + NODE_MISSING_SECONDS - now) for pod in pods}
    doomed = [Delete(key, pod.metadata.uid, grace=0) for key, (pod, wait) in waits.items() if wait <= 0]
    return Plan(tuple(doomed), again=min((wait for _, wait in waits.values() if wait > 0), default=None))


def reconcile_unheld(pod: core_pb2.Pod | None) -> Plan:
    """Removes a Terminating pod that no node ever got: nobody else will."""
    if pod is None or pod.spec.nodeName or not is_terminating(pod):
        return NOTHING
    return Plan((Delete(key_of(pod), pod.metadata.uid, grace=0),))


def reconcile_finished(pods: Iterable[core_pb2.Pod], limit: int = FINISHED_LIMIT) -> Plan:
    """Deletes the oldest finished pods beyond `limit`."""
    finished = [pod for pod in pods if pod.status.phase in FINISHED and not is_terminating(pod)]
    surplus = len(finished) - limit
    if surplus <= 0:
        return NOTHING
    oldest = sorted(finished, key=lambda pod: (seconds(pod.metadata.creationTimestamp), key_of(pod)))
    return Plan(tuple(Delete(key_of(pod), pod.metadata.uid) for pod in oldest[:surplus]))


def _has_other_owner(obj: Any, uid: str, lookup: Lookup) -> bool:
    """Whether an owner besides `uid` is there and stays."""
    for reference in obj.metadata.ownerReferences:
        if reference.uid == uid:
            continue
        owner = lookup(reference, obj.metadata.namespace)
        if owner is not None and not (is_terminating(owner) and FOREGROUND in owner.metadata.finalizers):
            return True
    return False


def _loosen(obj: Any, uid: str) -> Change:
    def change(newest: Any) -> None:
        kept = [reference for reference in newest.metadata.ownerReferences if reference.uid != uid]
        del newest.metadata.ownerReferences[:]
        newest.metadata.ownerReferences.extend(kept)

    return Change(key_of(obj), obj.metadata.uid, "loosen", change)
