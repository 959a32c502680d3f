"""Which endpoint of a service port has which slot, so that a change moves few; pure."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from typing import NamedTuple


class Target(NamedTuple):
    """An endpoint as the kernel knows it."""

    ip: str
    port: int


def fit(slots: list[Target], wanted: Collection[Target]) -> None:
    """Makes `slots` hold each of the wanted once, without gaps, moving as few as possible."""
    free, new = _free(slots, wanted)
    for index, target in zip(free, new):
        slots[index] = target
    slots.extend(new[len(free) :])
    for index in sorted(free[len(new) :], reverse=True):
        last = slots.pop()
        if index < len(slots):
            slots[index] = last


def fit_in_place(slots: list[Target], wanted: Collection[Target]) -> None:
    """The same for endpoints that clients are kept at by their slot: none is moved, and the slots of those that went
    are given to others, which so inherit their clients."""
    if not wanted:
        slots.clear()
        return
    free, new = _free(slots, wanted)
    for index, target in zip(free, new):
        slots[index] = target
    slots.extend(new[len(free) :])
    heirs = itertools.cycle(wanted)
    for index in free[len(new) :]:
        if slots[index] not in wanted:
            slots[index] = next(heirs)


def _free(slots: list[Target], wanted: Collection[Target]) -> tuple[list[int], list[Target]]:
    """The slots whose endpoint is not wanted or has another slot, and the wanted that have none."""
    held: set[Target] = set()
    free = []
    for index, target in enumerate(slots):
        if target not in wanted or target in held:
            free.append(index)
        held.add(target)
    # First the slots of those that are gone: a heir keeps its own clients.
    free.sort(key=lambda index: slots[index] in wanted)
    return free, [target for target in wanted if target not in held]


def moved(before: list[Target], after: list[Target]) -> tuple[tuple[int, ...], tuple[tuple[int, Target], ...]]:
    """The slots whose element goes, and those that get one with its endpoint."""
    dropped = tuple(i for i, target in enumerate(before) if i >= len(after) or after[i] != target)
    put = tuple((i, target) for i, target in enumerate(after) if i >= len(before) or before[i] != target)
    return dropped, put
