"""Taints of a node from its conditions and its cordon, and pods that have to leave because of NoExecute taints; pure.

Pods on a node that is not ready or unreachable are not evicted here: that is for the two clocks of
master/controllers/nodes.py, which know since when a node has been silent and whether it is the master that is cut off.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from master.controllers.plan import NOTHING, Action, Change, Delete, Note, Plan
from master.controllers.pods import condition, is_active, seconds
from master.controllers.tolerations import (
    DISK_PRESSURE,
    MEMORY_PRESSURE,
    NO_EXECUTE,
    NO_SCHEDULE,
    NOT_READY,
    PID_PRESSURE,
    UNREACHABLE,
    UNSCHEDULABLE,
    borne_for,
)
from master.store.store import key_of
from protos import core_pb2

_PRESSURES = (
    ("MemoryPressure", MEMORY_PRESSURE),
    ("DiskPressure", DISK_PRESSURE),
    ("PIDPressure", PID_PRESSURE),
)
OURS = frozenset({NOT_READY, UNREACHABLE, UNSCHEDULABLE, *(key for _, key in _PRESSURES)})
"""Keys whose taints mirror the node; whoever sets or removes one by hand finds it put right."""
CLOCKED = frozenset({NOT_READY, UNREACHABLE})

_Mark = tuple[str, str]
"""A taint's key and effect, which no node has twice."""


def wanted(node: core_pb2.Node) -> tuple[_Mark, ...]:
    """The taints that the node's state asks for, by Kubernetes' rules."""
    found: list[_Mark] = []
    ready = condition(node.status, "Ready")
    if ready is not None and ready.status != "True":
        key = UNREACHABLE if ready.status == "Unknown" else NOT_READY
        found += [(key, NO_SCHEDULE), (key, NO_EXECUTE)]
    for kind, key in _PRESSURES:
        pressure = condition(node.status, kind)
        if pressure is not None and pressure.status == "True":
            found.append((key, NO_SCHEDULE))
    if node.spec.unschedulable:
        found.append((UNSCHEDULABLE, NO_SCHEDULE))
    return tuple(found)


def reconcile(node: core_pb2.Node, pods: Iterable[core_pb2.Pod], now: float) -> Plan:
    """Sets the node's own taints, and deletes pods that bear a NoExecute taint no longer; `now` in Unix seconds.

    The first time a taint is seen without its time, the time is written, and it counts from then.
    """
    if _settled(node.spec.taints, node):
        return _evict(node, pods, now)

    def change(newest: core_pb2.Node) -> None:
        _settle(newest, now)

    # Pods are looked at again once the taints are in the store: that marks the node dirty.
    return Plan((Change(key_of(node), node.metadata.uid, "taint", change),), _told(node))


def _told(node: core_pb2.Node) -> tuple[Action, ...]:
    """The Event that a node was cordoned or is let back."""
    cordoned = any(taint.key == UNSCHEDULABLE for taint in node.spec.taints)
    if cordoned == node.spec.unschedulable:
        return ()
    reason = "NodeNotSchedulable" if node.spec.unschedulable else "NodeSchedulable"
    return (Note(node, "Normal", reason, f"Node {node.metadata.name} status is now: {reason}"),)


def _settled(taints: Iterable[core_pb2.Taint], node: core_pb2.Node) -> bool:
    there = {(taint.key, taint.effect) for taint in taints if taint.key in OURS}
    dated = all(taint.HasField("timeAdded") for taint in taints if taint.effect == NO_EXECUTE)
    return dated and there == set(wanted(node))


def _settle(node: core_pb2.Node, now: float) -> None:
    marks = wanted(node)
    kept = [taint for taint in node.spec.taints if taint.key not in OURS or (taint.key, taint.effect) in marks]
    there = {(taint.key, taint.effect) for taint in kept}
    kept += [core_pb2.Taint(key=key, effect=effect) for key, effect in marks if (key, effect) not in there]
    del node.spec.taints[:]
    node.spec.taints.extend(kept)
    for taint in node.spec.taints:
        if taint.effect == NO_EXECUTE and not taint.HasField("timeAdded"):
            taint.timeAdded.FromSeconds(int(now))


def _evict(node: core_pb2.Node, pods: Iterable[core_pb2.Pod], now: float) -> Plan:
    taints = [taint for taint in node.spec.taints if taint.effect == NO_EXECUTE and taint.key not in CLOCKED]
    if not taints:
        return NOTHING
    actions: list[Action] = []
    after: list[Action] = []
    waits: list[float] = []
    for pod in pods:
        if not is_active(pod):
            continue
        ends = [(seconds(taint.timeAdded) + borne_for(pod.spec.tolerations, taint), taint) for taint in taints]
        at, taint = min(ends, key=lambda end: end[0])
        if at <= now:
            actions.append(Delete(key_of(pod), pod.metadata.uid))
            after.append(_note(pod, node, taint))
        elif at < math.inf:
            waits.append(at - now)
    return Plan(tuple(actions), tuple(after), min(waits, default=None))


def _note(pod: core_pb2.Pod, node: core_pb2.Node, taint: core_pb2.Taint) -> Note:
    words = f"{taint.key}={taint.value}" if taint.value else taint.key
    text = (
        f"Marking for deletion Pod {pod.metadata.namespace}/{pod.metadata.name}: "
        f"node {node.metadata.name} has the taint {words}:{taint.effect}"
    )
    return Note(pod, "Normal", "TaintManagerEviction", text)
