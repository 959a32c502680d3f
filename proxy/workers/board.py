"""Numbers that all workers of a proxy share: turns taken and connections carried, without a lock.

Memory of one cell for each slot and worker; a worker writes only its own cells, and what counts is the sum. So nothing
has to be atomic but the write of eight aligned bytes, and whoever dies at whatever moment leaves the others nothing to
wait for. Which slot belongs to what is decided in the control process (`Assignments`) and told to the workers
(`Shares`) ahead of the table that it belongs to.
"""

from __future__ import annotations

import mmap
import os
import random
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from common.routing import Endpoint
from proxy.balancer import Share
from proxy.balancer.rotation import SharedTurns, ordered, resumed
from proxy.plan import Moves, PortKey, Serving

# One for each service port and each endpoint of those that balance by connections; memory is used as they are. What
# gets none is balanced by each worker for itself.
SLOTS = 1 << 16
_CELL = 8


class Board:
    """The shared cells; `me` is the worker whose cells this process writes."""

    def __init__(self, descriptor: int, workers: int, me: int) -> None:
        self.descriptor = descriptor
        self.workers = workers
        self.me = me
        self._more = 0
        self.cells = memoryview(mmap.mmap(descriptor, SLOTS * workers * _CELL)).cast("Q")

    @classmethod
    def make(cls, workers: int) -> Board:
        """A new one, all zeros; of the control process, which writes cells of the dead alone. OSError."""
        descriptor = os.memfd_create("sampan-proxy-board", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, SLOTS * workers * _CELL)
        return cls(descriptor, workers, 0)

    def fileno(self) -> int:
        return self.descriptor

    def hold(self) -> Board:
        """One holder of the descriptor more, who closes it too."""
        self._more += 1
        return self

    def close(self) -> None:
        """Gives the descriptor back; memory that is in use stays."""
        if self._more:
            self._more -= 1
        elif self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def of(self, slot: int) -> memoryview:
        """The cells of a slot, one for each worker."""
        return self.cells[slot::SLOTS]

    def forget(self, worker: int, slots: Iterable[int]) -> None:
        """A worker has died, and with it what these slots count."""
        for slot in slots:
            self.cells[worker * SLOTS + slot] = 0


class SharedLoads:
    """What the workers carry to the endpoints of one service port."""

    __slots__ = ("_board", "_cells")

    def __init__(self, board: Board) -> None:
        self._board = board
        self._cells: dict[Endpoint, memoryview] = {}

    def others(self, endpoint: Endpoint) -> int:
        cells = self._cells.get(endpoint)
        return sum(cells) - cells[self._board.me] if cells is not None else 0

    def tell(self, endpoint: Endpoint, load: int) -> None:
        cells = self._cells.get(endpoint)
        if cells is not None:
            cells[self._board.me] = load

    def assign(self, slots: Mapping[Endpoint, int], loads: Mapping[Endpoint, int]) -> None:
        """Cells of endpoints that left are zero from now on: another endpoint may get them."""
        for endpoint in self._cells.keys() - slots.keys():
            self.tell(endpoint, 0)
        self._cells = {endpoint: self._board.of(slot) for endpoint, slot in slots.items()}
        for endpoint in slots:
            self.tell(endpoint, loads.get(endpoint, 0))


class Shares:
    """A worker's half: what it was told of each service port."""

    def __init__(self) -> None:
        self.board: Board | None = None
        self._shares: dict[PortKey, Share] = {}

    def learn(self, entries: Iterable[Any]) -> None:
        """What `Assignments` told."""
        if self.board is None:
            return
        for key, port, protocol, outside, slot, base, loads in entries:
            slots = {Endpoint(ip, number): held for ip, number, held in loads}
            turns = SharedTurns(self.board.of(slot), self.board.me)
            self._shares[PortKey(key, port, protocol, outside)] = Share(turns, base, SharedLoads(self.board), slots)

    def get(self, key: PortKey) -> Share | None:
        """What the service port shares; None: nothing, each worker for itself."""
        return self._shares.get(key)

    def forget(self, key: PortKey) -> None:
        self._shares.pop(key, None)


class _Assigned:
    """One service port's slots, the order it goes by, and from where it counts."""

    __slots__ = ("base", "endpoints", "loads", "slot")

    def __init__(self, slot: int, base: int) -> None:
        self.slot = slot
        self.base = base
        self.endpoints: tuple[Endpoint, ...] = ()
        self.loads: dict[Endpoint, int] = {}


class Assignments:
    """The control process's half: who has which slot, and where the round goes on after a change."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self._assigned: dict[PortKey, _Assigned] = {}
        # Those given back last are used last: a worker may have yet to hear of it.
        self._free: deque[int] = deque()
        self._next = 0

    def follow(self, moves: Moves) -> list[Any]:
        """What the workers are to be told before the table that asks for these moves."""
        for key in moves.unserve:
            assigned = self._assigned.pop(key, None)
            if assigned is not None:
                self._free.append(assigned.slot)
                self._free.extend(assigned.loads.values())
        told = [self._entry(key) for key, serving in moves.serve.items() if self._assign(key, serving)]
        return told

    def all(self) -> list[Any]:
        """The same for a worker that has heard nothing yet."""
        return [self._entry(key) for key in self._assigned]

    def died(self, worker: int) -> None:
        """What a worker carried is over; the turns it took stay taken."""
        for assigned in self._assigned.values():
            if assigned.loads:
                self.board.forget(worker, assigned.loads.values())

    def _assign(self, key: PortKey, serving: Serving) -> bool:
        assigned = self._assigned.get(key)
        if assigned is None:
            slot = self._take()
            if slot is None:
                return False
            # Not every node begins with the same endpoint.
            base = sum(self.board.of(slot)) - random.randrange(1 << 16)
            assigned = self._assigned[key] = _Assigned(slot, base)
        after = ordered(serving.endpoints)
        if after != assigned.endpoints and assigned.endpoints and after:
            taken = sum(self.board.of(assigned.slot))
            position = (taken - assigned.base) % len(assigned.endpoints)
            assigned.base = taken - resumed(assigned.endpoints, position, after)
        assigned.endpoints = after or assigned.endpoints
        self._assign_loads(assigned, after if serving.balance == "LeastConnections" else ())
        return True

    def _assign_loads(self, assigned: _Assigned, endpoints: tuple[Endpoint, ...]) -> None:
        for gone in assigned.loads.keys() - set(endpoints):
            self._free.append(assigned.loads.pop(gone))
        for endpoint in endpoints:
            if endpoint not in assigned.loads and (slot := self._take()) is not None:
                assigned.loads[endpoint] = slot

    def _take(self) -> int | None:
        if self._next < SLOTS:
            self._next += 1
            return self._next - 1
        return self._free.popleft() if self._free else None

    def _entry(self, key: PortKey) -> list[Any]:
        assigned = self._assigned[key]
        loads = [[endpoint.ip, endpoint.port, slot] for endpoint, slot in assigned.loads.items()]
        return [*key, assigned.slot, assigned.base, loads]
