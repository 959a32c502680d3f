"""A store with resources and controllers on it, for tests that need the real thing."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path

from master.api.resources import Resources
from master.controllers.nodes import Timeouts
from master.controllers.runner import Controllers
from master.dispatcher.nodes import NodeTable
from master.store.sqlite import SQLite
from master.store.store import Change, Store, Watch

QUICK = Timeouts(traffic=1.0, reschedule=1.0)


class QuickTable(NodeTable):
    """A table that asks for no pace, so that the time-out is one second."""

    def heartbeat_period(self) -> float:
        return 0.0


class LossyWatch(Watch):
    """A watch that forgets three changes of ten."""

    dice = random.Random(3)

    async def batch(self) -> list[Change]:
        while changes := await super().batch():
            kept = [change for change in changes if self.dice.random() >= 0.3]
            if kept:
                return kept
        return []


class LossyStore(Store):
    """The real store, but its watches lose changes."""

    def watch(self, of_kinds: Collection[str] | None = None, since: int | None = None) -> Watch:
        watch = LossyWatch(self, frozenset(of_kinds or ()), self.revision if since is None else since)
        self._watches.add(watch)
        return watch


@contextlib.asynccontextmanager
async def stored(directory: Path, kind: type[Store] = Store) -> AsyncIterator[tuple[Store, Resources]]:
    store = kind(SQLite(directory))
    ready = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        writer = group.create_task(store.run(ready))
        await ready.wait()
        resources = Resources(store, toleration_seconds=1)
        try:
            await resources.ensure_builtin()
            yield store, resources
        finally:
            writer.cancel()


@contextlib.asynccontextmanager
async def controlled(store: Store, resources: Resources, table: NodeTable) -> AsyncIterator[Controllers]:
    controllers = Controllers(store, resources, table, timeouts=QUICK, resync_seconds=0.5)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(controllers.run())
        try:
            yield controllers
        finally:
            task.cancel()


@contextlib.asynccontextmanager
async def beating(table: NodeTable, name: str) -> AsyncIterator[None]:
    """A node that is heard all the while, however long the test's own steps take."""

    async def beat() -> None:
        while True:
            table.heard(name)
            await asyncio.sleep(0.1)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(beat())
        try:
            yield
        finally:
            task.cancel()


async def until(holds: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Polls until it holds; fails with what was waited for."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.01)
