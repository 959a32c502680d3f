"""Which container this process runs in, if any, and where its paths lie on the engine's machine."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

_ID = re.compile(r"/containers/([0-9a-f]{64})/|docker[-/]([0-9a-f]{64})")


def container_id(mountinfo: str, cgroup: str) -> str | None:
    """The id Docker gave the container whose /proc/self/mountinfo and /proc/self/cgroup these are; pure.

    Docker binds its own files (resolv.conf, hostname, hosts) from .../containers/ID/ into every container.
    """
    for line in mountinfo.splitlines():
        fields = line.split()
        if len(fields) > 4 and fields[4] in ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf"):
            found = re.search(r"/containers/([0-9a-f]{64})/", fields[3])
            if found:
                return found[1]
    found = _ID.search(cgroup)
    return (found[1] or found[2]) if found else None


def candidates() -> list[str]:
    """Ids or names to ask the engine for, the surest first; empty on a plain host."""
    if not Path("/.dockerenv").exists():
        return []
    try:
        known = container_id(Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text())
    except OSError:
        known = None
    return [*([known] if known else []), socket.gethostname()]


def translate(path: str, mounts: Sequence[Mapping[str, Any]]) -> str | None:
    """The path on the engine's machine, by the mounts of our own container; None when no mount holds it; pure."""
    best: tuple[int, str] | None = None
    for mount in mounts:
        target = PurePosixPath(str(mount["Destination"]))
        if PurePosixPath(path).is_relative_to(target):
            depth = len(target.parts)
            inside = PurePosixPath(path).relative_to(target)
            if best is None or depth > best[0]:
                best = (depth, str(PurePosixPath(str(mount["Source"])) / inside))
    return best[1] if best else None
