"""What the soak measures of processes and of the store, and when a figure counts as flat; no network in here."""

from __future__ import annotations

import os
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MB = 1_000_000.0
WARM_ROUNDS = 3
"""Rounds after which every Deployment has as many old revisions as it may have."""
LEAST_ROUNDS = 6
"""Rounds that a verdict needs: two medians of two rounds at least, and some between them."""


@dataclass(frozen=True)
class Allowance:
    """What a figure may grow from the first to the last third of the judged rounds and still be flat: the larger of a
    share of its level and an amount.

    Every round does the same and is measured when all is quiet again, so a leak shows as growth with each round. What
    is allowed is what does not: a heap whose free pages are scattered anew (memory), a bound that is looked at now and
    then (Events), a Deployment whose probes flap just then and that has not cleared its history yet (ReplicaSets), a
    pod that is being restarted for its probe (tables), and SQLite's log, which grows to its checkpoint and is written
    over (files).
    """

    share: float
    amount: float

    def most(self, level: float) -> float:
        return max(self.share * abs(level), self.amount)


MEMORY = Allowance(0.05, 6 * MB)
FILES = Allowance(0.05, 8 * MB)
OBJECTS = Allowance(0.02, 5)
EVENTS = Allowance(0.10, 150)
DESCRIPTORS = Allowance(0.02, 6)
THREADS = Allowance(0.0, 2)
REPLICA_SETS = Allowance(0.0, 10)
TABLES = Allowance(0.05, 50)
TYPES = Allowance(0.05, 500)

# Changes that the store keeps at most (HISTORY_LIMIT and a fifth), each with the state before and after.
_CHANGES = 24_000
# Remembered specs of pods (Requests.limit).
_SPECS = 4096

BOUNDS: Mapping[str, int] = {
    "master.store.store.Store._history": _CHANGES,
    "type master.store.store.Change": _CHANGES,
    "type protos.": 2 * _CHANGES,
    "type builtins.": 4 * _CHANGES,
    "master.scheduler.requests.Requests.": _SPECS,
    "master.scheduler.rules.Crowd.labels": 4 * _SPECS,
    "type master.scheduler.": _SPECS,
    "type common.selectors.": 4 * _SPECS,
    # Looked through by CPython itself before long (common/heap.py).
    "type garbage": 1_000_000,
    # 64 lists of what was there (KEEP_LISTS), shared with the store.
    "master.api.paging._Rest.objects": 64 * 5000,
    # HISTORY of master/dispatcher/assignments.py for every node, and the history of the one table of routes.
    "common.frames.FrameWriter._changed": 200 * 500 + 10_000,
    # EVENTS_KEPT of every agent that is cut off.
    "node_agent.reporter.Reporter._events": 200 * 500,
    "node_agent.reporter.Reporter._flying_events": 200 * 500,
}
"""Tables, and the types of what is in them, that fill up to a bound of their own, however long it takes: growth below
it is none. A name that ends with a dot stands for all that begin with it."""


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
    bar = allowed.most(first)
    return Verdict(first, last, bar, last - first <= bar)


def warmed_up(revisions: Sequence[float], full: float) -> int:
    """How many of the first rounds are not judged: until so many changes (`full`) were written that every history has
    its length, and `WARM_ROUNDS` at least."""
    for at, revision in enumerate(revisions):
        if at >= WARM_ROUNDS and revision >= full:
            return at
    return len(revisions)


def process(pid: int) -> dict[str, float]:
    """Proportional memory in bytes (shared pages by their share), open descriptors and threads of a process.

    Raises OSError when it is gone.
    """
    root = Path(f"/proc/{pid}")
    status = dict(line.split(":", 1) for line in (root / "status").read_text().splitlines())
    rollup = (root / "smaps_rollup").read_text().splitlines()
    pss = next(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
    return {
        "memory": pss * 1024.0,
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
    """Sizes in bytes of the store's file and of its write-ahead log."""
    return {name: float(_size(data / f"store.db{suffix}")) for name, suffix in (("store.db", ""), ("wal", "-wal"))}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def bound(table: str) -> int:
    """Up to how many entries a table in memory may fill; 0: it has no bound, and is judged by its growth."""
    found = BOUNDS.get(table)
    if found is None:
        found = next((most for name, most in BOUNDS.items() if name.endswith(".") and table.startswith(name)), 0)
    return found


def allowance(name: str) -> Allowance:
    """What a figure of this name (`master memory`, `store.db`, `objects Pod`, `type dict`, a table) may grow."""
    words = name.split()
    by_word: Mapping[str, Allowance] = {
        "memory": MEMORY,
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
    return {"objects": OBJECTS, "type": TYPES}.get(words[0], TABLES)
