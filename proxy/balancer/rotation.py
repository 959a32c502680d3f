"""Endpoints in turn, pure: one order that every worker knows, and a count of turns that they may share.

The order is that of addresses, so that a worker needs only the set to have it. Whose turn it is follows from how many
turns were taken: `endpoints[(turns - base) % len]`. An update chooses `base` so that the round goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from common.routing import Endpoint


class Turns(Protocol):
    """How many turns were taken so far, by all who share them."""

    def taken(self) -> int: ...
    def take(self, count: int) -> None: ...


class OwnTurns:
    """A count that nobody shares."""

    __slots__ = ("_taken",)

    def __init__(self) -> None:
        self._taken = 0

    def taken(self) -> int:
        return self._taken

    def take(self, count: int) -> None:
        self._taken += count


class SharedTurns:
    """A count in memory that several processes share without a lock: each adds to its own cell, the sum counts.

    Who asks after another has taken sees that. Two that ask in the same instant may get the same turn; the next one
    is two further then.
    """

    __slots__ = ("_cells", "_own")

    def __init__(self, cells: memoryview, own: int) -> None:
        """`cells`: one 64-bit number for each process; `own` is the index that nobody else writes."""
        self._cells = cells
        self._own = own

    def taken(self) -> int:
        return sum(self._cells)

    def take(self, count: int) -> None:
        self._cells[self._own] += count


def ordered(endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """The order of turns; repeated endpoints count once."""
    return tuple(sorted(set(endpoints), key=lambda endpoint: (endpoint.ip, endpoint.port)))


def resumed(before: Sequence[Endpoint], position: int, after: Sequence[Endpoint]) -> int:
    """Where in `after` the round goes on: at the first of those from `position` on in `before` that stay, else at 0."""
    places = {endpoint: place for place, endpoint in enumerate(after)}
    for endpoint in (*before[position:], *before[:position]):
        if endpoint in places:
            return places[endpoint]
    return 0


class Rotation:
    """The endpoints and whose turn it is."""

    __slots__ = ("base", "endpoints", "members", "turns")

    def __init__(self, turns: Turns, start: int = 0) -> None:
        """`start` turns the first set of endpoints, so that not every node begins with the same one."""
        self.endpoints: tuple[Endpoint, ...] = ()
        self.members: frozenset[Endpoint] = frozenset()
        self.turns = turns
        self.base = -start

    def update(self, endpoints: Iterable[Endpoint], base: int | None = None) -> bool:
        """Replaces the set; whether it is another one. `base` when somebody has chosen it for all who share turns."""
        after = ordered(endpoints)
        changed = after != self.endpoints
        if base is not None:
            self.base = base
        elif changed and self.endpoints and after:
            self.base = self.turns.taken() - resumed(self.endpoints, self.position(), after)
        if changed:
            self.endpoints, self.members = after, frozenset(after)
        return changed

    def position(self) -> int:
        """The index of the one whose turn it is; there must be endpoints."""
        return (self.turns.taken() - self.base) % len(self.endpoints)

    def in_turn(self) -> tuple[Endpoint, ...]:
        """The endpoints, beginning with the one whose turn it is."""
        position = self.position() if self.endpoints else 0
        return self.endpoints[position:] + self.endpoints[:position]
