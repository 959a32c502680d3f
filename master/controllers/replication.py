"""Keeps the number of pods of a ReplicationController: from the controller and its pods to a Plan; pure."""

from __future__ import annotations

from collections.abc import Iterable

from common.selectors import LabelSelector, from_map
from master.controllers import members, rolling
from master.controllers.plan import Plan
from master.controllers.pods import is_terminating
from protos import core_pb2

KIND = "ReplicationController"


def reconcile(rc: core_pb2.ReplicationController, pods: Iterable[core_pb2.Pod], now: float) -> Plan:
    """As members.reconcile, for the controller's map of labels; and its rolling update where that is asked for."""
    found = list(pods)
    selector = selector_of(rc)
    if not rolling.asked(rc) or is_terminating(rc):
        return members.reconcile(rc, selector, found, now)
    step = rolling.reconcile(rc, members.pod_claimer(rc, selector), found, now)
    return step if step is not None else rolling.forget(rc, members.reconcile(rc, selector, found, now))


def selector_of(rc: core_pb2.ReplicationController) -> LabelSelector | None:
    """None for an empty one, which fits nothing (validation refuses it)."""
    return from_map(rc.spec.selector) if rc.spec.selector else None
