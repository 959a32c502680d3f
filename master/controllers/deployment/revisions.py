"""Which ReplicaSet holds which template: equality, hashes and names, revision numbers, history; pure.

Annotations and labels are Kubernetes', so that kubectl's rollout commands read them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from master.controllers.claiming import Claimer
from master.controllers.pods import is_terminating, seconds
from protos import apps_pb2, core_pb2

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAXIMUM = "deployment.kubernetes.io/max-replicas"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
ROLLED_OUT = "sampan.dev/rolled-out"
"""On a ReplicaSet, "true": its template was once rolled out completely."""
ROLLED_BACK_TO = "sampan.dev/rolled-back-to"
ROLLED_BACK_FROM = "sampan.dev/rolled-back-from"
ROLLBACK_REASON = "sampan.dev/rollback-reason"
FAILED_CONFIG = "sampan.dev/failed-config-hash"
ROLLBACK_MARKS = (ROLLED_BACK_TO, ROLLED_BACK_FROM, ROLLBACK_REASON, FAILED_CONFIG)
"""On a Deployment, for as long as it stands where an automatic rollback has put it."""

_NOT_COPIED = frozenset((LAST_APPLIED, REVISION, HISTORY, DESIRED, MAXIMUM, ROLLED_OUT, *ROLLBACK_MARKS))
# No vowels and no digits that look like letters, as in Kubernetes: a hash never reads as a word.
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_HASH_LENGTH = 10
_HISTORY_LENGTH = 2000


def bare(template: core_pb2.PodTemplateSpec) -> core_pb2.PodTemplateSpec:
    """The template as the user wrote it: without the label that tells ReplicaSets apart."""
    copy = core_pb2.PodTemplateSpec()
    copy.CopyFrom(template)
    copy.metadata.labels.pop(HASH_LABEL, None)
    return copy


def template_hash(template: core_pb2.PodTemplateSpec, collisions: int = 0) -> str:
    """Ten letters and digits; `collisions` gives another for the same template."""
    digest = hashlib.sha256(bare(template).SerializeToString(deterministic=True))
    digest.update(str(collisions).encode() if collisions else b"")
    number = int.from_bytes(digest.digest()[:12], "big")
    letters = []
    for _ in range(_HASH_LENGTH):
        number, rest = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[rest])
    return "".join(letters)


def split(
    template: core_pb2.PodTemplateSpec, sets: Iterable[apps_pb2.ReplicaSet]
) -> tuple[apps_pb2.ReplicaSet | None, list[apps_pb2.ReplicaSet]]:
    """The ReplicaSet of this template (the oldest, should there be several) and all others, oldest first."""
    ordered = sorted(sets, key=lambda rs: (seconds(rs.metadata.creationTimestamp), rs.metadata.name))
    wanted = bare(template)
    new = next((rs for rs in ordered if bare(rs.spec.template) == wanted and not is_terminating(rs)), None)
    return new, [rs for rs in ordered if rs is not new]


def revision_of(rs: apps_pb2.ReplicaSet) -> int:
    """0 for a set that has none."""
    text = rs.metadata.annotations.get(REVISION, "")
    return int(text) if text.isdigit() else 0


def next_revision(new: apps_pb2.ReplicaSet | None, old: Sequence[apps_pb2.ReplicaSet]) -> int:
    """One more than any other set's; the new set's own while it is the highest already."""
    highest = max((revision_of(rs) for rs in old), default=0)
    own = revision_of(new) if new is not None else 0
    return own if own > highest else highest + 1


def number_of(annotations: Mapping[str, str], name: str) -> int | None:
    """An annotation that holds a number."""
    text = annotations.get(name, "")
    return int(text) if text.isdigit() else None


def copied(deployment: apps_pb2.Deployment) -> dict[str, str]:
    """The annotations a ReplicaSet takes over, change-cause among them."""
    return {name: text for name, text in deployment.metadata.annotations.items() if name not in _NOT_COPIED}


def set_annotations(deployment: apps_pb2.Deployment, rs: apps_pb2.ReplicaSet, revision: int) -> dict[str, str]:
    """The annotations of the new set: copied ones, its revision, and the revisions it had before."""
    found = {**rs.metadata.annotations, **copied(deployment)}
    own = revision_of(rs)
    if own < revision:
        found[REVISION] = str(revision)
        if own:
            history = [*filter(None, found.get(HISTORY, "").split(",")), str(own)]
            while len(",".join(history)) > _HISTORY_LENGTH:
                history.pop(0)
            found[HISTORY] = ",".join(history)
    return found


def new_set(deployment: apps_pb2.Deployment, claimer: Claimer, revision: int) -> apps_pb2.ReplicaSet:
    """A ReplicaSet for the Deployment's template, of no pods yet."""
    made = apps_pb2.ReplicaSet()
    digest = template_hash(deployment.spec.template, deployment.status.collisionCount)
    meta = made.metadata
    meta.name, meta.namespace = f"{deployment.metadata.name}-{digest}", deployment.metadata.namespace
    made.spec.template.CopyFrom(bare(deployment.spec.template))
    made.spec.template.metadata.labels[HASH_LABEL] = digest
    meta.labels.update(made.spec.template.metadata.labels)
    meta.ownerReferences.append(claimer.reference())
    made.spec.selector.CopyFrom(deployment.spec.selector)
    made.spec.selector.matchLabels[HASH_LABEL] = digest
    made.spec.minReadySeconds = deployment.spec.minReadySeconds
    made.spec.replicas = 0
    for name, text in set_annotations(deployment, made, revision).items():
        meta.annotations[name] = text
    return made


def surplus_history(
    deployment: apps_pb2.Deployment, old: Iterable[apps_pb2.ReplicaSet], has_pods: Mapping[str, int]
) -> list[apps_pb2.ReplicaSet]:
    """Old sets beyond revisionHistoryLimit, lowest revision first; only sets that keep and have no pods.

    `has_pods`: uid of a set -> pods it still has, Terminating ones too; pods that ended go with their set.
    """
    if not deployment.spec.HasField("revisionHistoryLimit"):
        return []
    idle = [rs for rs in old if not rs.spec.replicas and not has_pods.get(rs.metadata.uid) and not is_terminating(rs)]
    idle.sort(key=lambda rs: (revision_of(rs), seconds(rs.metadata.creationTimestamp)))
    return idle[: max(0, len(idle) - deployment.spec.revisionHistoryLimit)]
