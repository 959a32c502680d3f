"""What the agent keeps across its restarts: a few small files, each replaced as a whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from pathlib import Path
from typing import Protocol

from common.errors import Unavailable


class Storage(Protocol):
    """Named blobs. Both calls block."""

    def load(self, name: str) -> bytes | None: ...

    def save(self, name: str, data: bytes) -> None: ...


class MemoryStorage:
    """For nodes that have no disk: simulated ones."""

    def __init__(self) -> None:
        self._data: dict[str, bytes] = {}

    def load(self, name: str) -> bytes | None:
        return self._data.get(name)

    def save(self, name: str, data: bytes) -> None:
        self._data[name] = data


class FileStorage:
    """Files of one directory, mode 0600 (they hold secrets), written beside, flushed and renamed."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory

    def load(self, name: str) -> bytes | None:
        try:
            return (self._directory / name).read_bytes()
        except FileNotFoundError:
            return None

    def save(self, name: str, data: bytes) -> None:
        """Raises OSError when the disk does not take it; the old content is then still there."""
        # mkstemp makes the file 0600.
        descriptor, path = tempfile.mkstemp(prefix=f".{name}.", dir=self._directory)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(path, self._directory / name)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            raise
        folder = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class DirectoryLock:
    """Keeps a second agent off the same data directory for as long as this process lives."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._file = (directory / "agent.lock").open("w")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise Unavailable(f"another agent runs with the data directory {directory}") from error

    def release(self) -> None:
        self._file.close()
