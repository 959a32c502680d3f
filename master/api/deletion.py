"""What a delete request does to an object: gone at once, or going and why; pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from common.errors import BadRequest, Forbidden
from common.kinds import NAMESPACE, POD, Kind
from master.api.times import stamp
from master.api.validation.meta import FOREGROUND
from master.store.store import clone
from protos import core_pb2

BACKGROUND, FOREGROUND_POLICY, ORPHAN_POLICY = "Background", "Foreground", "Orphan"
POLICIES = (BACKGROUND, FOREGROUND_POLICY, ORPHAN_POLICY)
BUILT_IN = ("default", "kube-system", "kube-public")
ENDED = ("Succeeded", "Failed")


@dataclass(frozen=True)
class Going:
    """The object as it must be stored until it is gone; equal to what it was when nothing changes."""

    obj: Any


@dataclass(frozen=True)
class Gone:
    """The object is removed; `orphans` are its dependents without the reference to it."""

    orphans: tuple[Any, ...] = ()


def check_request(kind: Kind, name: str, propagation: str) -> str:
    """The policy to use. Raises BadRequest for an unknown one, Forbidden for a namespace the cluster needs."""
    policy = propagation or BACKGROUND
    if policy not in POLICIES:
        raise BadRequest(f"propagation policy must be one of {', '.join(POLICIES)}, got {propagation!r}")
    if kind is NAMESPACE and name in BUILT_IN:
        raise Forbidden(f'namespaces "{name}" is forbidden: this namespace may not be deleted')
    return policy


def plan_delete(
    obj: Any, kind: Kind, *, grace_seconds: int | None, policy: str, dependents: Iterable[Any], now: float
) -> Going | Gone:
    """Kubernetes' rules: pods get their grace, namespaces are emptied first, finalizers are waited for."""
    new = clone(obj)
    waits: list[Any] = list(dependents)
    if policy == FOREGROUND_POLICY and waits and FOREGROUND not in new.metadata.finalizers:
        new.metadata.finalizers.append(FOREGROUND)
    if kind is NAMESPACE:
        if not new.metadata.finalizers and not new.spec.finalizers:
            return Gone()
        new.status.phase = "Terminating"
        _mark(new, now, 0)
        return Going(new)
    grace = pod_grace(new, grace_seconds) if kind is POD else 0
    if grace == 0 and not new.metadata.finalizers:
        uid = new.metadata.uid
        return Gone(tuple(without_owner(dependent, uid) for dependent in waits) if policy == ORPHAN_POLICY else ())
    _mark(new, now, grace)
    return Going(new)


def pod_grace(pod: core_pb2.Pod, asked: int | None) -> int:
    """Seconds a pod may take to stop. None of a pod that no node runs, or whose containers have ended."""
    if not pod.spec.nodeName or pod.status.phase in ENDED:
        return 0
    if asked is None:
        return max(0, pod.spec.terminationGracePeriodSeconds)
    # Kubernetes reads a negative grace as "as soon as possible, but orderly".
    return asked if asked >= 0 else 1


def _mark(obj: Any, now: float, grace: int) -> None:
    """Sets the end of grace; a second request may only bring it forward."""
    meta = obj.metadata
    if meta.HasField("deletionTimestamp") and meta.deletionGracePeriodSeconds <= grace:
        return
    meta.deletionTimestamp.CopyFrom(stamp(now + grace))
    meta.deletionGracePeriodSeconds = grace


def without_owner(dependent: Any, uid: str) -> Any:
    """A copy that no longer refers to the owner."""
    new = clone(dependent)
    kept = [owner for owner in new.metadata.ownerReferences if owner.uid != uid]
    del new.metadata.ownerReferences[:]
    new.metadata.ownerReferences.extend(kept)
    return new


def finished(obj: Any, kind: Kind) -> bool:
    """True when nothing keeps a deleted object any more. A pod with grace left is its node's to end."""
    meta = obj.metadata
    if not meta.HasField("deletionTimestamp") or meta.finalizers:
        return False
    if kind is NAMESPACE:
        return not obj.spec.finalizers
    return kind is not POD or meta.deletionGracePeriodSeconds == 0
