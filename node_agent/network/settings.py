"""The kernel settings that the agent has changed, with what they were before: kept on disk, put back on leave."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path


class Settings:
    """Remembers in `path` (None: only while it lives). Raises OSError when the file can't be written."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.before: dict[str, str] = {}
        self._set: dict[str, str] = {}
        if path is not None and path.exists():
            kept = json.loads(path.read_text())
            self.before, self._set = dict(kept["before"]), dict(kept["set"])

    def changed(self, name: str, before: str, value: str) -> None:
        """`name` was `before` and is `value` now; what it was at first is what counts."""
        if name in self.before and self._set.get(name) == value:
            return
        self.before.setdefault(name, before)
        self._set[name] = value
        self._save()

    def put_back(self, read: Callable[[str], str], write: Callable[[str, str], None]) -> None:
        """Every setting that still is what was made of it becomes what it was; what is gone is left alone."""
        for name, before in self.before.items():
            if read(name) == self._set.get(name) and before:
                write(name, before)
        self.before, self._set = {}, {}
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _save(self) -> None:
        if self._path is None:
            return
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps({"before": self.before, "set": self._set}))
        fresh.replace(self._path)
