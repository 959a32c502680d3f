"""Which pods stand where, by what they are: counts per selector and row, and what they claim about others; pure.

Counts are kept per crowd (pods of a namespace with equal labels), so that a selector never seen before is counted
once over the crowds, not over the pods; from then on its count moves with every pod.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from master.scheduler.columns import Ints
from master.scheduler.rules import Crowd, Near, PodTerm, Rules

TALLIES_KEPT = 4096


class Tally:
    """Pods per row that match all terms; `settled`: those that are being deleted do not count."""

    def __init__(self, terms: tuple[PodTerm, ...], settled: bool, size: int) -> None:
        self.terms = terms
        self.settled = settled
        self.counts: Ints = np.zeros(size, np.int64)

    def add(self, row: int, count: int) -> None:
        if row >= len(self.counts):
            grown = np.zeros(2 * row + 16, np.int64)
            grown[: len(self.counts)] = self.counts
            self.counts = grown
        self.counts[row] += count


class Census:
    """Counts of the pods that hold room, by crowd; fed by the Cluster for rows it knows."""

    def __init__(self) -> None:
        self.namespaces: dict[str, Mapping[str, str]] = {}
        self._staying: dict[Crowd, dict[int, int]] = {}
        self._leaving: dict[Crowd, dict[int, int]] = {}
        self._tallies: dict[tuple[tuple[PodTerm, ...], bool], Tally] = {}
        self._counted_by: dict[Crowd, tuple[Tally, ...]] = {}
        self._claims: dict[Near, dict[int, int]] = {}
        self._claims_on: dict[Crowd, tuple[Near, ...]] = {}

    def change(self, row: int, crowd: Crowd, rules: Rules | None, leaving: bool, sign: int) -> None:
        """A pod of this crowd came to the row (sign 1) or left it (-1)."""
        crowds = self._leaving if leaving else self._staying
        rows = crowds.get(crowd)
        if rows is None:
            rows = crowds[crowd] = {}
        left = rows.get(row, 0) + sign
        if left:
            rows[row] = left
        else:
            del rows[row]
        if self._tallies:
            for tally in self._tallies_of(crowd):
                if not (leaving and tally.settled):
                    tally.add(row, sign)
        if not rows:
            del crowds[crowd]
            self._counted_by.pop(crowd, None)
            self._claims_on.pop(crowd, None)
        if rules is not None:
            for near in (*rules.apart, *rules.preferred):
                self._claim(near, row, sign)

    def _claim(self, near: Near, row: int, sign: int) -> None:
        rows = self._claims.get(near)
        if rows is None:
            rows = self._claims[near] = {}
            self._claims_on.clear()
        left = rows.get(row, 0) + sign
        if left:
            rows[row] = left
            return
        del rows[row]
        if not rows:
            del self._claims[near]
            self._claims_on.clear()

    def set_namespace(self, name: str, labels: Mapping[str, str] | None) -> bool:
        """A namespace's labels; None: it is gone. True when they are news, and pods are to be counted anew."""
        if self.namespaces.get(name) == labels:
            return False
        if labels is None:
            self.namespaces.pop(name, None)
        else:
            self.namespaces[name] = labels
        self._tallies.clear()
        self._counted_by.clear()
        self._claims_on.clear()
        return True

    # -- asking -------------------------------------------------------------------------------

    def tally(self, terms: tuple[PodTerm, ...], size: int, *, settled: bool) -> Ints:
        """Pods that match all terms, for each of `size` rows; shared: never change it."""
        found = self._tallies.get((terms, settled))
        if found is None:
            if len(self._tallies) >= TALLIES_KEPT:
                self._tallies.clear()
                self._counted_by.clear()
            found = self._count(terms, settled, size)
        if len(found.counts) < size:
            found.add(size - 1, 0)
        return found.counts[:size]

    def _count(self, terms: tuple[PodTerm, ...], settled: bool, size: int) -> Tally:
        made = self._tallies[terms, settled] = Tally(terms, settled, size)
        for crowds in (self._staying,) if settled else (self._staying, self._leaving):
            for crowd, rows in crowds.items():
                if self.matches(terms, crowd):
                    for row, count in rows.items():
                        made.add(row, count)
        for crowd, tallies in self._counted_by.items():
            if self.matches(terms, crowd):
                self._counted_by[crowd] = (*tallies, made)
        return made

    def _tallies_of(self, crowd: Crowd) -> tuple[Tally, ...]:
        found = self._counted_by.get(crowd)
        if found is None:
            found = tuple(tally for tally in self._tallies.values() if self.matches(tally.terms, crowd))
            self._counted_by[crowd] = found
        return found

    def matches(self, terms: tuple[PodTerm, ...], crowd: Crowd) -> bool:
        return all(term.matches(crowd, self.namespaces) for term in terms)

    def claims(self, crowd: Crowd) -> tuple[Near, ...]:
        """What pods that are placed say about pods of this crowd: required anti-affinity and preferences."""
        if not self._claims:
            return ()
        found = self._claims_on.get(crowd)
        if found is None:
            found = tuple(near for near in self._claims if near.who.matches(crowd, self.namespaces))
            if len(self._claims_on) > TALLIES_KEPT:
                self._claims_on.clear()
            self._claims_on[crowd] = found
        return found

    def claimants(self, near: Near) -> tuple[Ints, Ints]:
        """Rows of the pods that make this claim, and how many there are on each."""
        rows = self._claims.get(near, {})
        return (
            np.fromiter(rows.keys(), np.int64, len(rows)),
            np.fromiter(rows.values(), np.int64, len(rows)),
        )

    @property
    def empty(self) -> bool:
        return not (self._staying or self._leaving or self._claims)
