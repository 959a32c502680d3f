"""Runs every controller: one watch, one queue of dirty keys each, plans applied, failures backed off.

Level-triggered: a pass reads the present state and never the change that led to it, and every key is looked at again
every few seconds though nothing was seen. Passes of one key never overlap.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import structlog

from common import kinds
from common.errors import Conflict, Expired, SampanError
from master.controllers.apply import Writer, apply
from master.controllers.index import Index
from master.controllers.nodes import NodeTable, Timeouts
from master.controllers.queue import WorkQueue
from master.controllers.rows.row import Moment, Row
from master.controllers.rows.table import Rows
from master.store.store import Key, Store, Watch, key_of

log = structlog.get_logger()

_KINDS = tuple(kind.kind for kind in kinds.KINDS)

RESYNC_SECONDS = 5.0
PRUNE_SECONDS = 60.0
STRIDE = 200
"""Objects read again before the loop gets its turn: about a millisecond."""
TURN_SECONDS = 0.001
"""A worker's turn of the loop, passes in a row; the next one follows after what else waits."""
WRITES_AT_ONCE = 256
PULSE_SECONDS = 1.0
STALL_SECONDS = 3.0
"""A loop that was away for this long beyond its pulse has missed heartbeats: silence is counted from its return."""


class Controllers:
    """The shell around master/controllers/rows/. `clock` is Unix time, `ticks` monotonic, the one of `nodes`."""

    def __init__(
        self,
        store: Store,
        resources: Writer,
        nodes: NodeTable,
        clock: Callable[[], float] = time.time,
        *,
        ticks: Callable[[], float] = time.monotonic,
        timeouts: Timeouts | None = None,
        resync_seconds: float = RESYNC_SECONDS,
    ) -> None:
        self._store = store
        self._resources = resources
        self._clock = clock
        self._ticks = ticks
        self._resync_seconds = resync_seconds
        self._base = nodes.started_at
        self._rows = Rows(store, nodes, timeouts or Timeouts())
        self._desks = [_Desk(row) for row in self._rows.rows()]
        self._slots = asyncio.Semaphore(WRITES_AT_ONCE)

    async def run(self) -> None:
        """Runs until cancelled; starts over, from the full state, when the watch fell behind."""
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._pulse(), name="controllers/pulse"),
                group.create_task(self._resync(), name="controllers/resync"),
                group.create_task(self._prune_events(), name="controllers/prune-events"),
                *(
                    group.create_task(self._work(desk), name=f"controllers/{desk.row.name}-{number}")
                    for desk in self._desks
                    for number in range(desk.row.workers)
                ),
            ]
            while await self._follow():
                pass
            for task in tasks:
                task.cancel()

    async def _follow(self) -> bool:
        """Keeps the index and marks keys dirty. True: the watch fell behind, begin anew; False: the store closed."""
        objects, _, watch = self._store.snapshot_and_watch(_KINDS)
        self._rows.index = Index(objects)
        for desk in self._desks:
            desk.mark(desk.row.keys())
        try:
            await self._take_in(watch)
        except Expired as error:
            log.info("controllers.relist", cause=str(error))
            return True
        finally:
            watch.close()
        return False

    async def _take_in(self, watch: Watch) -> None:
        while changes := await watch.batch():
            for change in changes:
                if change.type == "DELETED":
                    self._rows.index.remove(change.key)
                else:
                    self._rows.index.put(change.obj)
            heard = [change for change in changes if self._rows.concerns(change)]
            for desk in self._desks:
                desk.mark(key for change in heard for key in desk.row.dirty(change))

    async def _resync(self) -> None:
        """Reads everything again and marks every key, so that nothing hangs on a change that was not seen."""
        pause = self._resync_seconds
        while True:
            await asyncio.sleep(pause)
            started = self._ticks()
            for kind in _KINDS:
                for at, obj in enumerate(self._store.list(kind) if kind != "Event" else ()):
                    self._index_newest(obj)
                    if at % STRIDE == STRIDE - 1:
                        await asyncio.sleep(0)
            for desk in self._desks:
                # A round that is not over yet is enough of a round.
                if not desk.busy:
                    desk.mark(desk.row.keys())
                await asyncio.sleep(0)
            # However large the cluster: a twentieth of the time at most.
            pause = max(self._resync_seconds, 20 * (self._ticks() - started))

    async def _prune_events(self) -> None:
        while True:
            await asyncio.sleep(PRUNE_SECONDS)
            try:
                await self._resources.prune_events(self._clock())
            except SampanError as error:
                log.warning("events.not_pruned", cause=str(error))

    async def _pulse(self) -> None:
        while True:
            before = self._ticks()
            await asyncio.sleep(PULSE_SECONDS)
            away = self._ticks() - before - PULSE_SECONDS
            if away > STALL_SECONDS:
                log.warning("controllers.stalled", seconds=round(away, 1))
                self._base = self._ticks()

    async def _work(self, desk: _Desk) -> None:
        since = self._ticks()
        while True:
            if self._ticks() - since > TURN_SECONDS:
                # A pass that plans nothing waits for nothing: a round of a thousand keys would hold up everybody.
                await asyncio.sleep(0)
                since = self._ticks()
            key = await desk.take(self._ticks)
            try:
                again = await self._pass(desk.row, key)
            except SampanError as error:
                delay = desk.queue.failed(key, self._ticks())
                level = log.debug if isinstance(error, Conflict) else log.warning
                level("controller.failed", controller=desk.row.name, key=_text(key), cause=str(error), retry=delay)
            except Exception:
                # One object that a controller cannot digest must not stop the others.
                delay = desk.queue.failed(key, self._ticks())
                log.exception("controller.broken", controller=desk.row.name, key=_text(key), retry=delay)
            else:
                desk.queue.done(key)
                if again is not None:
                    desk.queue.add_at(key, self._ticks() + again)

    async def _pass(self, row: Row, key: Key) -> float | None:
        plan = row.reconcile(key, Moment(self._clock(), self._ticks(), self._base))
        if plan:
            log.info("controller.plan", controller=row.name, key=_text(key), plan=plan.summary())
            await apply(plan, self._resources, self._slots, self._index_newest)
        return plan.again

    def _index_newest(self, obj: Any) -> None:
        """Puts an object into the index though no change of it came yet: a pass must see its own writes."""
        newest = self._store.get(*key_of(obj))
        if newest is not None:
            self._rows.index.put(newest)


class _Desk:
    """One controller's queue and the workers that wait for it: as many are woken as there are keys for."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.queue: WorkQueue[Key] = WorkQueue()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0.0

    @property
    def busy(self) -> bool:
        return len(self.queue) > 0

    def mark(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self.queue.add(key)
        self._wake(self.queue.due)

    async def take(self, ticks: Callable[[], float]) -> Key:
        """The next key that is due, when there is one."""
        while True:
            now = ticks()
            key = self.queue.take(now)
            self._set_alarm(now)
            if key is not None:
                # Several may have become due with the time.
                self._wake(self.queue.due)
                return key
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idle.append(turn)
            await turn

    def _wake(self, most: int) -> None:
        while most > 0 and self._idle:
            turn = self._idle.popleft()
            if not turn.done():
                turn.set_result(None)
                most -= 1

    def _set_alarm(self, now: float) -> None:
        """One timer for all workers, at the earliest time that a key waits for."""
        at = self.queue.next_at()
        if self._alarm is not None:
            if at == self._alarm_at:
                return
            self._alarm.cancel()
            self._alarm = None
        if at is not None:
            self._alarm_at = at
            self._alarm = asyncio.get_running_loop().call_later(max(0.0, at - now), self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._wake(1)


def _text(key: Key) -> str:
    return "/".join(part for part in key if part)
