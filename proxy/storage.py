"""The last complete table on disk, so that a proxy that starts without an agent serves what it served before.

A journal: the complete table in one line, then a line for each change, as the agent sent them. So a change costs what
it changes. A crash leaves at most a torn last line, which is not read; when the changes outweigh the table, it is
written anew.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

from common.routing import Route, node_to_json, route_to_json
from common.tasks import Tasks
from proxy.logs import EventLog
from proxy.table import BadTable, Resync, Table, read_delta, read_snapshot

log = EventLog("proxy.storage")

FILE_NAME = "proxy-table.json"
# Writing takes at most a tenth of the time, however large the table is.
SHORTEST_PAUSE = 0.05
PAUSE_FACTOR = 9
# Bytes of changes that are worth no new file.
SMALL_JOURNAL = 1 << 20
# Routes turned into text in one go: other threads have to wait so long.
CHUNK = 50


def load(directory: Path) -> Table | None:
    """The stored table; None when there is none or it cannot be read, which is logged."""
    path = directory / FILE_NAME
    try:
        with path.open("rb") as file:
            first = file.readline()
            data = json.loads(first)
            if not isinstance(data, dict):
                raise BadTable(f"must be an object, got {type(data).__name__}")
            table = read_snapshot(data.get("snapshot", data))
            for line in file:
                if not line.endswith(b"\n"):
                    log.info("table.torn_line", path=str(path), revision=table.revision)
                    break
                table.follow(read_delta(json.loads(line)["delta"]))
            return table
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, Resync) as error:
        log.warning("table.unreadable", path=str(path), error=str(error))
        return None


def save(directory: Path, table: Table) -> None:
    """Replaces the stored table: a crash at any moment leaves the old one or the new one. Raises OSError."""
    _replace(directory, _chunks(_head(table), list(table.routes.values())))


def _head(table: Table) -> dict[str, Any]:
    return {"epoch": table.epoch, "revision": table.revision, "node": node_to_json(table.node)}


def _chunks(head: dict[str, Any], routes: list[Route]) -> list[bytes]:
    parts = [b'{"snapshot":', json.dumps(head, separators=(",", ":")).encode()[:-1], b',"routes":[']
    for begin in range(0, len(routes), CHUNK):
        chunk = [route_to_json(route) for route in routes[begin : begin + CHUNK]]
        parts.append((b"," if begin else b"") + json.dumps(chunk, separators=(",", ":")).encode()[1:-1])
    return [*parts, b"]}}\n"]


def _replace(directory: Path, parts: list[bytes]) -> int:
    path = directory / FILE_NAME
    scratch = directory / (FILE_NAME + ".new")
    fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.writelines(parts)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
    return sum(len(part) for part in parts)


class Saver:
    """Writes tables and changes in a thread; those that follow each other quickly are written together."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._tasks = Tasks("saver")
        self._writing = threading.Lock()
        self._pending = threading.Lock()
        # What is to be written next: a complete table (head, routes) or lines to add to what is there.
        self._whole: tuple[dict[str, Any], list[Route]] | None = None
        self._lines: list[bytes] = []
        self._table: Table | None = None
        # Bytes on disk: of the complete table, of the changes. None: what is there can't be added to.
        self._sizes: tuple[int, int] | None = None

    def put(self, table: Table) -> None:
        """The table to be on disk soon; it may go on changing, if `add` is told."""
        with self._pending:
            self._table = table
            self._whole = (_head(table), list(table.routes.values()))
            self._lines = []
        self._wake()

    def add(self, line: bytes) -> None:
        """A change of that table, one line as the agent sent it, to be on disk soon."""
        with self._pending:
            self._lines.append(line)
        self._wake()

    def resume(self, table: Table) -> None:
        """The table that `load` gave is what changes are told of from now on."""
        self._table = table

    def _wake(self) -> None:
        if not len(self._tasks):
            self._tasks.start("save", self._run())

    async def _run(self) -> None:
        pause = SHORTEST_PAUSE
        while self._whole is not None or self._lines:
            await asyncio.sleep(pause)
            if self._whole is None and self._table is not None and self._outweighed():
                self.put(self._table)
            begun = time.monotonic()
            await asyncio.to_thread(self.finish)
            pause = max(SHORTEST_PAUSE, PAUSE_FACTOR * (time.monotonic() - begun))

    def _outweighed(self) -> bool:
        if self._sizes is None:
            return True
        whole, added = self._sizes
        return added > max(SMALL_JOURNAL, whole)

    def finish(self) -> None:
        """Writes what is to be written now; on return nothing is being written."""
        with self._writing:
            with self._pending:
                whole, lines = self._whole, self._lines
                self._whole, self._lines = None, []
            try:
                if whole is not None:
                    self._sizes = (_replace(self._directory, _chunks(*whole)), 0)
                if lines:
                    self._append(lines)
            except OSError as error:
                self._sizes = None
                log.error("table.not_saved", path=str(self._directory / FILE_NAME), error=str(error))

    def _append(self, lines: list[bytes]) -> None:
        if self._sizes is None:
            return  # the next complete table has it
        fd = os.open(self._directory / FILE_NAME, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        with os.fdopen(fd, "ab") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        whole, added = self._sizes
        self._sizes = (whole, added + sum(len(line) for line in lines))

    async def close(self) -> None:
        """Ends the background work and writes what is not on disk yet."""
        await self._tasks.close()
        if self._lines and self._whole is None and self._table is not None and self._outweighed():
            self.put(self._table)
            await self._tasks.close()
        self.finish()
