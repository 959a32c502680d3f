"""Writes a volume's files the way Kubernetes does: readers see all old files or all new ones.

The files lie in a directory of their own; `..data` is a link to it and is replaced in one step; the visible
names are links through `..data`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path, PurePosixPath

from node_agent.pods.files import File, Files

DATA = "..data"
_NEW = "..data_tmp"


def write_files(directory: Path, files: Files) -> bool:
    """Makes `directory` hold exactly `files`; False when it did already. Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o755)
    if _current(directory) == files:
        return False
    # The name sorts after Kubernetes' fashion and never meets an older one.
    fresh = Path(tempfile.mkdtemp(prefix="..", dir=directory))
    fresh.chmod(0o755)
    for path, file in files.items():
        target = fresh / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.content)
        # Last, so that neither umask nor a mode without write permission is in the way.
        target.chmod(file.mode)
    old = directory / DATA
    previous = os.readlink(old) if old.is_symlink() else ""
    pending = directory / _NEW
    pending.unlink(missing_ok=True)
    pending.symlink_to(fresh.name)
    pending.rename(old)
    _link_names(directory, {PurePosixPath(path).parts[0] for path in files})
    if previous:
        shutil.rmtree(directory / previous, ignore_errors=True)
    return True


def _link_names(directory: Path, names: set[str]) -> None:
    for name in names:
        link = directory / name
        if not link.is_symlink():
            link.symlink_to(Path(DATA) / name)
    for entry in directory.iterdir():
        if entry.is_symlink() and not entry.name.startswith("..") and entry.name not in names:
            entry.unlink()


def _current(directory: Path) -> Files | None:
    """What `..data` holds now, None when there is none."""
    data = directory / DATA
    if not data.is_dir():
        return None
    return {
        str(path.relative_to(data)): File(path.read_bytes(), path.stat().st_mode & 0o7777)
        for path in data.rglob("*")
        if path.is_file()
    }
