"""The rollout of a Deployment: how far it is, its revisions, and the way back to one; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from cli.rollouts.revision import CHANGE_CAUSE, Revision
from cli.rollouts.verdict import DONE, FAILED, ROLLED_BACK, Verdict, waiting

if TYPE_CHECKING:
    from protos.apps_pb2 import Deployment, DeploymentCondition, ReplicaSet
    from protos.core_pb2 import PodTemplateSpec

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
_TIMED_OUT = "ProgressDeadlineExceeded"


def verdict(obj: Deployment) -> Verdict:
    """By kubectl's rules, and "rolled back" where the master has done that."""
    name, status = f'deployment "{obj.metadata.name}"', obj.status
    if obj.metadata.generation > status.observedGeneration:
        return Verdict("Waiting for deployment spec update to be observed...")
    progressing = _condition(obj, "Progressing")
    if progressing is not None and progressing.reason == _TIMED_OUT:
        return Verdict(f"{name} exceeded its progress deadline", FAILED)
    updated, replicas, available = status.updatedReplicas, status.replicas, status.availableReplicas
    wanted = obj.spec.replicas
    if progressing is not None and progressing.reason == "ReplicaSetCreateError":
        return waiting(name, progressing.message)
    if updated < wanted:
        paused = "; it is paused: `sampan rollout resume` lets it go on" if obj.spec.paused else ""
        return waiting(name, f"{updated} out of {wanted} new replicas have been updated{paused}")
    if replicas > updated:
        return waiting(name, f"{replicas - updated} old replicas are pending termination")
    if available < updated:
        return waiting(name, f"{available} of {updated} updated replicas are available")
    rolled_back = _condition(obj, "RolledBack")
    if rolled_back is not None and rolled_back.status == "True":
        return Verdict(f"{name}: {rolled_back.message}", ROLLED_BACK)
    return Verdict(f"{name} successfully rolled out", DONE)


def _condition(obj: Deployment, kind: str) -> DeploymentCondition | None:
    return next((found for found in obj.status.conditions if found.type == kind), None)


def revision_of(annotations: Mapping[str, str]) -> int:
    """0 where there is none."""
    text = annotations.get(REVISION, "")
    return int(text) if text.isdigit() else 0


def owned(obj: Deployment, sets: Iterable[ReplicaSet]) -> list[ReplicaSet]:
    """The Deployment's own ReplicaSets, lowest revision first."""
    uid = obj.metadata.uid
    mine = [rs for rs in sets if any(one.controller and one.uid == uid for one in rs.metadata.ownerReferences)]
    return sorted(mine, key=lambda rs: revision_of(rs.metadata.annotations))


def bare(template: PodTemplateSpec) -> PodTemplateSpec:
    """A ReplicaSet's template as it stands in the Deployment: without the hash label."""
    copy = type(template)()
    copy.CopyFrom(template)
    copy.metadata.labels.pop(HASH_LABEL, None)
    return copy


def newest_set(obj: Deployment, mine: Sequence[ReplicaSet]) -> ReplicaSet | None:
    """The ReplicaSet of the present template, if there is one yet."""
    wanted = bare(obj.spec.template)
    return next((rs for rs in mine if bare(rs.spec.template) == wanted), None)


def revisions(obj: Deployment, sets: Iterable[ReplicaSet]) -> list[Revision]:
    """What the Deployment's own ReplicaSets hold, lowest revision first."""
    return [
        Revision(
            revision_of(rs.metadata.annotations),
            rs.metadata.annotations.get(CHANGE_CAUSE, ""),
            bare(rs.spec.template),
        )
        for rs in owned(obj, sets)
    ]
