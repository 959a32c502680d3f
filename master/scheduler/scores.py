"""How good each row is for a pod: points by name, and the integer ranks made of their sum; pure.

A rank is the score in 1/64 points, then fewest pods, then an order of the nodes that differs by group.
"""

from __future__ import annotations

import math
import zlib
from typing import NamedTuple

import numpy as np

from master.scheduler.cluster import Cluster, Floats
from master.scheduler.columns import Bools, Ints
from master.scheduler.domains import counted_rows, populated
from master.scheduler.filters import dissuading
from master.scheduler.requests import Request
from master.scheduler.rules import Crowd, Near, NodeTerm, Spread

# Points. Room is what is left of the scarcer of cpu and memory: that is Kubernetes' "least allocated" and "balanced"
# in one, for the mean of two shares plus half their difference is the larger of them. One sibling weighs as much as
# a fifth of a node; a present image as much as a tenth: it decides between equals and never heaps siblings up.
# What a pod prefers outweighs room, as Kubernetes' weights have it: 2 for affinities, 3 for taints, over 1 for room.
ROOM_POINTS = 100.0
SIBLING_POINTS = 20.0
IMAGE_POINTS = 10.0
PREFERRED_POINTS = 200.0
TAINT_POINTS = 300.0
SPREAD_POINTS = 50.0
"""For each pod by which a domain is above the emptiest one, divided by maxSkew."""
_MOST_POINTS = 100_000.0
_FINENESS = 64
_POD_BITS = 16
_TURN_BITS = 20
# Far below every rank, and far above the smallest integer: ranks of closed rows may still be moved.
TAKEN = -(1 << 62)
CLOSED = TAKEN // 2


class Shift(NamedTuple):
    """These rows' scores moved by so many points."""

    rows: Ints
    points: float


class Scorer:
    """Ranks rows for one group: all of them at once, one again after a placement, or a domain moved by one.

    Its size is that of the cluster when it was made.
    """

    def __init__(self, cluster: Cluster, request: Request, group: str, crowd: Crowd) -> None:
        self._cluster = cluster
        self._request = request
        self._group = group
        size = cluster.size
        # Another group begins at another node, so that single pods of many controllers spread, too.
        start = zlib.crc32(group.encode()) % size
        self._turns: Ints = np.roll(np.arange(size, dtype=np.int64), start)
        self._tides: list[_Pull | _Level] = []
        self._fixed = self._fixed_parts(crowd)
        self._bonus: Floats = np.zeros(size)
        for points in self._fixed.values():
            self._bonus += points

    def _fixed_parts(self, crowd: Crowd) -> dict[str, Floats]:
        """Points that a placement of the group does not change, and those of the tides as they begin."""
        cluster, request = self._cluster, self._request
        found: dict[str, Floats] = {}
        if request.images:
            found["ImageLocality"] = self._images()
        if len(cluster.taint_sets) > 1:
            disliked = dissuading(cluster, request.tolerations)
            if disliked.any():
                found["TaintToleration"] = -TAINT_POINTS * disliked
        rules = request.rules
        if rules is not None and rules.preferred_nodes:
            found["NodeAffinity"] = self._preferred_nodes(rules.preferred_nodes)
        pulls = self._pulls(crowd)
        if pulls:
            found["InterPodAffinity"] = np.sum([pull.points() for pull in pulls], axis=0)
        soft = [spread for spread in rules.spread if not spread.hard] if rules is not None else []
        if soft:
            counted = counted_rows(cluster, request, soft)
            levels = [_Level(cluster, spread, rows, crowd) for spread, rows in zip(soft, counted, strict=True)]
            found["PodTopologySpread"] = np.sum([level.points() for level in levels], axis=0)
            self._tides += levels
        return found

    def _images(self) -> Floats:
        bonus = np.zeros(self._cluster.size)
        images = self._request.images
        for image in images:
            for row in self._cluster.images.get(image, ()):
                bonus[row] += IMAGE_POINTS / len(images)
        return bonus

    def _preferred_nodes(self, preferred: tuple[tuple[int, NodeTerm], ...]) -> Floats:
        total = np.zeros(self._cluster.size)
        for weight, term in preferred:
            total += weight * self._cluster.columns.term(term)
        most = total.max(initial=0.0)
        return PREFERRED_POINTS * total / most if most else total

    def _pulls(self, crowd: Crowd) -> list[_Pull]:
        """What the pod prefers about others, as shares of all it says, and what pods that are there prefer about it."""
        cluster, rules = self._cluster, self._request.rules
        own = rules.preferred if rules is not None else ()
        total = sum(abs(near.weight) for near in own)
        pulls = [_Pull(cluster, near, PREFERRED_POINTS * near.weight / total, crowd) for near in own]
        self._tides += [pull for pull in pulls if pull.own]
        for near in cluster.census.claims(crowd):
            if near.weight and near not in own:
                pulls.append(_Claim(cluster, near, PREFERRED_POINTS * near.weight / 100, crowd))
        return pulls

    def parts(self) -> dict[str, Floats]:
        """Points per row by the name of what gives them; their sum is what ranks."""
        size = self._cluster.size
        room = self._room(strain=False)
        found = {"NodeResourcesFit": room}
        if self._cluster.strained:
            found["MeasuredUse"] = self._room(strain=True) - room
        siblings = np.zeros(size)
        for row, count in self._cluster.siblings.get(self._group, {}).items():
            siblings[row] = -SIBLING_POINTS * count
        if self._group:
            found["SiblingSpread"] = siblings
        return {**found, **self._fixed}

    def _room(self, *, strain: bool) -> Floats:
        cluster, size = self._cluster, self._cluster.size
        cpu = (cluster.weight[:size, 0] + self._request.score_cpu) / np.maximum(cluster.room[:size, 0], 1)
        memory = (cluster.weight[:size, 1] + self._request.score_memory) / np.maximum(cluster.room[:size, 1], 1)
        if strain:
            cpu = cpu + cluster.excess[:size, 0]
            memory = memory + cluster.excess[:size, 1]
        points: Floats = ROOM_POINTS * (1.0 - np.minimum(np.maximum(cpu, memory), 1.0))
        return points

    def ranks(self) -> Ints:
        cluster, size = self._cluster, self._cluster.size
        score = self._room(strain=cluster.strained) + self._bonus
        siblings = cluster.siblings.get(self._group)
        if siblings:
            rows = np.fromiter(siblings.keys(), np.intp, len(siblings))
            score[rows] -= SIBLING_POINTS * np.fromiter(siblings.values(), np.float64, len(siblings))
        np.clip(score, -_MOST_POINTS, _MOST_POINTS, out=score)
        whole = np.floor(score * _FINENESS).astype(np.int64)
        pods = np.minimum(cluster.used[:size, 2], (1 << _POD_BITS) - 1)
        ranks: Ints = (((whole << _POD_BITS) - pods) << _TURN_BITS) - self._turns
        return ranks

    def rank(self, row: int) -> int:
        """The same as `ranks()[row]`, for one row at the price of one."""
        cluster, request = self._cluster, self._request
        weight, room = cluster.weight_by, cluster.room_by
        cpu = (weight[0][row] + request.score_cpu) / (room[0][row] or 1)
        memory = (weight[1][row] + request.score_memory) / (room[1][row] or 1)
        if cluster.strained:
            cpu += cluster.excess.item(row, 0)
            memory += cluster.excess.item(row, 1)
        score = ROOM_POINTS * (1.0 - min(max(cpu, memory), 1.0)) + self._bonus.item(row)
        siblings = cluster.siblings.get(self._group)
        if siblings:
            score -= SIBLING_POINTS * siblings.get(row, 0)
        pods = min(cluster.used_by[2][row], (1 << _POD_BITS) - 1)
        score = min(max(score, -_MOST_POINTS), _MOST_POINTS)
        return (((math.floor(score * _FINENESS) << _POD_BITS) - pods) << _TURN_BITS) - self._turns.item(row)

    @property
    def moves(self) -> bool:
        """Whether a placement changes the scores of other rows than its own."""
        return bool(self._tides)

    def placed(self, row: int, *ranks: Ints) -> None:
        """A pod of the group went to the row: moves these ranks of other rows, and the scores behind them."""
        for tide in self._tides:
            shift = tide.placed(row)
            if shift is not None:
                self._bonus[shift.rows] += shift.points
                for moved in ranks:
                    moved[shift.rows] += round(shift.points * _FINENESS) << (_POD_BITS + _TURN_BITS)


class _Pull:
    """One preferred term: its points where a matching pod is in the domain; if they are negative, for each such pod."""

    def __init__(self, cluster: Cluster, near: Near, points: float, crowd: Crowd) -> None:
        # Whole 1/64 points, so that moving a rank is exact.
        self._each = round(points * _FINENESS) / _FINENESS
        self._column = cluster.columns.column(near.key)
        self._codes = cluster.columns.codes(near.key)
        self._pods = populated(self._codes, self._count(cluster, near))
        self.own = cluster.census.matches((near.who,), crowd)

    def _count(self, cluster: Cluster, near: Near) -> Ints:
        return cluster.census.tally((near.who,), cluster.size, settled=False)

    def points(self) -> Floats:
        pods = np.minimum(self._pods, 1) if self._each > 0 else self._pods
        found: Floats = (self._each * pods[self._codes]).astype(np.float64)
        return found

    def placed(self, row: int) -> Shift | None:
        code = int(self._codes[row])
        if not code:
            return None
        self._pods[code] += 1
        if self._each > 0 and self._pods[code] > 1:
            return None
        return Shift(self._column.rows(code), self._each)


class _Claim(_Pull):
    """What pods that are placed prefer about pods like this one."""

    def _count(self, cluster: Cluster, near: Near) -> Ints:
        counts = np.zeros(cluster.size, np.int64)
        rows, pods = cluster.census.claimants(near)
        counts[rows] = pods
        return counts


class _Level:
    """One soft topology spread constraint: the fuller the domain, the worse."""

    def __init__(self, cluster: Cluster, spread: Spread, counted: Bools, crowd: Crowd) -> None:
        self._each = -round(SPREAD_POINTS / spread.max_skew * _FINENESS) / _FINENESS
        self._column = cluster.columns.column(spread.key)
        self._codes = cluster.columns.codes(spread.key)
        self._counted = counted
        tally = cluster.census.tally((spread.who,), cluster.size, settled=True)
        self._pods = populated(self._codes, np.where(counted, tally, 0))
        self._own = cluster.census.matches((spread.who,), crowd)

    def points(self) -> Floats:
        domains = np.unique(self._codes[self._counted])
        low = int(self._pods[domains].min()) if len(domains) else 0
        above = self._pods - low
        # A row without the label is as bad as the fullest domain and one more.
        above[0] = self._pods.max(initial=0) - low + 1
        found: Floats = (self._each * above[self._codes]).astype(np.float64)
        return found

    def placed(self, row: int) -> Shift | None:
        code = int(self._codes[row])
        if not self._own or not code or not self._counted[row]:
            return None
        return Shift(self._column.rows(code), self._each)
