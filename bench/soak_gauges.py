"""What the soak measures of processes and of the store, and when a figure counts as flat; no network in here."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MB = 1_000_000.0
WARM_ROUNDS = 3
"""Rounds after which every Deployment has as many old revisions as it may have."""
LEAST_ROUNDS = 9
"""Rounds that a verdict needs. From the middle of the first third to that of the last it is then six rounds at least:
one object or descriptor that each of them leaves behind is more than the five that are allowed."""


@dataclass(frozen=True)
class Allowance:
    """What a figure may grow from the first to the last third of the judged rounds and still be flat: the larger of a
    share of its level and an amount.

    Every round does the same and is measured when all is quiet again, so a leak shows as growth with each round. What
    is allowed is what does not: a heap whose free pages are scattered anew (memory), a store's history that is cut when
    it is a fifth too long (what the heap holds), a bound that is looked at now and then (Events), a Deployment whose
    probes flap just then and that has not cleared its history yet (ReplicaSets), a pod that is being restarted for its
    probe (tables), and SQLite's log, which grows to its checkpoint and is written over (files).
    """

    share: float
    amount: float
    wavers: bool = False
    """The amount is beside what lies between the least and the most of the first third: a table of what is going on
    just then wavers by as much as it does, and most tables do not waver at all."""

    def most(self, level: float, spread: float = 0.0) -> float:
        return max(self.share * abs(level), self.amount + (spread if self.wavers else 0.0))


MEMORY = Allowance(0.05, 6 * MB)
# The history is cut from 24,000 changes to 20,000, some 10 MB of 140 and 30,000 blocks of 770,000, and each sample
# finds it somewhere between. Memory has no such share: it stays where the longest history has put it.
HEAP = Allowance(0.10, 5 * MB)
BLOCKS = Allowance(0.06, 10_000)
FILES = Allowance(0.05, 8 * MB)
OBJECTS = Allowance(0.01, 5)
EVENTS = Allowance(0.10, 150)
DESCRIPTORS = Allowance(0.0, 5)
THREADS = Allowance(0.0, 2)
REPLICA_SETS = Allowance(0.0, 10)
TABLES = Allowance(0.05, 10, wavers=True)

# Changes that the store keeps at most (HISTORY_LIMIT and a fifth), each with the state before and after.
_CHANGES = 24_000
# Remembered specs of pods (Requests.limit).
_SPECS = 4096

_BOUNDS_OF_MASTER: Mapping[str, int] = {
    "master.store.store.Store._history": _CHANGES,
    "type master.store.store.Change": _CHANGES,
    "type protos.": 2 * _CHANGES,
    "type builtins.": 4 * _CHANGES,
    "master.scheduler.requests.Requests.": _SPECS,
    "type weakref.KeyedRef": 2 * _SPECS,
    "master.scheduler.requests.Requests._crowds": 4 * _SPECS,
    "master.scheduler.rules.Crowd.labels": 4 * _SPECS,
    "type master.scheduler.": 4 * _SPECS,
    "type common.selectors.": 4 * _SPECS,
    # Two caches of common/quantity.py: what agents say they use is read, too.
    "type fractions.Fraction": 2 * 4096,
    # 64 lists of what was there (KEEP_LISTS), shared with the store.
    "master.api.paging._Rest.objects": 64 * 5000,
    # HISTORY of master/dispatcher/assignments.py for every node, and the history of the one table of routes.
    "common.frames.FrameWriter._changed": 200 * 500 + 10_000,
}
_BOUNDS_OF_AGENTS: Mapping[str, int] = {
    # An entry for each of an agent's four files that waits for being written, which it does for a second at most: how
    # many there are just now says when the last change was.
    "node_agent.assignments.Keeper._dirty": 100 * 4,
    # EVENTS_KEPT of every agent that is cut off.
    "node_agent.reporter.Reporter._events": 200 * 500,
    "node_agent.reporter.Reporter._flying_events": 200 * 500,
}
# Looked through by CPython itself before long (common/heap.py); cancelled timers, which asyncio drops when they are
# half of all: some ten of each of a hundred agents are set.
_GARBAGE = {"type garbage": 1_000_000, "type asyncio.events.TimerHandle": 100 * 30}
BOUNDS: Mapping[bool, Mapping[str, int]] = {
    True: {**_BOUNDS_OF_MASTER, **_GARBAGE},
    False: {**_BOUNDS_OF_AGENTS, **_GARBAGE},
}
"""Of the master (True) and of agents: tables, and the types of what is in them, that fill up to a bound of their own,
however long it takes: growth below it is none. A name that ends with a dot stands for all that begin with it. What
hides below such a bound is in the heap's figures, which have none."""


@dataclass(frozen=True)
class Verdict:
    """One figure's medians over the first and the last third of the judged rounds, what it may have grown (`bar`), and
    whether that is all."""

    first: float
    last: float
    bar: float
    flat: bool

    @property
    def growth(self) -> float:
        return self.last - self.first


def judge(values: Sequence[float], allowed: Allowance) -> Verdict:
    """Medians, because one round in which the machine was busy elsewhere is no trend. Fewer than `LEAST_ROUNDS` rounds
    say nothing: they count as not flat."""
    if len(values) < LEAST_ROUNDS:
        last = values[-1] if values else 0.0
        return Verdict(last, last, 0.0, False)
    third = len(values) // 3
    first, last = statistics.median(values[:third]), statistics.median(values[-third:])
    bar = allowed.most(first, max(values[:third]) - min(values[:third]))
    return Verdict(first, last, bar, last - first <= bar)


def warmed_up(revisions: Sequence[float], full: float) -> int:
    """How many of the first rounds are not judged: until so many changes (`full`) were written that every history has
    its length, and `WARM_ROUNDS` at least."""
    for at, revision in enumerate(revisions):
        if at >= WARM_ROUNDS and revision >= full:
            return at
    return len(revisions)


def process(pid: int) -> dict[str, float]:
    """Memory in bytes, open descriptors and threads of a process.

    `memory` is what it alone has (anonymous pages), `resident` that and the files it maps. Not the proportional share:
    that of libraries shrinks and grows with every other Python program that comes to this machine and goes.

    Raises OSError when it is gone.
    """
    root = Path(f"/proc/{pid}")
    status = dict(line.split(":", 1) for line in (root / "status").read_text().splitlines())
    rollup = dict(line.split(":", 1) for line in (root / "smaps_rollup").read_text().splitlines()[1:])
    return {
        "memory": int(rollup["Anonymous"].split()[0]) * 1024.0,
        "resident": int(rollup["Rss"].split()[0]) * 1024.0,
        "descriptors": float(sum(descriptors(pid).values())),
        "threads": float(status["Threads"]),
    }


def descriptors(pid: int) -> Counter[str]:
    """Open descriptors of a process by kind: socket, pipe, anon_inode, file. Raises OSError when it is gone."""
    found: Counter[str] = Counter()
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{name}")
        except FileNotFoundError:
            continue
        found["file" if target.startswith("/") else target.partition(":")[0]] += 1
    return found


def files(data: Path) -> dict[str, float]:
    """Sizes in bytes of the store's file, of what is used in it, and of its write-ahead log.

    A file keeps the pages that it once needed: what grows would fill these first, unseen. Raises sqlite3.Error.
    """
    file = data / "store.db"
    with contextlib.closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as store:
        whole, free, page = (
            store.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
    used = float((whole - free) * page)
    return {"store.db": float(_size(file)), "store.db used": used, "wal": float(_size(data / "store.db-wal"))}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def bound(name: str) -> int:
    """Up to how many entries a table in memory (`master TABLE`, `agents-0 TABLE`) may fill; 0: it has no bound, and is
    judged by its growth."""
    process, _, table = name.partition(" ")
    bounds = BOUNDS[process == "master"]
    found = bounds.get(table)
    if found is None:
        found = next((most for name, most in bounds.items() if name.endswith(".") and table.startswith(name)), 0)
    return found


def allowance(name: str) -> Allowance:
    """What a figure of this name (`master memory`, `store.db`, `objects Pod`, `type dict`, a table) may grow."""
    words = name.split()
    by_word: Mapping[str, Allowance] = {
        "memory": MEMORY,
        "resident": MEMORY,
        "heap": HEAP,
        "blocks": BLOCKS,
        "descriptors": DESCRIPTORS,
        "threads": THREADS,
        "store.db": FILES,
        "wal": FILES,
        "Event": EVENTS,
        "ReplicaSet": REPLICA_SETS,
    }
    for word in words:
        if word in by_word:
            return by_word[word]
    return OBJECTS if words[0] == "objects" else TABLES
