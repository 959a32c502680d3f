"""Node labels as arrays: one code per row and label key, so that selectors and topology are look-ups; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from common.selectors import IN, NOT_IN, Requirement
from master.scheduler.rules import NodeTerm

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

MASKS_KEPT = 512


class Column:
    """The values of one label key: `codes[row]` is an index into `values`; 0 where the row lacks the label."""

    def __init__(self, key: str, size: int) -> None:
        self.key = key
        self.codes: Ints = np.zeros(size, np.int64)
        self.values: list[str | None] = [None]
        self._index: dict[str, int] = {}
        self._rows: dict[int, Ints] = {}

    def put(self, row: int, value: str | None) -> None:
        code = 0 if value is None else self._index.get(value)
        if code is None:
            assert value is not None
            code = self._index[value] = len(self.values)
            self.values.append(value)
        self._rows.pop(int(self.codes[row]), None)
        self._rows.pop(code, None)
        self.codes[row] = code

    def rows(self, code: int) -> Ints:
        """The rows of one domain (a code above 0); shared: never change it."""
        found = self._rows.get(code)
        if found is None:
            found = self._rows[code] = np.flatnonzero(self.codes == code)
        return found


class Columns:
    """The labels of all rows. Columns are made when first asked for, and kept up from then on."""

    def __init__(self) -> None:
        self.labels: list[Mapping[str, str]] = []
        self.rows: Mapping[str, int] = {}
        self._columns: dict[str, Column] = {}
        self._masks: dict[object, Bools] = {}

    def put(self, row: int, labels: Mapping[str, str]) -> None:
        """The row's labels from now on; rows come one after the other or are known already."""
        if row == len(self.labels):
            self.labels.append({})
        elif self.labels[row] == labels:
            return
        self.labels[row] = labels
        self._masks.clear()
        for key, column in list(self._columns.items()):
            if row >= len(column.codes) or len(column.values) > 2 * len(column.codes) + 64:
                # Too short, or full of values that no node has any more: made anew when it is asked for.
                del self._columns[key]
            else:
                column.put(row, labels.get(key))

    def column(self, key: str) -> Column:
        found = self._columns.get(key)
        if found is None:
            found = self._columns[key] = Column(key, 2 * len(self.labels) + 16)
            for row, labels in enumerate(self.labels):
                found.put(row, labels.get(key))
        return found

    def codes(self, key: str) -> Ints:
        """One code per row in use; shared: never change it."""
        return self.column(key).codes[: len(self.labels)]

    # -- masks, shared: never change them -------------------------------------------------------

    def equal(self, selector: tuple[tuple[str, str], ...]) -> Bools:
        """Rows whose labels carry every pair."""
        return self._kept(selector, [Requirement(key, IN, frozenset((value,))) for key, value in selector])

    def any_of(self, terms: tuple[NodeTerm, ...]) -> Bools:
        """Rows that match one of the terms at least."""
        mask = np.zeros(len(self.labels), bool)
        for term in terms:
            mask |= self.term(term)
        return mask

    def term(self, term: NodeTerm) -> Bools:
        if not term.labels and not term.fields:
            return np.zeros(len(self.labels), bool)
        mask = self._kept(term.labels, term.labels) if term.labels else np.ones(len(self.labels), bool)
        for requirement in term.fields:
            mask = mask & self._named(requirement)
        return mask

    def _kept(self, key: object, requirements: Sequence[Requirement]) -> Bools:
        found = self._masks.get(key)
        if found is None or len(found) != len(self.labels):
            found = np.ones(len(self.labels), bool)
            for requirement in requirements:
                column = self.column(requirement.key)
                table = np.fromiter(
                    (requirement.matches({} if value is None else {requirement.key: value}) for value in column.values),
                    bool,
                    len(column.values),
                )
                found &= table[column.codes[: len(self.labels)]]
            if len(self._masks) > MASKS_KEPT:
                self._masks.clear()
            self._masks[key] = found
        return found

    def _named(self, requirement: Requirement) -> Bools:
        """matchFields knows one field, metadata.name, with In and NotIn."""
        mask = np.zeros(len(self.labels), bool)
        if requirement.key != "metadata.name" or requirement.operator not in (IN, NOT_IN):
            return mask
        for name in requirement.values:
            row = self.rows.get(name)
            if row is not None:
                mask[row] = True
        return ~mask if requirement.operator == NOT_IN else mask
