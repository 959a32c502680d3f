"""Keeps the number of pods of a ReplicaSet, all of one image: from the set and its pods to a Plan; pure."""

from __future__ import annotations

from collections.abc import Iterable

from master.controllers import imagepins, members
from master.controllers.index import selector_of
from master.controllers.plan import Plan
from protos import apps_pb2, core_pb2

KIND = "ReplicaSet"


def reconcile(rs: apps_pb2.ReplicaSet, pods: Iterable[core_pb2.Pod], now: float) -> Plan:
    """As members.reconcile, for the set's full selector.

    Until the first pod of a Deployment's set has told what its tags mean, no other is made.
    """
    found = list(pods)
    pins = imagepins.pins(rs, found, now)
    plan = members.reconcile(
        rs,
        selector_of(rs),
        found,
        now,
        most=1 if pins.alone else None,
        mark=lambda pod: imagepins.mark(pod, pins.known),
    )
    waits = [wait for wait in (plan.again, pins.again) if wait is not None]
    return Plan((*pins.actions, *plan.actions), plan.after, min(waits, default=None), plan.failed)
