"""Chooses nodes for pods: filters, then scores, over the arrays of a Cluster, for whole batches at once; pure.

Equal pods are one group: its nodes are filtered and scored once, and each placement then changes one row only, or
the rows of the domains its rules speak of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from master.scheduler.cluster import Cluster, Held
from master.scheduler.columns import Bools
from master.scheduler.domains import allowed, rules_of
from master.scheduler.filters import Promised, fitting, has_room
from master.scheduler.requests import Request, Wanted
from master.scheduler.rules import NOBODY, Crowd
from master.scheduler.scores import CLOSED, TAKEN, Scorer

NOMINATED_POINTS_RANK = 1 << 61
"""Where room was made for a pod it goes if it fits there."""


@dataclass(frozen=True)
class Placement:
    """`bound` pods with their node's name, already held in the cluster; `waiting` pods that fit nowhere."""

    bound: tuple[tuple[Wanted, str], ...]
    waiting: tuple[Wanted, ...]

    def summary(self) -> str:
        return f"{len(self.bound)} placed, {len(self.waiting)} waiting"


def place(cluster: Cluster, pods: Sequence[Wanted]) -> Placement:
    """Places every pod that fits somewhere: by priority, then in order of the groups' first pods. Same input, same
    answer. Pods that wait for other pods are tried again as long as that places one."""
    bound: list[tuple[Wanted, str]] = []
    settled: list[Wanted] = []
    trying = list(pods)
    while trying:
        before = len(bound)
        left: list[Wanted] = []
        for members in _groups(cluster, trying):
            _place_group(cluster, members, bound, left)
        trying = [pod for pod in left if pod.request.tied] if len(bound) > before else []
        settled += [pod for pod in left if not (trying and pod.request.tied)]
    return Placement(tuple(bound), tuple(settled))


def _groups(cluster: Cluster, pods: Sequence[Wanted]) -> list[list[Wanted]]:
    """Pods for which the same nodes will do. Whose pods they are only counts where a rule speaks of it: of their own,
    of pods that are there, or of pods that may be placed before them in this pass."""
    census = cluster.census
    coming = {
        near
        for request in {pod.request for pod in pods}
        if request.rules is not None
        for near in (*request.rules.apart, *request.rules.preferred)
    }
    spoken_of: dict[Crowd, bool] = {}
    groups: dict[object, list[Wanted]] = {}
    for pod in pods:
        crowd = pod.crowd
        matters = spoken_of.get(crowd)
        if matters is None:
            matters = bool(census.claims(crowd)) or any(census.matches((near.who,), crowd) for near in coming)
            spoken_of[crowd] = matters
        if not matters and not pod.request.tied:
            crowd = NOBODY
        key = (pod.request, pod.group, crowd, pod.uid) if pod.nominated else (pod.request, pod.group, crowd)
        members = groups.get(key)
        if members is None:
            groups[key] = [pod]
        else:
            members.append(pod)
    found = list(groups.values())
    # Among equals, those for whom room was made come first.
    found.sort(key=lambda members: (-members[0].request.priority, not members[0].nominated))
    return found


def possible(cluster: Cluster, request: Request, crowd: Crowd, promised: Promised) -> Bools:
    """Rows on which the pod may run now, in every respect."""
    return fitting(cluster, request, promised) & allowed(rules_of(cluster, request, crowd), cluster.size)


def _place_group(
    cluster: Cluster, members: Sequence[Wanted], bound: list[tuple[Wanted, str]], waiting: list[Wanted]
) -> None:
    if not cluster.size:
        waiting.extend(members)
        return
    first = members[0]
    request, group, crowd = first.request, first.group, first.crowd
    promised = cluster.promised(request.priority, first.uid) if cluster.nominees else {}
    fits = fitting(cluster, request, promised)
    rules = rules_of(cluster, request, crowd)
    scorer = Scorer(cluster, request, group, crowd)
    score = scorer.ranks()
    if first.nominated in cluster.rows:
        score[cluster.rows[first.nominated]] = NOMINATED_POINTS_RANK
    ranks = np.where(fits & allowed(rules, cluster.size) if rules else fits, score, TAKEN)
    free = not rules and not scorer.moves
    names, held, hold = cluster.names, Held, cluster.hold
    for at, pod in enumerate(members):
        row = int(ranks.argmax())
        if ranks[row] < CLOSED:
            waiting.extend(members[at:])
            return
        name = names[row]
        hold(pod.uid, held(pod.namespace, pod.name, name, request, group, pod.crowd))
        if cluster.nominees:
            cluster.nominate(pod.uid, "", request)
        bound.append((pod, name))
        fits_still = has_room(cluster, request, row, promised)
        if free:
            ranks[row] = scorer.rank(row) if fits_still else TAKEN
            continue
        fits[row] = fits_still
        scorer.placed(row, score, ranks)
        score[row] = scorer.rank(row)
        changes = [rule.placed(row) for rule in rules]
        if any(isinstance(change, slice) for change in changes):
            ranks = np.where(fits & allowed(rules, cluster.size), score, TAKEN)
            continue
        for change in changes:
            if change is not None:
                # A rule that names rows has closed them.
                ranks[change] = TAKEN
        ranks[row] = score[row] if fits_still and all(rule.ok[row] for rule in rules) else TAKEN
