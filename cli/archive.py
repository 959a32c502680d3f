"""Directories to tar and back, as `cp` sends them: permissions kept, nothing written outside the destination."""

from __future__ import annotations

import os
import posixpath
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from common.errors import BadRequest

# setuid and setgid of a container's files mean nothing here, and much harm.
_PERMISSIONS = 0o777


class Escape(BadRequest):
    """The archive names something outside of where it goes; the container is not to be trusted."""


def pack(source: Path, name: str, out: IO[bytes], owner: tuple[int, int], warn: Callable[[str], None]) -> None:
    """Writes `source` as an archive whose entries begin with `name` ("." for the content of a directory).

    Everything belongs to `owner` (uid, gid). Sockets and devices are left out. Raises OSError.
    """

    def owned(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if not (entry.isreg() or entry.isdir() or entry.issym() or entry.islnk()):
            warn(f"{entry.name}: neither a file, a directory nor a link: left out")
            return None
        (entry.uid, entry.gid), entry.uname, entry.gname = owner, "", ""
        return entry

    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        archive.add(source, arcname=name, filter=owned)


def unpack(archive: IO[bytes], target: Path, warn: Callable[[str], None]) -> int:
    """Writes an archive whose entries are all below one name as `target`; returns how many files it wrote.

    Raises Escape for an entry outside, OSError, tarfile.TarError for what is no archive.
    """
    links: list[tuple[Path, str]] = []
    folders: list[tuple[Path, int, float]] = []
    count = 0
    with tarfile.open(fileobj=archive, mode="r|") as entries:
        for entry in entries:
            path = inside(target, entry.name)
            if entry.isdir():
                _real(target, path)
                path.mkdir(parents=True, exist_ok=True)
                folders.append((path, entry.mode & _PERMISSIONS, entry.mtime))
            elif entry.isreg():
                _file(target, path, entry, entries.extractfile(entry))
                count += 1
            elif entry.islnk():
                other = inside(target, entry.linkname)
                _real(target, other)
                _real(target, path)
                if other.is_symlink() or not other.is_file():
                    raise Escape(f'"{entry.name}" is a link to "{entry.linkname}", which is no file of this copy')
                path.unlink(missing_ok=True)
                shutil.copy2(other, path)
                count += 1
            elif entry.issym():
                links.append((path, entry.linkname))
            else:
                warn(f"{entry.name}: neither a file, a directory nor a link: left out")
    # Last, so that nothing is written through them.
    for path, goal in links:
        count += _link(target, path, goal, warn)
    for path, mode, mtime in reversed(folders):
        path.chmod(mode)
        os.utime(path, (mtime, mtime))
    return count


def inside(target: Path, name: str) -> Path:
    """Where an entry goes: its first part stands for `target`. Raises Escape; pure."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or not parts or "\0" in name:
        raise Escape(f'the container sends "{name}", which is outside of what was asked for: nothing more is written')
    return target.joinpath(*parts[1:])


def _real(target: Path, path: Path) -> None:
    """Raises Escape when a link that was here before leads out of `target`."""
    if path != target and not path.parent.resolve().is_relative_to(target.resolve()):
        raise Escape(f"{path.parent} leads out of {target}: nothing more is written")


def _file(target: Path, path: Path, entry: tarfile.TarInfo, content: IO[bytes] | None) -> None:
    assert content is not None
    _real(target, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not through a link of this name, and not into a file that others hold open.
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        shutil.copyfileobj(content, file)
        os.fchmod(file.fileno(), entry.mode & _PERMISSIONS)
    os.utime(path, (entry.mtime, entry.mtime))


def _link(target: Path, path: Path, goal: str, warn: Callable[[str], None]) -> int:
    """A symbolic link that stays within the copy is kept; any other is left out."""
    _real(target, path)
    relative = posixpath.normpath(posixpath.join(path.parent.relative_to(target).as_posix(), goal))
    if goal.startswith("/") or relative.split("/")[0] == ".." or path == target:
        warn(f"{path}: a link to {goal}, outside of the copy: left out")
        return 0
    path.unlink(missing_ok=True)
    path.symlink_to(goal)
    return 1
