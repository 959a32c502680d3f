"""Affinity, anti-affinity and topology spread over the domains of node labels, kept up while a batch is placed; pure.

A domain is the rows with one value of a label; code 0 stands for the rows without it. Each rule has `ok`, the rows it
allows now, and `placed(row)`: a pod of the same group went there; which rows were changed by that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from master.scheduler.cluster import Cluster
from master.scheduler.columns import Bools, Ints
from master.scheduler.filters import chosen, untainted
from master.scheduler.requests import Request
from master.scheduler.rules import Crowd, Near, Spread

Changed = Ints | slice | None
"""Rows whose `ok` may have changed; a slice for all of them, None for none."""

EVERY_ROW = slice(None)


class Rule(Protocol):
    """See the module. `name` is Kubernetes' name of the filter."""

    name: str
    ok: Bools

    def placed(self, row: int) -> Changed: ...

    def why(self, row: int) -> str:
        """What is wrong with a row that is not ok, for a person."""
        ...

    def counted(self, row: int) -> str:
        """The same in the words of Kubernetes' summary."""
        ...


def rules_of(cluster: Cluster, request: Request, crowd: Crowd) -> list[Rule]:
    """The rules that bind pods of this request and crowd; most pods have none."""
    found: list[Rule] = []
    rules = request.rules
    claims = [near for near in cluster.census.claims(crowd) if not near.weight]
    if claims:
        found.append(Unwanted(cluster, claims))
    if rules is not None:
        if rules.together:
            found.append(Together(cluster, rules.together, crowd))
        found += [Apart(cluster, near, crowd) for near in rules.apart]
        hard = [spread for spread in rules.spread if spread.hard]
        if hard:
            counted = counted_rows(cluster, request, hard)
            found += [Evenly(cluster, spread, rows, crowd) for spread, rows in zip(hard, counted, strict=True)]
    return found


def allowed(rules: Sequence[Rule], size: int) -> Bools:
    """Rows that every rule allows."""
    mask = np.ones(size, bool)
    for rule in rules:
        mask &= rule.ok
    return mask


def populated(codes: Ints, counts: Ints) -> Ints:
    """Pods per domain; those on rows without the label are not in one."""
    found = np.bincount(codes, weights=counts, minlength=1).astype(np.int64)
    found[0] = 0
    return found


class Unwanted:
    """Pods that are there and have required anti-affinity against this one: Kubernetes holds it for both sides."""

    name = "InterPodAffinity"

    def __init__(self, cluster: Cluster, claims: Sequence[Near]) -> None:
        self.ok: Bools = np.ones(cluster.size, bool)
        self._claims = []
        for near in claims:
            codes = cluster.columns.codes(near.key)
            rows, _ = cluster.census.claimants(near)
            closed = np.zeros(len(cluster.columns.column(near.key).values), bool)
            closed[codes[rows]] = True
            closed[0] = False
            self._claims.append((near, codes, closed))
            self.ok &= ~closed[codes]

    def placed(self, row: int) -> Changed:
        # A pod of this group that claims the same is bound by its own rule as well: see Apart.
        return None

    def why(self, row: int) -> str:
        near = next(near for near, codes, closed in self._claims if closed[codes[row]])
        return f"a pod in the same {near.key} does not want to share it with pods like this one ({near.who})"

    def counted(self, row: int) -> str:
        return "node(s) didn't satisfy existing pods anti-affinity rules"


class Apart:
    """One term of the pod's required anti-affinity: no matching pod in the domain."""

    name = "InterPodAffinity"

    def __init__(self, cluster: Cluster, near: Near, crowd: Crowd) -> None:
        self._near = near
        self._column = cluster.columns.column(near.key)
        self._codes = cluster.columns.codes(near.key)
        counts = cluster.census.tally((near.who,), cluster.size, settled=False)
        taken = populated(self._codes, counts) > 0
        self.ok: Bools = ~taken[self._codes]
        self._own = cluster.census.matches((near.who,), crowd)

    def placed(self, row: int) -> Changed:
        code = int(self._codes[row])
        if not self._own or not code:
            return None
        rows = self._column.rows(code)
        self.ok[rows] = False
        return rows

    def why(self, row: int) -> str:
        return f"does not satisfy podAntiAffinity: a pod with {self._near.who} is in the same {self._near.key}"

    def counted(self, row: int) -> str:
        return "node(s) didn't match pod anti-affinity rules"


class Together:
    """The pod's required affinity: all terms at once, as Kubernetes has it. Where no pod matches yet and the pod
    itself does, it is the first of its group and may go to any row that has the labels."""

    name = "InterPodAffinity"

    def __init__(self, cluster: Cluster, terms: Sequence[Near], crowd: Crowd) -> None:
        who = tuple(near.who for near in terms)
        counts = cluster.census.tally(who, cluster.size, settled=False)
        self._terms = terms
        self._codes = [cluster.columns.codes(near.key) for near in terms]
        self._there = [populated(codes, counts) > 0 for codes in self._codes]
        self._own = cluster.census.matches(who, crowd)
        self._first = self._own and not any(there.any() for there in self._there)
        self.ok: Bools = self._look()

    def _look(self) -> Bools:
        mask = np.ones(len(self._codes[0]), bool)
        for codes, there in zip(self._codes, self._there, strict=True):
            mask &= (codes > 0) if self._first else there[codes]
        return mask

    def placed(self, row: int) -> Changed:
        if not self._own:
            return None
        news = self._first
        self._first = False
        for codes, there in zip(self._codes, self._there, strict=True):
            code = codes[row]
            if code and not there[code]:
                there[code] = news = True
        if not news:
            return None
        self.ok = self._look()
        return EVERY_ROW

    def why(self, row: int) -> str:
        for near, codes, there in zip(self._terms, self._codes, self._there, strict=True):
            if not codes[row]:
                return f"does not satisfy podAffinity: it has no label {near.key}"
            if not self._first and not there[codes[row]]:
                return f"does not satisfy podAffinity: no pod with {near.who} is in the same {near.key}"
        raise ValueError("the row satisfies the rule")

    def counted(self, row: int) -> str:
        return "node(s) didn't match pod affinity rules"


def counted_rows(cluster: Cluster, request: Request, spreads: Sequence[Spread]) -> list[Bools]:
    """For each constraint the rows whose pods and domains count: those that have the labels of all constraints, and
    as its policies say those the pod may use."""
    size = cluster.size
    labelled = cluster.exists[:size].copy()
    for key in {spread.key for spread in spreads}:
        labelled &= cluster.columns.codes(key) > 0
    nodes = chosen(cluster, request)
    clean = untainted(cluster, request.tolerations) if any(one.honor_taints for one in spreads) else nodes
    found = []
    for spread in spreads:
        rows = labelled & nodes if spread.honor_affinity else labelled
        found.append(rows & clean if spread.honor_taints else rows)
    return found


class Evenly:
    """One hard topology spread constraint: the domain may not be more than maxSkew above the emptiest one."""

    name = "PodTopologySpread"

    def __init__(self, cluster: Cluster, spread: Spread, counted: Bools, crowd: Crowd) -> None:
        self._spread = spread
        self._column = cluster.columns.column(spread.key)
        self._codes = cluster.columns.codes(spread.key)
        self._counted = counted
        tally = cluster.census.tally((spread.who,), cluster.size, settled=True)
        self._pods = populated(self._codes, np.where(counted, tally, 0))
        self._domains = np.unique(self._codes[counted])
        self._own = int(cluster.census.matches((spread.who,), crowd))
        self._low = self._lowest()
        self._at_low = self._lowest_domains()
        self.ok: Bools = self._look()

    def _lowest(self) -> int:
        if not len(self._domains) or len(self._domains) < self._spread.min_domains:
            return 0
        return int(self._pods[self._domains].min())

    def _lowest_domains(self) -> int:
        return int((self._pods[self._domains] == self._low).sum())

    def _look(self) -> Bools:
        full = self._pods + self._own - self._low > self._spread.max_skew
        full[0] = True
        found: Bools = ~full[self._codes]
        return found

    def placed(self, row: int) -> Changed:
        if not self._own or not self._counted[row]:
            return None
        code = int(self._codes[row])
        was = int(self._pods[code])
        self._pods[code] = was + 1
        if was == self._low:
            self._at_low -= 1
            if self._at_low <= 0:
                before, self._low = self._low, self._lowest()
                self._at_low = self._lowest_domains()
                if self._low != before:
                    self.ok = self._look()
                    return EVERY_ROW
        if was + 1 + self._own - self._low <= self._spread.max_skew:
            return None
        rows = self._column.rows(code)
        self.ok[rows] = False
        return rows

    def why(self, row: int) -> str:
        spread, code = self._spread, int(self._codes[row])
        if not code:
            return f"does not match the topology spread constraints: it has no label {spread.key}"
        return (
            f"does not match the topology spread constraints: its {spread.key} has {self._pods[code]} pods with "
            f"{spread.who}, the emptiest has {self._low}, maxSkew is {spread.max_skew}"
        )

    def counted(self, row: int) -> str:
        words = "node(s) didn't match pod topology spread constraints"
        return words if self._codes[row] else f"{words} (missing required label)"
