"""Keeps a number of pods of one template, for ReplicationControllers and ReplicaSets alike; pure.

Rules: Kubernetes' replica set controller. It needs no "expectations" (counts of writes not yet seen), because the
runner reads each pod from the store itself, and a write of ours is in the store before the next pass begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from common.errors import SampanError
from common.selectors import LabelSelector
from master.api.conditions import set_condition
from master.api.times import stamp
from master.controllers.claiming import Claimer
from master.controllers.plan import Action, Change, Create, Delete, Plan
from master.controllers.pods import condition, is_active, is_available, is_terminating, ready_since
from master.controllers.ranking import ranked
from master.store.store import key_of
from protos import core_pb2

BURST = 500
"""Pods created or deleted in one pass, Kubernetes' burst limit; the rest follows in the next."""
FAILURE = "ReplicaFailure"
_PASSING = (FAILURE, "OutdatedPods")
"""Conditions that stand only for as long as each pass says so anew."""


def reconcile(
    owner: Any,
    selector: LabelSelector | None,
    pods: Iterable[core_pb2.Pod],
    now: float,
    *,
    most: int | None = None,
    mark: Callable[[core_pb2.Pod], None] = lambda pod: None,
) -> Plan:
    """Adopts, releases, creates and deletes pods until `owner.spec.replicas` are active.

    `pods`: at least all pods of the namespace that match the selector or that the owner controls; `now` in Unix
    seconds. What the status says is what was there before the plan, as in Kubernetes. `most`: make no pod beyond this
    many, though more are asked for; `mark` adds to a pod that is about to be made.
    """
    leaving = is_terminating(owner)
    claimer = pod_claimer(owner, selector)
    found = list(pods)
    mine, adopt, release = claimer.claim(pod for pod in found if is_active(pod))
    members = mine + adopt
    wanted = replicas_of(owner)
    actions = claimer.actions(adopt, release)
    surplus = len(members) - wanted
    if not leaving and surplus < 0:
        missing = min(-surplus, BURST) if most is None else max(0, min(-surplus, BURST, most - len(members)))
        for _ in range(missing):
            made = new_pod(claimer)
            mark(made)
            actions.append(Create(made, owner=owner))
    elif not leaving and surplus > 0 and not adopt:
        # After an adoption only the next pass deletes: by then it is known which pods are ours.
        doomed = ranked(mine, owner.spec.minReadySeconds, now)[: min(surplus, BURST)]
        actions += [deletion(pod, owner) for pod in doomed]
    return finish(claimer, actions, members, found, now)


def finish(
    claimer: Claimer,
    actions: list[Action],
    members: Sequence[core_pb2.Pod],
    found: Sequence[core_pb2.Pod],
    now: float,
    conditions: Sequence[Any] = (),
) -> Plan:
    """The plan of these actions, with the status after them, or, where one fails, with a status that says so.

    `conditions` are those that hold besides.
    """
    owner = claimer.owner
    status, again = _status(claimer, members, found, now)
    for told in conditions:
        before = condition(owner.status, told.type)
        since = before.lastTransitionTime if before is not None and before.status == told.status else stamp(now)
        status.conditions.add(
            type=told.type, status=told.status, reason=told.reason, message=told.message, lastTransitionTime=since
        )
    after: tuple[Action, ...] = () if status == owner.status else (_write_status(owner, status),)

    def failed(errors: Sequence[tuple[Action, SampanError]]) -> tuple[Action, ...]:
        refused = [(action, error) for action, error in errors if isinstance(action, Create | Delete)]
        if not refused:
            return ()
        action, error = refused[0]
        told = type(status)()
        told.CopyFrom(owner.status)
        told.MergeFrom(type(status)(observedGeneration=status.observedGeneration))
        reason = "FailedDelete" if isinstance(action, Delete) else "FailedCreate"
        set_condition(told.conditions, FAILURE, "True", reason=reason, message=str(error), now=now)
        return () if told == owner.status else (_write_status(owner, told),)

    return Plan(tuple(actions), after, again, failed)


def pod_claimer(owner: Any, selector: LabelSelector | None) -> Claimer:
    return Claimer(owner, selector, is_active)


def replicas_of(owner: Any) -> int:
    """How many are asked for; 1 where nothing is said."""
    return int(owner.spec.replicas) if owner.spec.HasField("replicas") else 1


def deletion(pod: core_pb2.Pod, owner: Any) -> Delete:
    return Delete(key_of(pod), pod.metadata.uid, owner=owner)


def new_pod(claimer: Claimer) -> core_pb2.Pod:
    """A pod of the owner's template; the server appends five characters to `<name>-`."""
    owner = claimer.owner
    pod = core_pb2.Pod(spec=owner.spec.template.spec)
    meta, template = pod.metadata, owner.spec.template.metadata
    meta.generateName = f"{owner.metadata.name}-"
    meta.namespace = owner.metadata.namespace
    meta.labels.update(template.labels)
    meta.annotations.update(template.annotations)
    meta.finalizers.extend(template.finalizers)
    meta.ownerReferences.append(claimer.reference())
    return pod


def _status(
    claimer: Claimer, members: Sequence[core_pb2.Pod], found: Sequence[core_pb2.Pod], now: float
) -> tuple[Any, float | None]:
    """The status for these pods, and the seconds until the next one becomes available (None: no such pod)."""
    owner = claimer.owner
    labels, min_ready = owner.spec.template.metadata.labels, owner.spec.minReadySeconds
    since = [ready for pod in members if (ready := ready_since(pod)) is not None]
    status = type(owner.status)(
        replicas=len(members),
        fullyLabeledReplicas=sum(
            all(pod.metadata.labels.get(name) == value for name, value in labels.items()) for pod in members
        ),
        readyReplicas=len(since),
        # Without a time to wait for, ready is available: not read from every pod a second time.
        availableReplicas=sum(is_available(pod, min_ready, now) for pod in members) if min_ready else len(since),
        observedGeneration=owner.metadata.generation,
        conditions=[kept for kept in owner.status.conditions if kept.type not in _PASSING],
    )
    if "terminatingReplicas" in status.DESCRIPTOR.fields_by_name:
        status.terminatingReplicas = sum(is_terminating(pod) for pod in claimer.claim(found)[0])
    waits = [wait for ready in since if (wait := ready + min_ready - now) > 0] if min_ready else []
    return status, min(waits, default=None)


def _write_status(owner: Any, status: Any) -> Change:
    def change(newest: Any) -> None:
        newest.status.CopyFrom(status)

    return Change(key_of(owner), owner.metadata.uid, "status", change, status=True)
