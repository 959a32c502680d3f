"""Two clocks for a silent node: first its traffic goes elsewhere, later its pods do; and pod CIDRs; pure.

Silence is measured in monotonic seconds from the last heartbeat and never from before `base`, the time since which
this master can tell (its start, or the end of a stall of its own): each node then gets its full time-out again, and
after a start some seconds more to come back.
While every node looks dead, it is the master that is cut off: nodes are marked, no pod is evicted (Kubernetes' full
disruption mode; there would be no node to move to anyway), and the eviction clocks start anew when one returns.
"""

from __future__ import annotations

import functools
import ipaddress
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from common.errors import Unavailable
from master.controllers.plan import Action, Change, Delete, Note, Plan
from master.controllers.pods import condition, is_active, is_ready, seconds
from master.controllers.tolerations import NO_EXECUTE, NOT_READY, UNREACHABLE, borne_for, tolerates
from master.store.store import key_of
from protos import core_pb2

STATUS_UNKNOWN = "NodeStatusUnknown"
HEARTBEATS_MISSED = 3
GRACE_SECONDS = 0.7
"""How late the heartbeat after the missed ones may come."""
REJOIN_SECONDS = 6.0
"""More for a node that this master has not heard yet: until a session stands again its agent waits between two tries
(gRPC's own pause is up to 3 s), and to take its traffic away meanwhile would refuse it everywhere at once."""


class NodeTable(Protocol):
    """Who was heard when, in monotonic seconds; see master/dispatcher/nodes.py."""

    started_at: float

    def last_heartbeat(self, name: str) -> float | None: ...

    def heartbeat_period(self) -> float: ...


@dataclass(frozen=True)
class Timeouts:
    """Seconds. `traffic`: silence until a node's endpoints leave, short enough that they have left every routing table
    within 4 s; `reschedule`: how long pods then, or on a node that says it is not ready, wait for it, unless a
    toleration of their own says otherwise. Resources gives new pods such a toleration (10 s, where Kubernetes gives
    300). What is left of 15 s is for the engines to start the replacements."""

    traffic: float = HEARTBEATS_MISSED + GRACE_SECONDS
    reschedule: float = 10.0

    def at_pace(self, heartbeat_period: float) -> Timeouts:
        """The same with room for some lost heartbeats of this period (seconds)."""
        traffic = max(self.traffic, HEARTBEATS_MISSED * heartbeat_period + GRACE_SECONDS)
        return Timeouts(traffic, self.reschedule)


@dataclass(frozen=True)
class Memory:
    """What one pass hands to the next, in monotonic seconds: the end of the last full disruption so far, and since
    when each node that talks has said that it is not ready."""

    disrupted: bool = False
    floor: float = -math.inf
    not_ready_since: Mapping[str, float] = field(default_factory=dict)


def reconcile(
    nodes: Sequence[core_pb2.Node],
    heard: Callable[[str], float | None],
    pods_on: Callable[[str], Iterable[core_pb2.Pod]],
    *,
    now: float,
    tick: float,
    base: float,
    timeouts: Timeouts,
    memory: Memory,
) -> tuple[Plan, Memory]:
    """Marks silent nodes and evicts pods whose node has been away for too long.

    `heard` gives the monotonic time of a node's last heartbeat, `now` is Unix time for timestamps, `tick` and `base`
    are monotonic. `Plan.again` is the time until the next clock runs out.
    """
    last = {node.metadata.name: _last(heard(node.metadata.name), node, now, tick, base) for node in nodes}
    dead = {name for name, at in last.items() if tick - at >= timeouts.traffic}
    disrupted = bool(nodes) and len(dead) == len(nodes)
    floor = tick if disrupted else memory.floor
    waits = [at + timeouts.traffic - tick for name, at in last.items() if name not in dead]
    actions: list[Action] = []
    after: list[Action] = []
    not_ready_since: dict[str, float] = {}
    for node in nodes:
        name = node.metadata.name
        if name in dead:
            back = _came_back(heard, name)
            mark = _mark(node, tick - last[name], now, back)
            if mark is not None:
                actions.append(mark)
                after.append(Note(node, "Warning", "NodeNotReady", f"Node {name} status is now: NodeNotReady"))
            pods = [pod for pod in pods_on(name) if is_active(pod)]
            after += [_unready(pod, name, now, back) for pod in pods if is_ready(pod)]
            since, taint = max(last[name], floor) + timeouts.traffic, UNREACHABLE
        elif _says_not_ready(node):
            since = not_ready_since[name] = memory.not_ready_since.get(name, tick)
            since = max(since, base, floor)
            pods = [pod for pod in pods_on(name) if is_active(pod)]
            taint = NOT_READY
        else:
            continue
        if disrupted:
            continue
        for pod in pods:
            wait = since + toleration(pod, taint, timeouts.reschedule) - tick
            if wait <= 0:
                actions.append(Delete(key_of(pod), pod.metadata.uid))
                after.append(_eviction(pod, name))
            elif wait < math.inf:
                waits.append(wait)
    plan = Plan(tuple(actions), tuple(after), min(waits, default=None))
    return plan, Memory(disrupted, floor, not_ready_since)


def toleration(pod: core_pb2.Pod, key: str, default: float) -> float:
    """Seconds a pod bears a NoExecute taint: its shortest matching tolerationSeconds, for ever (inf) when a
    toleration sets none, `default` when the pod says nothing about it."""
    taint = core_pb2.Taint(key=key, effect=NO_EXECUTE)
    if not any(tolerates(found, taint) for found in pod.spec.tolerations):
        return default
    return borne_for(pod.spec.tolerations, taint)


def _last(heard: float | None, node: core_pb2.Node, now: float, tick: float, base: float) -> float:
    """Since when a node is silent, in monotonic seconds. One that registers has yet to say its first word."""
    if heard is not None:
        return max(heard, base)
    made = tick - max(0.0, now - seconds(node.metadata.creationTimestamp))
    return max(made, base + REJOIN_SECONDS)


def _says_not_ready(node: core_pb2.Node) -> bool:
    ready = condition(node.status, "Ready")
    return ready is not None and ready.status != "True" and ready.reason != STATUS_UNKNOWN


def _came_back(heard: Callable[[str], float | None], name: str) -> Callable[[], bool]:
    """Whether the node was heard since now: what it reports must not be overwritten by a plan made before."""
    at = heard(name)
    return lambda: heard(name) != at


def _mark(node: core_pb2.Node, silent: float, now: float, back: Callable[[], bool]) -> Change | None:
    ready = condition(node.status, "Ready")
    if ready is not None and ready.status == "Unknown":
        return None
    message = f"The agent stopped reporting: not heard for {silent:.1f} s"

    def change(newest: core_pb2.Node) -> None:
        if back():
            return
        found = condition(newest.status, "Ready")
        if found is None:
            found = newest.status.conditions.add(type="Ready")
        _set(found, "Unknown", STATUS_UNKNOWN, message, now)

    return Change(key_of(node), node.metadata.uid, "mark unknown", change, status=True)


def _unready(pod: core_pb2.Pod, node: str, now: float, back: Callable[[], bool]) -> Change:
    def change(newest: core_pb2.Pod) -> None:
        found = condition(newest.status, "Ready")
        if not back() and found is not None and found.status == "True":
            _set(found, "False", "NodeNotReady", f"Node {node} stopped reporting", now)

    return Change(key_of(pod), pod.metadata.uid, "mark unready", change, status=True)


def _set(found: Any, status: str, reason: str, message: str, now: float) -> None:
    if found.status != status:
        found.lastTransitionTime.FromMicroseconds(int(now * 1e6))
    found.status, found.reason, found.message = status, reason, message


def _eviction(pod: core_pb2.Pod, node: str) -> Note:
    text = f"Marking for deletion Pod {pod.metadata.namespace}/{pod.metadata.name}: node {node} is not ready"
    return Note(pod, "Normal", "TaintManagerEviction", text)


def allocate_pod_cidr(cluster_cidr: str, taken: Iterable[str], prefix: int = 24) -> str:
    """The lowest free /`prefix` of the cluster's IPv4 range. `taken` are the CIDRs in use, of any size.

    Raises Unavailable when none is left, ValueError for a range that is none.
    """
    cluster = ipaddress.IPv4Network(cluster_cidr)
    if prefix < cluster.prefixlen:
        raise ValueError(f"cluster CIDR {cluster_cidr} is smaller than one node's /{prefix}")
    size = 2 ** (32 - prefix)
    first = int(cluster.network_address)
    count = cluster.num_addresses // size
    used: set[int] = set()
    for text in taken:
        low, high = _span(text)
        used.update(range(max((low - first) // size, 0), min((high - first) // size, count - 1) + 1))
    for index in range(count):
        if index not in used:
            return f"{ipaddress.IPv4Address(first + index * size)}/{prefix}"
    raise Unavailable(
        f"cluster CIDR {cluster_cidr} has no free /{prefix} for another node ({count} in use): "
        "remove nodes that are gone, or start the master with a larger --cluster-cidr"
    )


@functools.lru_cache(maxsize=16384)
def _span(cidr: str) -> tuple[int, int]:
    """First and last address as numbers; remembered, because a thousand nodes may register at once."""
    network = ipaddress.IPv4Network(cidr)
    return int(network.network_address), int(network.broadcast_address)
