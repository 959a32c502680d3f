"""Replaces the pods of a ReplicationController by those of its template, one by one, where that is asked for; pure.

Kubernetes leaves old pods of a changed controller alone; so does Sampan without the annotation. See docs/rollouts.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from master.controllers import members
from master.controllers.claiming import Claimer
from master.controllers.deployment.strategy import exclusive
from master.controllers.plan import Action, Change, Create, Plan
from master.controllers.pods import FINISHED, is_active, is_available
from master.controllers.ranking import ranked
from master.store.store import key_of
from protos import core_pb2

ROLLING = "sampan.dev/rolling-update"
"""On the controller: "once" (until no old pod is left, as `sampan rolling-update` asks) or "true" (always)."""
OUTDATED = "OutdatedPods"


def asked(rc: core_pb2.ReplicationController) -> bool:
    return rc.metadata.annotations.get(ROLLING) in ("once", "true")


def made_from(pod: core_pb2.Pod, template: core_pb2.PodTemplateSpec) -> bool:
    """Whether the pod is as the template asks; what only the pod has (defaults, injected tolerations) is no matter."""
    for descriptor, value in template.spec.ListFields():
        have = getattr(pod.spec, descriptor.name)
        if descriptor.name == "tolerations":
            if any(one not in have for one in value):
                return False
        elif have != value:
            return False
    ours, theirs = template.metadata, pod.metadata
    return all(theirs.labels.get(key) == text for key, text in ours.labels.items()) and all(
        theirs.annotations.get(key) == text for key, text in ours.annotations.items()
    )


def reconcile(
    rc: core_pb2.ReplicationController, claimer: Claimer, pods: Sequence[core_pb2.Pod], now: float
) -> Plan | None:
    """One step; None when every pod is of the template and the usual rules do.

    One pod beyond `spec.replicas` is made; an old one goes when as many as asked for are available without it. A
    template that one node can give to one pod only (a host port) goes the other way round.
    """
    mine, adopt, release = claimer.claim(pod for pod in pods if is_active(pod))
    old = [pod for pod in mine if not made_from(pod, rc.spec.template)]
    if not old:
        return None
    if adopt or release:
        return members.finish(claimer, claimer.actions(adopt, release), mine + adopt, pods, now)
    wanted, min_ready = members.replicas_of(rc), rc.spec.minReadySeconds
    surge = 0 if exclusive(rc.spec.template.spec) else 1
    new = [pod for pod in mine if pod not in old]
    live = sum(pod.status.phase not in FINISHED for pod in claimer.claim(pods)[0])
    room = wanted + surge - (len(mine) if surge else live)
    actions: list[Action] = [Create(members.new_pod(claimer), owner=rc)] if min(room, wanted - len(new)) > 0 else []
    available = sum(is_available(pod, min_ready, now) for pod in mine)
    order = ranked(old, min_ready, now) + ranked(new, min_ready, now)
    surplus = len(mine) - wanted - surge
    if surplus > 0:
        # Scaled down in mid-way: what does not serve goes first, of whichever template it is.
        order.sort(key=lambda pod: is_available(pod, min_ready, now))
        actions += [members.deletion(pod, rc) for pod in order[:surplus]]
    else:
        settled = all(is_available(pod, min_ready, now) for pod in new)
        spare = available > wanted - (1 - surge)
        if spare or (settled and not is_available(order[0], min_ready, now)):
            actions.append(members.deletion(order[0], rc))
    told = core_pb2.ReplicationControllerCondition(
        type=OUTDATED,
        status="True",
        reason="RollingUpdate",
        message=f"{len(old)} of {len(mine)} pods are of an older template",
    )
    return members.finish(claimer, actions, mine, pods, now, (told,))


def forget(rc: core_pb2.ReplicationController, plan: Plan) -> Plan:
    """Takes the wish for one rolling update off a controller that has no old pod left."""
    if rc.metadata.annotations.get(ROLLING) != "once" or rc.status.observedGeneration != rc.metadata.generation:
        return plan
    if plan.actions or rc.status.readyReplicas < members.replicas_of(rc):
        return plan
    template = rc.spec.template

    def change(newest: Any) -> None:
        if newest.spec.template == template and newest.metadata.annotations.get(ROLLING) == "once":
            del newest.metadata.annotations[ROLLING]

    gone = Change(key_of(rc), rc.metadata.uid, "forget the rolling update of", change)
    return Plan((*plan.actions, gone), plan.after, plan.again, plan.failed)
