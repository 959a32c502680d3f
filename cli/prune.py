"""What `apply --prune` deletes: objects that an earlier apply made and that the files no longer hold; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from common import kinds
from common.errors import BadRequest
from common.kinds import Kind

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

# kubectl's default kinds, as far as they are served; a Namespace is never pruned: it would take everything with it.
DEFAULT = tuple(
    kind
    for kind in kinds.KINDS
    if kind.kind
    in (
        "ConfigMap",
        "Secret",
        "Pod",
        "Service",
        "ReplicationController",
        "ReplicaSet",
        "Deployment",
        "DaemonSet",
        "StatefulSet",
        "Job",
        "CronJob",
        "Endpoints",
        "PodDisruptionBudget",
    )
)


def allowed(names: Sequence[str]) -> tuple[Kind, ...]:
    """The kinds that `--prune-allowlist` names, or the default ones. Raises UnknownKind, BadRequest."""
    found = tuple(dict.fromkeys(kinds.by_resource(name.rpartition("/")[2]) for name in names))
    if kinds.NAMESPACE in found:
        raise BadRequest("--prune-allowlist: a Namespace is never pruned: delete it by hand")
    return found or DEFAULT


def superfluous(objects: Iterable[Any], kept: Iterable[str]) -> list[Any]:
    """Those of `objects` that were applied before and whose uid is not among `kept`; what is going already is left."""
    keep = set(kept)
    return [
        obj
        for obj in objects
        if obj.metadata.uid not in keep
        and LAST_APPLIED in obj.metadata.annotations
        and not obj.metadata.HasField("deletionTimestamp")
    ]
