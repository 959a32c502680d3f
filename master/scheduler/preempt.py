"""Who has to go so that a pod of higher priority fits: Kubernetes' order of choice; pure.

A node is a candidate when the pod would fit there without the pods of lower priority. Of those as many as possible
stay, the most important first. Chosen is the node with the fewest broken disruption budgets, then whose most
important victim matters least, then by the sum of the victims' priorities, then by their number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from common.selectors import LabelSelector
from master.scheduler.cluster import Cluster, Held
from master.scheduler.columns import Ints
from master.scheduler.core import possible
from master.scheduler.filters import Promised, has_room, suitable
from master.scheduler.requests import Wanted

ENOUGH = 10
"""Candidates looked at closely, of those that look best, before one is chosen."""
TRIED_AT_MOST = 300
_LEAST_PRIORITY = -(1 << 31)


class Victim(NamedTuple):
    """A pod that has to go."""

    uid: str
    held: Held


@dataclass
class Budget:
    """A PodDisruptionBudget: `allowed` more of the pods it selects may be disturbed now."""

    namespace: str
    selector: LabelSelector
    allowed: int

    def covers(self, held: Held) -> bool:
        return self.namespace == held.namespace and self.selector.matches(held.crowd.labels)

    def disturb(self, held: Held) -> None:
        """The pod is going: one less, if it is one of those."""
        if self.covers(held):
            self.allowed -= 1


@dataclass(frozen=True)
class Preemption:
    """`pod` gets `node` when `victims` and those who are leaving there anyway are gone; `broken` budgets it costs."""

    pod: Wanted
    node: str
    victims: tuple[Victim, ...] = field(default=())
    broken: int = 0

    def summary(self) -> str:
        return f"{self.pod.namespace}/{self.pod.name} on {self.node}: {len(self.victims)} to go"


def may_preempt(cluster: Cluster, pod: Wanted) -> bool:
    """Whether anybody of a lower priority holds room at all, and the pod's policy lets it take that."""
    return pod.request.preempts and any(level < pod.request.priority for level in cluster.priorities)


def is_awaited(cluster: Cluster, pod: Wanted) -> bool:
    """Whether the node that was chosen for the pod is still becoming free for it."""
    row = cluster.rows.get(pod.nominated)
    if row is None or not suitable(cluster, pod.request)[row]:
        return False
    return any(held.leaving and held.request.priority < pod.request.priority for _, held in cluster.on(pod.nominated))


def preempt(cluster: Cluster, pod: Wanted, budgets: Sequence[Budget] = ()) -> Preemption | None:
    """The best way to make room for a pod that fits nowhere, or None. The cluster stays as it is: see `carry_out`."""
    if not may_preempt(cluster, pod):
        return None
    promised = cluster.promised(pod.request.priority, pod.uid)
    best: tuple[tuple[int, int, int, int, int], Preemption] | None = None
    found = 0
    for row in _candidates(cluster, pod)[:TRIED_AT_MOST].tolist():
        preemption = _on_row(cluster, pod, row, promised, budgets)
        if preemption is None:
            continue
        found += 1
        rank = (*_price(preemption), row)
        if best is None or rank < best[0]:
            best = (rank, preemption)
        if found >= ENOUGH or not preemption.victims:
            break
    return best[1] if best is not None else None


def carry_out(cluster: Cluster, preemption: Preemption) -> None:
    """Notes in the cluster that the victims are leaving and for whom."""
    for victim in preemption.victims:
        cluster.hold(victim.uid, victim.held._replace(leaving=True))
    cluster.nominate(preemption.pod.uid, preemption.node, preemption.pod.request)


def _price(preemption: Preemption) -> tuple[int, int, int, int]:
    levels = [victim.held.request.priority for victim in preemption.victims]
    # Counted from the least priority there is, so that more victims never look cheaper because theirs is negative.
    total = sum(level - _LEAST_PRIORITY for level in levels)
    return preemption.broken, max(levels, default=_LEAST_PRIORITY - 1), total, len(levels)


def _candidates(cluster: Cluster, pod: Wanted) -> Ints:
    """Rows whose resources would do without pods of lower priority; those first whose least important ones do."""
    request, size = pod.request, cluster.size
    needed = np.array([request.cpu, request.memory, 1], np.int64)
    free = cluster.room[:size] - cluster.used[:size]
    asked = needed > 0
    level = np.full(size, np.iinfo(np.int64).max)
    for priority in sorted(one for one in cluster.priorities if one < request.priority):
        enough = ((free + cluster.below(priority + 1))[:, asked] >= needed[asked]).all(axis=1)
        level[enough & (level > priority)] = priority
    lower = cluster.below(request.priority)
    mask = suitable(cluster, request) & (level < np.iinfo(np.int64).max) & (lower[:, 2] > 0)
    rows = np.flatnonzero(mask)
    order: Ints = rows[np.lexsort((rows, lower[rows, 2], level[rows]))]
    return order


def _on_row(
    cluster: Cluster, pod: Wanted, row: int, promised: Promised, budgets: Sequence[Budget]
) -> Preemption | None:
    request, tied = pod.request, pod.request.tied or bool(cluster.census.claims(pod.crowd))

    def fits() -> bool:
        if not has_room(cluster, request, row, promised):
            return False
        return not tied or bool(possible(cluster, request, pod.crowd, promised)[row])

    name = cluster.names[row]
    lower = [Victim(uid, held) for uid, held in cluster.on(name) if held.request.priority < request.priority]
    away: dict[str, Victim] = {victim.uid: victim for victim in lower}
    for victim in lower:
        cluster.release(victim.uid)
    try:
        if not fits():
            return None
        breaking = _breaking(lower, budgets)
        staying = sorted(
            (victim for victim in lower if not victim.held.leaving),
            key=lambda one: (one.uid not in breaking, -one.held.request.priority, one.held.namespace, one.held.name),
        )
        victims = []
        for victim in staying:
            cluster.hold(victim.uid, victim.held)
            if fits():
                del away[victim.uid]
            else:
                cluster.release(victim.uid)
                victims.append(victim)
    finally:
        for victim in away.values():
            cluster.hold(victim.uid, victim.held)
    return Preemption(pod, name, tuple(victims), sum(victim.uid in breaking for victim in victims))


def _breaking(pods: Iterable[Victim], budgets: Sequence[Budget]) -> set[str]:
    """Those whose going would break a budget, which is given out to the most important ones first."""
    if not budgets:
        return set()
    left = [budget.allowed for budget in budgets]
    found = set()
    for victim in sorted(pods, key=lambda one: -one.held.request.priority):
        held = victim.held
        for at, budget in enumerate(budgets):
            if budget.covers(held):
                left[at] -= not held.leaving
                if left[at] < 0:
                    found.add(victim.uid)
    return found
