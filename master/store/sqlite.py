"""The store's durable side: one SQLite file, one writer thread. The only module that speaks SQL."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf.message import DecodeError

from common.errors import BadRequest, SampanError, Unavailable
from common.kinds import KINDS
from master.store.store import Change, Loaded, Type

SCHEMA = 1
"""Version of the tables below, kept in `PRAGMA user_version`. A newer file is refused."""

_APPLICATION_ID = 0x53616D70
"""Marks the file as ours ("Samp"), in `PRAGMA application_id`."""

_TABLES = """
CREATE TABLE IF NOT EXISTS objects (
  kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, body BLOB NOT NULL,
  PRIMARY KEY (kind, namespace, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS history (
  revision INTEGER PRIMARY KEY, type TEXT NOT NULL, kind TEXT NOT NULL, namespace TEXT NOT NULL,
  name TEXT NOT NULL, body BLOB NOT NULL, old BLOB
);
CREATE TABLE IF NOT EXISTS revision (id INTEGER PRIMARY KEY CHECK (id = 1), value INTEGER NOT NULL);
INSERT OR IGNORE INTO revision VALUES (1, 0);
"""

T = TypeVar("T")
_CLASSES: dict[str, type[Any]] = {kind.kind: kind.message for kind in KINDS}


class SQLite:
    """A `Backend` in one directory; holds a lock on it so that two masters never share a store."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / "store.db"
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store-writer")
        self._db: sqlite3.Connection | None = None
        self._lock: int | None = None

    # -- Backend ------------------------------------------------------------------------------

    def load(self) -> Loaded:
        """Opens, checks and reads the file; called off the event loop.

        Raises Unavailable when another master holds it, when it is damaged, or when a newer Sampan wrote it.
        """
        return self._thread.submit(self._open).result()

    async def append(self, changes: Sequence[Change], forget_before: int) -> None:
        await self._in_thread(lambda: self._append(changes, forget_before))

    async def backup(self, path: Path) -> None:
        # A connection of its own: the copy sees one consistent state and the writer does not wait for it.
        await asyncio.to_thread(self._backup, path)

    async def replace(self, path: Path, revision: int) -> Loaded:
        return await self._in_thread(lambda: self._replace(path, revision))

    async def close(self) -> None:
        await self._in_thread(self._close)
        self._thread.shutdown(wait=False)

    # -- in the thread ------------------------------------------------------------------------

    async def _in_thread(self, work: Callable[[], T]) -> T:
        # Shielded: a write that has begun ends before its owner does, whatever is cancelled.
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, work))

    def _open(self) -> Loaded:
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            os.chmod(self._directory, 0o700)
        except OSError as error:
            raise Unavailable(f"the data directory {self._directory} can't be used: {error.strerror}") from error
        self._lock = _lock(self._directory / "lock")
        with _errors(self._path):
            fresh = not self._path.exists()
            db = self._db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            os.chmod(self._path, 0o600)
            if not fresh:
                _check(db, str(self._path))
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            db.execute("PRAGMA journal_size_limit=67108864")
            marks = f"PRAGMA user_version={SCHEMA};PRAGMA application_id={_APPLICATION_ID};"
            db.executescript(f"BEGIN;{_TABLES}{marks}COMMIT;")
            return _read(db)

    def _append(self, changes: Sequence[Change], forget_before: int) -> None:
        with _errors(self._path), _transaction(self._connection()) as db:
            _write_objects(db, changes)
            db.executemany(
                "INSERT INTO history VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(c.revision, c.type, *c.key, c.obj.SerializeToString(), _bytes(c.old)) for c in changes],
            )
            db.execute("DELETE FROM history WHERE revision < ?", (forget_before,))
            db.execute("UPDATE revision SET value = ?", (changes[-1].revision,))

    def _backup(self, path: Path) -> None:
        with _errors(path):
            source = sqlite3.connect(f"file:{self._path}?mode=ro", uri=True)
            with contextlib.closing(source), contextlib.closing(sqlite3.connect(path)) as target:
                os.chmod(path, 0o600)
                source.backup(target)
                # A single file, readable without the -wal beside it.
                target.execute("PRAGMA journal_mode=DELETE")

    def _replace(self, path: Path, revision: int) -> Loaded:
        try:
            with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as source:
                _check(source, "the backup")
                loaded = _read(source)
        except (sqlite3.Error, DecodeError, Unavailable) as error:
            raise BadRequest(f"this is not a whole Sampan backup: {error}; nothing has been changed") from error
        target = max(revision, loaded.revision) + 1
        with _errors(self._path), _transaction(self._connection()) as db:
            db.execute("DELETE FROM objects")
            db.execute("DELETE FROM history")
            db.executemany(
                "INSERT INTO objects VALUES (?, ?, ?, ?)",
                [(*_key(obj), obj.SerializeToString()) for obj in loaded.objects],
            )
            db.execute("UPDATE revision SET value = ?", (target,))
        return Loaded(target, loaded.objects, ())

    def _close(self) -> None:
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._db.close()
            self._db = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            raise Unavailable("the store is closed")
        return self._db


def _write_objects(db: sqlite3.Connection, changes: Sequence[Change]) -> None:
    """Only the last change of each key counts for the current state."""
    last = {change.key: change for change in changes}
    db.executemany(
        "INSERT INTO objects VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET body = excluded.body",
        [(*key, c.obj.SerializeToString()) for key, c in last.items() if c.type != "DELETED"],
    )
    db.executemany(
        "DELETE FROM objects WHERE kind = ? AND namespace = ? AND name = ?",
        [key for key, c in last.items() if c.type == "DELETED"],
    )


def _read(db: sqlite3.Connection) -> Loaded:
    objects = [_decode(kind, body) for kind, body in db.execute("SELECT kind, body FROM objects")]
    history = []
    for revision, type_, kind, namespace, name, body, old in db.execute("SELECT * FROM history ORDER BY revision"):
        change: Type = type_
        before = _decode(kind, old) if old is not None else None
        history.append(Change(change, (kind, namespace, name), _decode(kind, body), before, revision))
    (revision,) = db.execute("SELECT value FROM revision").fetchone()
    return Loaded(revision, objects, history)


def _decode(kind: str, body: bytes) -> Any:
    cls = _CLASSES.get(kind)
    if cls is None:
        raise Unavailable(f"the store holds a {kind}, which this version of Sampan does not know: upgrade it")
    return cls.FromString(body)


def _key(obj: Any) -> tuple[str, str, str]:
    return type(obj).DESCRIPTOR.name, obj.metadata.namespace, obj.metadata.name


def _bytes(obj: Any | None) -> bytes | None:
    return obj.SerializeToString() if obj is not None else None


def _check(db: sqlite3.Connection, what: str) -> None:
    (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise Unavailable(f"{what} is damaged ({found}); move it away and restore a backup with `sampan restore FILE`")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA:
        raise Unavailable(
            f"{what} was written by a newer Sampan (schema {version}, this one knows {SCHEMA}): "
            "install that version again, or restore a backup made before the upgrade"
        )
    (application,) = db.execute("PRAGMA application_id").fetchone()
    empty = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    if application != _APPLICATION_ID and not (empty and what != "the backup"):
        raise Unavailable(f"{what} is an SQLite file, but not one of Sampan's")


def _lock(path: Path) -> int:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.pread(handle, 32, 0).decode(errors="replace").strip()
        os.close(handle)
        raise Unavailable(
            f"another master (process {owner or 'unknown'}) uses {path.parent}: stop it, or name another --data"
        ) from error
    os.truncate(handle, 0)
    os.pwrite(handle, str(os.getpid()).encode(), 0)
    return handle


@contextlib.contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield db
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except SampanError:
        raise
    except (sqlite3.Error, DecodeError, OSError) as error:
        text = str(error)
        if "full" in text:
            raise Unavailable(f"the disk that holds {path} is full: nothing was written; free some space") from error
        if "malformed" in text or "not a database" in text:
            text += "; move it away and restore a backup with `sampan restore FILE`"
        raise Unavailable(f"the store {path} can't be used: {text}") from error
