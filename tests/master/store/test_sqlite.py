"""The file under the store: locked, checked at start, refused when it is newer or damaged, whole after a full disk."""

from __future__ import annotations

import os
import resource
import sqlite3
from pathlib import Path

import pytest

from common.errors import Unavailable
from master.store.sqlite import SCHEMA, SQLite
from master.store.store import ABSENT, Put, Remove, Store
from protos import core_pb2
from tests.master.store.conftest import Open
from tests.master.store.test_store import configmap


def test_two_masters_never_share_a_store(tmp_path: Path) -> None:
    first, second = SQLite(tmp_path), SQLite(tmp_path)
    first.load()
    with pytest.raises(Unavailable, match=f"another master \\(process {os.getpid()}\\)"):
        second.load()
    first._close()
    assert second.load().revision == 0
    second._close()


async def test_a_newer_schema_is_refused(tmp_path: Path, opened: Open) -> None:
    async with opened(tmp_path) as store:
        await store.commit(Put(configmap("a"), ABSENT))
    with sqlite3.connect(tmp_path / "store.db") as db:
        db.execute(f"PRAGMA user_version={SCHEMA + 1}")
    db.close()
    backend = SQLite(tmp_path)
    with pytest.raises(Unavailable, match=f"newer Sampan \\(schema {SCHEMA + 1}, this one knows {SCHEMA}\\)"):
        backend.load()
    backend._close()


async def test_a_damaged_file_is_refused_with_what_to_do(tmp_path: Path, opened: Open) -> None:
    async with opened(tmp_path) as store:
        for i in range(200):
            await store.commit(Put(configmap(f"a{i}", "x" * 500), ABSENT))
    path = tmp_path / "store.db"
    content = bytearray(path.read_bytes())
    content[4096:16384] = os.urandom(12288)
    path.write_bytes(content)
    backend = SQLite(tmp_path)
    with pytest.raises(Unavailable, match="restore a backup"):
        backend.load()
    backend._close()


async def test_a_full_disk_loses_nothing_and_says_so(store: Store) -> None:
    """A file size limit is the kernel's own way to refuse a write; SQLite meets it as it meets a full disk."""
    await store.commit(Put(configmap("kept"), ABSENT))
    before = store.revision
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096 * 40, limit[1]))
    try:
        with pytest.raises(Unavailable, match=r"can.t be used|is full"):
            await store.commit(Put(configmap("big", "x" * 1_000_000), ABSENT))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert store.revision == before
    assert store.get("ConfigMap", "default", "big") is None
    await store.commit(Put(configmap("big", "x" * 1_000_000), ABSENT))
    assert store.revision == before + 1


async def test_files_are_private(tmp_path: Path, opened: Open) -> None:
    async with opened(tmp_path / "data") as store:
        await store.commit(Put(configmap("a"), ABSENT))
        assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "data" / "store.db").stat().st_mode & 0o777 == 0o600


async def test_files_keep_their_size_while_objects_come_and_go(tmp_path: Path, opened: Open) -> None:
    directory, sizes, logs = tmp_path / "data", [], []
    filler = {"text": "x" * 2000}
    async with opened(directory, 500) as store:
        for turn in range(30):
            made = [core_pb2.ConfigMap(data=filler) for _ in range(100)]
            for number, one in enumerate(made):
                one.metadata.name, one.metadata.namespace = f"c-{turn}-{number}", "default"
            await store.commit(*(Put(one, ABSENT) for one in made))
            await store.commit(*(Put(one) for one in made))
            await store.commit(*(Remove("ConfigMap", "default", one.metadata.name) for one in made))
            sizes.append((directory / "store.db").stat().st_size)
            logs.append((directory / "store.db-wal").stat().st_size)
    # The history is full after two turns; what it forgets is written over.
    assert max(sizes[10:]) <= 1.2 * max(sizes[5:10]), sizes
    # SQLite writes its log back every 1,000 pages, and what one commit wrote beyond that.
    assert max(logs) <= 3 * 1000 * 4096, logs
    async with opened(directory, 500) as store:
        assert len(store._history) == 500 and not store.count("ConfigMap") and store.revision == 30 * 300
