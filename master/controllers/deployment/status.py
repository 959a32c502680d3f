"""What a Deployment's status says: counts, Available, Progressing and its deadline, ReplicaFailure; pure.

Types, reasons and messages are Kubernetes', for `kubectl rollout status` and `kubectl wait` read them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from master.api.times import stamp
from master.controllers.deployment import revisions
from master.controllers.deployment.strategy import Bounds, Side
from master.controllers.members import FAILURE
from master.controllers.pods import condition, is_ready, seconds
from protos import apps_pb2

AVAILABLE, PROGRESSING, ROLLED_BACK = "Available", "Progressing", "RolledBack"
CREATED, FOUND = "NewReplicaSetCreated", "FoundNewReplicaSet"
NOT_CREATED = "ReplicaSetCreateError"
UPDATED, COMPLETE, TIMED_OUT = "ReplicaSetUpdated", "NewReplicaSetAvailable", "ProgressDeadlineExceeded"
_ENDS = (TIMED_OUT, COMPLETE)
"""What these say is of the ReplicaSet in their message, and of no later one."""
PAUSED, RESUMED = "DeploymentPaused", "DeploymentResumed"
NO_DEADLINE = 2**31 - 1
"""progressDeadlineSeconds of this value is none, as in Kubernetes."""


@dataclass(frozen=True)
class Step:
    """What a pass has found out. `begun` is CREATED or FOUND when the rollout begins with this pass, else ""."""

    deployment: apps_pb2.Deployment
    new: Side | None
    old: Sequence[Side]
    ready: int
    limits: Bounds
    begun: str = ""
    begun_name: str = ""


def count_ready(pods: Sequence[object]) -> int:
    """How many of these active pods are Ready."""
    return sum(is_ready(pod) for pod in pods)  # type: ignore[arg-type]


def make(step: Step, now: float) -> tuple[apps_pb2.DeploymentStatus, float | None]:
    """The status, and the seconds until the deadline passes (None: there is none to wait for)."""
    deployment, new = step.deployment, step.new
    sides = [*step.old, *([new] if new is not None else [])]
    before = deployment.status
    available = sum(one.available for one in sides)
    status = apps_pb2.DeploymentStatus(
        observedGeneration=deployment.metadata.generation,
        replicas=sum(one.active for one in sides),
        updatedReplicas=new.active if new is not None else 0,
        readyReplicas=step.ready,
        availableReplicas=available,
        unavailableReplicas=max(0, max(deployment.spec.replicas, sum(one.spec for one in sides)) - available),
        terminatingReplicas=sum(one.live - one.active for one in sides),
        conditions=before.conditions,
    )
    if before.HasField("collisionCount"):
        status.collisionCount = before.collisionCount
    least = deployment.spec.replicas - step.limits.unavailable * (not step.limits.stop_first)
    if available >= least:
        put(status, AVAILABLE, "True", "MinimumReplicasAvailable", "Deployment has minimum availability.", now)
    else:
        put(
            status, AVAILABLE, "False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.",
            now,
        )  # fmt: skip
    failing = next((found for one in reversed(sides) if (found := condition(one.rs.status, FAILURE))), None)
    if failing is not None and failing.status == "True":
        put(status, FAILURE, "True", failing.reason, failing.message, now)
    else:
        drop(status, FAILURE)
    _rolled_back(step, status, now)
    return status, _progress(step, status, now)


def is_complete(deployment: apps_pb2.Deployment, status: apps_pb2.DeploymentStatus) -> bool:
    """All pods are of the new template and available, and no other is left."""
    wanted = deployment.spec.replicas
    return bool(
        status.updatedReplicas == wanted
        and status.replicas == wanted
        and status.availableReplicas == wanted
        and status.observedGeneration >= deployment.metadata.generation
    )


def deadline_of(deployment: apps_pb2.Deployment) -> int | None:
    """Seconds without progress after which a rollout has failed; None: never."""
    spec = deployment.spec
    found = spec.progressDeadlineSeconds if spec.HasField("progressDeadlineSeconds") else NO_DEADLINE
    return None if found >= NO_DEADLINE else found


def was_complete(deployment: apps_pb2.Deployment, status: apps_pb2.DeploymentStatus, name: str) -> bool:
    """A rollout to the set `name` that was through stays so, whatever scaling or failing pods do afterwards."""
    found = condition(deployment.status, PROGRESSING)
    told = found is not None and found.reason == COMPLETE and f'"{name}"' in found.message
    return told and status.replicas == status.updatedReplicas


def put(status: apps_pb2.DeploymentStatus, kind: str, word: str, reason: str, message: str, now: float) -> None:
    """Sets a condition; the transition time moves with its status, the update time with status or reason."""
    found = condition(status, kind)
    if found is None:
        found = status.conditions.add(type=kind, lastTransitionTime=stamp(now), lastUpdateTime=stamp(now))
    elif (found.status, found.reason) == (word, reason):
        return
    if found.status and found.status != word:
        found.lastTransitionTime.CopyFrom(stamp(now))
    found.status, found.reason, found.message = word, reason, message
    found.lastUpdateTime.CopyFrom(stamp(now))


def drop(status: apps_pb2.DeploymentStatus, kind: str) -> None:
    kept = [found for found in status.conditions if found.type != kind]
    if len(kept) != len(status.conditions):
        del status.conditions[:]
        status.conditions.extend(kept)


def _progress(step: Step, status: apps_pb2.DeploymentStatus, now: float) -> float | None:
    deployment, before = step.deployment, step.deployment.status
    limit = deadline_of(deployment)
    if limit is None:
        drop(status, PROGRESSING)
        return None
    found = condition(status, PROGRESSING)
    if deployment.spec.paused:
        if found is None or found.reason != TIMED_OUT:
            put(status, PROGRESSING, "Unknown", PAUSED, "Deployment is paused", now)
        return None
    if found is not None and found.reason == PAUSED:
        put(status, PROGRESSING, "Unknown", RESUMED, "Deployment is resumed", now)
    name = step.new.name if step.new is not None else step.begun_name or deployment.metadata.name
    if step.begun:
        verb = "Created new" if step.begun == CREATED else "Found new"
        _restart(status, step.begun, f'{verb} replica set "{name}"', now)
    elif is_complete(deployment, status) or was_complete(deployment, status, name):
        if is_complete(deployment, status):
            if found is not None and f'"{name}"' not in found.message:
                drop(status, PROGRESSING)
            put(status, PROGRESSING, "True", COMPLETE, f'ReplicaSet "{name}" has successfully progressed.', now)
        return None
    elif found is None or _moved(before, status) or (found.reason in _ENDS and f'"{name}"' not in found.message):
        _restart(status, UPDATED, f'ReplicaSet "{name}" is progressing.', now)
    found = condition(status, PROGRESSING)
    assert found is not None
    if found.reason in _ENDS:
        return None
    left = seconds(found.lastUpdateTime) + limit - now
    if left > 0:
        return left
    put(status, PROGRESSING, "False", TIMED_OUT, f'ReplicaSet "{name}" has timed out progressing.', now)
    return None


def _restart(status: apps_pb2.DeploymentStatus, reason: str, message: str, now: float) -> None:
    """Progress was made: the deadline counts from now."""
    put(status, PROGRESSING, "True", reason, message, now)
    found = condition(status, PROGRESSING)
    assert found is not None
    found.message = message
    found.lastUpdateTime.CopyFrom(stamp(now))


def _moved(before: apps_pb2.DeploymentStatus, status: apps_pb2.DeploymentStatus) -> bool:
    """More new pods, fewer old ones, or more ready or available ones than the status said so far."""
    return bool(
        status.updatedReplicas > before.updatedReplicas
        or status.replicas - status.updatedReplicas < before.replicas - before.updatedReplicas
        or status.readyReplicas > before.readyReplicas
        or status.availableReplicas > before.availableReplicas
    )


def _rolled_back(step: Step, status: apps_pb2.DeploymentStatus, now: float) -> None:
    """True for as long as the template is the one that an automatic rollback has put there."""
    marks = step.deployment.metadata.annotations
    target = marks.get(revisions.ROLLED_BACK_TO)
    if target and step.new is not None and step.new.rs.metadata.labels.get(revisions.HASH_LABEL) == target:
        reason, _, message = marks.get(revisions.ROLLBACK_REASON, "").partition(": ")
        told = f"revision {marks.get(revisions.ROLLED_BACK_FROM, '?')} was rolled back: {message}"
        found = condition(status, ROLLED_BACK)
        if found is not None and found.message != told:
            drop(status, ROLLED_BACK)
        put(status, ROLLED_BACK, "True", reason or TIMED_OUT, told, now)
    else:
        drop(status, ROLLED_BACK)
