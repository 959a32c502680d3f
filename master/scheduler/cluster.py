"""The cluster as the scheduler sees it: one row per node in numpy arrays, kept up change by change; pure.

What a pod takes counts from the moment it is placed (`hold`) until the pod is finished or gone (`release`), whether
or not its node is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.quantity import QuantityError
from master.scheduler.census import Census
from master.scheduler.columns import Bools, Columns, Ints
from master.scheduler.hostports import Port, PortBook
from master.scheduler.requests import Request, amount
from master.scheduler.rules import NOBODY, Crowd
from protos import core_pb2

Floats = NDArray[np.float64]
Taint = tuple[str, str, str]
"""Key, value, effect."""

DEFAULT_PODS = 110
"""Pods of a node that reports no limit, Kubernetes' default."""

EXCESS_MARGIN = 0.1
EXCESS_STEP = 0.05
"""A node's measured use counts where it is more than a tenth of the node above what its pods ask for, in steps of a
twentieth, so that noise moves nobody."""


class Held(NamedTuple):
    """A pod that takes room on a node; `leaving`: it is being deleted."""

    namespace: str
    name: str
    node: str
    request: Request
    group: str
    crowd: Crowd = NOBODY
    leaving: bool = False


class Nominee(NamedTuple):
    """A pod for which room is being made on a node: nobody of no higher priority may take it."""

    node: str
    request: Request


class Cluster:
    """Rows of nodes; a row of a node that went is used again. `names[row]` is "" for a free row."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.rows: dict[str, int] = {}
        self._free: list[int] = []
        size = 16
        self.exists: Bools = np.zeros(size, bool)
        self.ready: Bools = np.zeros(size, bool)
        self.fresh: Bools = np.zeros(size, bool)
        self.cordoned: Bools = np.zeros(size, bool)
        # Columns: cpu (milli-cores), memory (bytes), pods; each of them lies in one piece.
        self.room: Ints = np.zeros((size, 3), np.int64, order="F")
        self.used: Ints = np.zeros((size, 3), np.int64, order="F")
        # Columns: cpu and memory, with a default for containers that ask for nothing.
        self.weight: Ints = np.zeros((size, 2), np.int64, order="F")
        self._look()
        # Columns: cpu and memory, as shares of the node that are measured beyond what is asked for.
        self.excess: Floats = np.zeros((size, 2), np.float64, order="F")
        self.strained = False
        self.extra_room: list[dict[str, int]] = []
        self.extra_used: list[dict[str, int]] = []
        self.columns = Columns()
        self.columns.rows = self.rows
        self.census = Census()
        # Taints by row: a code each for equal sets of taints, 0 for none.
        self.taint_codes: Ints = np.zeros(size, np.int64)
        self.taint_sets: list[tuple[Taint, ...]] = [()]
        self.nominees: dict[str, Nominee] = {}
        self.priorities: dict[int, int] = {}
        self._below: dict[int, Ints] | None = None
        self.ports = PortBook()
        self.images: dict[str, set[int]] = {}
        self._images_of: dict[int, frozenset[str]] = {}
        self.siblings: dict[str, dict[int, int]] = {}
        self._held: dict[str, Held] = {}
        self._on: dict[str, dict[str, Held]] = {}

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def size(self) -> int:
        """Rows in use or free to be used again; arrays are at least this long."""
        return len(self.names)

    @property
    def labels(self) -> list[Mapping[str, str]]:
        """The nodes' labels by row; shared: never change them."""
        return self.columns.labels

    # -- nodes --------------------------------------------------------------------------------

    def put_node(self, node: core_pb2.Node, *, ready: bool) -> None:
        """Takes in a node's spec and status; `ready` is whether its Ready condition is True."""
        name = node.metadata.name
        row = self.rows.get(name)
        if row is None:
            row = self._new_row(name)
        self.columns.put(row, dict(node.metadata.labels))
        self.ready[row] = ready
        self.cordoned[row] = node.spec.unschedulable
        room = _room(node)
        self.room[row] = (room.pop("cpu", 0), room.pop("memory", 0), room.pop("pods", DEFAULT_PODS))
        self.extra_room[row] = room
        self._set_taints(row, tuple((t.key, t.value, t.effect) for t in node.spec.taints))
        self._set_images(row, frozenset(name for image in node.status.images for name in image.names))

    def set_fresh(self, name: str, fresh: bool) -> None:
        """Whether the node's heartbeats come; its Ready condition follows later."""
        row = self.rows.get(name)
        if row is not None:
            self.fresh[row] = fresh

    def remove_node(self, name: str) -> None:
        row = self.rows.pop(name, None)
        if row is None:
            return
        for held in self._on.get(name, {}).values():
            self._count(row, held, -1)
        self.exists[row] = self.ready[row] = self.fresh[row] = False
        self.names[row] = ""
        self.columns.put(row, {})
        self.taint_codes[row] = 0
        self.excess[row] = 0.0
        self._set_images(row, frozenset())
        self._free.append(row)

    def measure(self, used: Mapping[str, tuple[int, int]]) -> None:
        """What nodes really use, by name: milli-cores and bytes. Nodes that are left out use what is asked for."""
        self.excess[:] = 0.0
        names = [name for name in used if name in self.rows]
        if names:
            rows = np.fromiter((self.rows[name] for name in names), np.int64, len(names))
            real = np.array([used[name] for name in names], np.float64)
            room = np.maximum(self.room[rows, :2], 1)
            beyond = (real - np.maximum(self.weight[rows], self.used[rows, :2])) / room - EXCESS_MARGIN
            self.excess[rows] = np.clip(np.floor(beyond / EXCESS_STEP) * EXCESS_STEP, 0.0, 1.0)
        self.strained = bool(self.excess.any())

    def _set_taints(self, row: int, taints: tuple[Taint, ...]) -> None:
        if self.taint_sets[self.taint_codes[row]] == taints:
            return
        if len(self.taint_sets) > 2 * self.size + 64:
            used = sorted({self.taint_sets[code] for code in self.taint_codes[: self.size]} - {()})
            index = {found: code for code, found in enumerate([(), *used])}
            self.taint_codes[: self.size] = [index[self.taint_sets[code]] for code in self.taint_codes[: self.size]]
            self.taint_sets = [(), *used]
        if taints not in self.taint_sets:
            self.taint_sets.append(taints)
        self.taint_codes[row] = self.taint_sets.index(taints)

    def _new_row(self, name: str) -> int:
        if self._free:
            row = self._free.pop()
        else:
            row = len(self.names)
            self.names.append("")
            self.columns.put(row, {})
            self.extra_room.append({})
            self.extra_used.append({})
            if row >= len(self.exists):
                self._grow()
        self.names[row] = name
        self.rows[name] = row
        self.exists[row] = self.fresh[row] = True
        self.used[row] = 0
        self.weight[row] = 0
        self.extra_used[row] = {}
        self._below = None
        for held in self._on.get(name, {}).values():
            self._count(row, held, 1)
        return row

    def _grow(self) -> None:
        for field in ("exists", "ready", "fresh", "cordoned", "room", "used", "weight", "excess", "taint_codes"):
            old = getattr(self, field)
            grown = np.zeros((2 * len(old), *old.shape[1:]), old.dtype, order="F")
            grown[: len(old)] = old
            setattr(self, field, grown)
        self._look()

    def _look(self) -> None:
        """The same columns as plain sequences: one cell is read or written at a third of an array's price."""
        self.room_by = tuple(self.room[:, at].data for at in range(3))
        self.used_by = tuple(self.used[:, at].data for at in range(3))
        self.weight_by = tuple(self.weight[:, at].data for at in range(2))

    def _set_images(self, row: int, images: frozenset[str]) -> None:
        before = self._images_of.get(row, frozenset())
        for image in before - images:
            self.images[image].discard(row)
            if not self.images[image]:
                del self.images[image]
        for image in images - before:
            self.images.setdefault(image, set()).add(row)
        self._images_of[row] = images

    # -- pods ---------------------------------------------------------------------------------

    def hold(self, uid: str, held: Held) -> None:
        """The pod takes room on its node from now on; a second call for a pod replaces the first."""
        before = self._held.get(uid)
        if before is not None:
            if before == held:
                return
            self.release(uid)
        self._held[uid] = held
        self._on.setdefault(held.node, {})[uid] = held
        row = self.rows.get(held.node)
        if row is not None:
            self._count(row, held, 1)

    def release(self, uid: str) -> bool:
        """The pod takes no room any more; False when it took none."""
        held = self._held.pop(uid, None)
        if held is None:
            return False
        there = self._on[held.node]
        del there[uid]
        if not there:
            del self._on[held.node]
        row = self.rows.get(held.node)
        if row is not None:
            self._count(row, held, -1)
            for port in held.request.ports:
                self._name_port_user(port, row, there)
        return True

    def holds(self, uid: str) -> bool:
        return uid in self._held

    def held(self) -> list[tuple[str, Held]]:
        """All pods that take room, by uid."""
        return list(self._held.items())

    def get(self, uid: str) -> Held | None:
        """What the pod takes, or None when it takes no room."""
        return self._held.get(uid)

    def on(self, name: str) -> list[tuple[str, Held]]:
        """The pods that take room on this node, by uid."""
        return list(self._on.get(name, {}).items())

    def below(self, priority: int) -> Ints:
        """What pods of a lower priority take, by row: cpu, memory, pods. Made at the first call, then kept up."""
        if self._below is None:
            self._below = {}
            for held in self._held.values():
                row = self.rows.get(held.node)
                if row is not None:
                    self._count_below(self._below, row, held, 1)
        total = np.zeros((self.size, 3), np.int64)
        for level, taken in self._below.items():
            if level < priority:
                total += taken[: self.size]
        return total

    def _count_below(self, below: dict[int, Ints], row: int, held: Held, sign: int) -> None:
        request = held.request
        taken = below.get(request.priority)
        if taken is None or len(taken) < len(self.exists):
            grown = np.zeros((len(self.exists), 3), np.int64)
            if taken is not None:
                grown[: len(taken)] = taken
            taken = below[request.priority] = grown
        taken[row] += (sign * request.cpu, sign * request.memory, sign)

    def nominate(self, uid: str, node: str, request: Request) -> None:
        """Room is being made for the pod on the node; an empty name ends that."""
        if node:
            self.nominees[uid] = Nominee(node, request)
        else:
            self.nominees.pop(uid, None)

    def promised(self, priority: int, uid: str = "") -> dict[int, list[Request]]:
        """What pods of this priority and above are promised, by row, leaving out the pod `uid` itself."""
        found: dict[int, list[Request]] = {}
        for other, nominee in self.nominees.items():
            row = self.rows.get(nominee.node)
            if other != uid and row is not None and nominee.request.priority >= priority:
                found.setdefault(row, []).append(nominee.request)
        return found

    def _count(self, row: int, held: Held, sign: int) -> None:
        request = held.request
        cpu, memory, pods = self.used_by
        cpu[row] += sign * request.cpu
        memory[row] += sign * request.memory
        pods[row] += sign
        cpu, memory = self.weight_by
        cpu[row] += sign * request.score_cpu
        memory[row] += sign * request.score_memory
        if request.extra:
            extra = self.extra_used[row]
            for name, count in request.extra:
                extra[name] = extra.get(name, 0) + sign * count
        level = self.priorities.get(request.priority, 0) + sign
        if level:
            self.priorities[request.priority] = level
        else:
            del self.priorities[request.priority]
        if self._below is not None:
            self._count_below(self._below, row, held, sign)
        self.census.change(row, held.crowd, request.rules, held.leaving, sign)
        if held.group:
            rows = self.siblings.setdefault(held.group, {})
            rows[row] = rows.get(row, 0) + sign
            if not rows[row]:
                del rows[row]
                if not rows:
                    del self.siblings[held.group]
        for port in request.ports:
            if sign > 0:
                self.ports.take(port, row, f"{held.namespace}/{held.name}")
            else:
                self.ports.give(port, row)

    def _name_port_user(self, port: Port, row: int, there: Mapping[str, Held]) -> None:
        """Two pods bound by hand may share a port: it is free only when the last of them went."""
        for held in there.values():
            if port in held.request.ports:
                self.ports.take(port, row, f"{held.namespace}/{held.name}")
                return


def _room(node: core_pb2.Node) -> dict[str, int]:
    found = {}
    for resource, quantity in (node.status.allocatable or node.status.capacity).items():
        try:
            found[resource] = amount(resource, quantity.value)
        except QuantityError:
            continue
    return found
