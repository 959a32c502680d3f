"""Whether a rollout has failed, and the way back to the last revision that was rolled out completely; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from common.podtrouble import worst
from master.controllers.confighash import HASH
from master.controllers.deployment import revisions
from master.controllers.deployment.status import PROGRESSING, TIMED_OUT
from master.controllers.deployment.strategy import Side
from master.controllers.plan import Action, Change, Note
from master.controllers.pods import condition
from master.store.store import key_of
from protos import apps_pb2, core_pb2

ASK = "sampan.dev/auto-rollback"
"""On a Deployment, "true": a failed rollout goes back by itself."""


@dataclass(frozen=True)
class Failure:
    """Why a rollout has failed: one word and one line."""

    reason: str
    message: str


def failure(status: apps_pb2.DeploymentStatus, new_pods: Iterable[core_pb2.Pod], now: float) -> Failure | None:
    """None while there is hope. `status` is that of this pass; `new_pods` are the active ones of the new set."""
    trouble = worst(new_pods, now)
    if trouble is not None and trouble.definite:
        return Failure(trouble.reason, str(trouble))
    found = condition(status, PROGRESSING)
    if found is not None and found.reason == TIMED_OUT:
        return Failure(TIMED_OUT, f"{found.message} ({trouble})" if trouble is not None else found.message)
    return None


def target(old: Sequence[Side]) -> apps_pb2.ReplicaSet | None:
    """The set of the highest revision among those that were once complete."""
    complete = [one.rs for one in old if one.rs.metadata.annotations.get(revisions.ROLLED_OUT) == "true"]
    return max(complete, key=revisions.revision_of, default=None)


def actions(
    deployment: apps_pb2.Deployment, new: apps_pb2.ReplicaSet, back: apps_pb2.ReplicaSet, why: Failure
) -> tuple[Action, ...]:
    """One write that puts the template back and says why, and an Event."""
    failed = revisions.bare(deployment.spec.template)
    restored = revisions.bare(back.spec.template)
    revision = revisions.revision_of(new)
    failed_hash = deployment.spec.template.metadata.annotations.get(HASH, "")

    def change(newest: apps_pb2.Deployment) -> None:
        # Somebody may have put another template there, which is to be tried first.
        if revisions.bare(newest.spec.template) != failed or newest.metadata.annotations.get(ASK) != "true":
            return
        newest.spec.template.CopyFrom(restored)
        marks = newest.metadata.annotations
        marks[revisions.ROLLED_BACK_FROM] = str(revision)
        marks[revisions.ROLLED_BACK_TO] = back.metadata.labels[revisions.HASH_LABEL]
        marks[revisions.ROLLBACK_REASON] = f"{why.reason}: {why.message}"
        if failed_hash:
            marks[revisions.FAILED_CONFIG] = failed_hash
        else:
            marks.pop(revisions.FAILED_CONFIG, None)

    told = f"Rolled back from revision {revision} to {revisions.revision_of(back)}: {why.message}"
    return (
        Change(key_of(deployment), deployment.metadata.uid, "roll back", change),
        Note(deployment, "Warning", "RolledBack", told),
    )


def forget(deployment: apps_pb2.Deployment, new: apps_pb2.ReplicaSet | None) -> Change | None:
    """Takes the marks of a rollback off once another template stands in its place."""
    marks = deployment.metadata.annotations
    if revisions.ROLLED_BACK_TO not in marks:
        return None
    if new is not None and new.metadata.labels.get(revisions.HASH_LABEL) == marks[revisions.ROLLED_BACK_TO]:
        return None
    template = revisions.bare(deployment.spec.template)

    def change(newest: apps_pb2.Deployment) -> None:
        if revisions.bare(newest.spec.template) == template:
            for mark in revisions.ROLLBACK_MARKS:
                newest.metadata.annotations.pop(mark, None)

    return Change(key_of(deployment), deployment.metadata.uid, "forget the rollback of", change)
