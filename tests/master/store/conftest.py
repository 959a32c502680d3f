"""A store on a real file system, for the tests of this room."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from master.store.sqlite import SQLite
from master.store.store import Store

Open = Callable[..., AbstractAsyncContextManager[Store]]


@contextlib.asynccontextmanager
async def open_store(directory: Path, history_limit: int = 1000) -> AsyncIterator[Store]:
    store = Store(SQLite(directory), history_limit)
    ready = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        writer = group.create_task(store.run(ready))
        await ready.wait()
        try:
            yield store
        finally:
            writer.cancel()


@pytest.fixture
def opened() -> Open:
    return open_store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(tmp_path / "data") as opened_store:
        yield opened_store
