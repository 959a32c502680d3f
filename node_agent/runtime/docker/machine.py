"""What this machine has and uses, from /proc and the file system (the same inside a container)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from node_agent.runtime.seam import Machine

_PROC = Path("/proc")
_CGROUP = Path("/sys/fs/cgroup")
# The same three files in both versions: the limit, what is used, and the detail with what could be given back.
_MEMORY_FILES = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
)
_PIDS_FILES = (("pids.max", "pids.current"), ("pids/pids.max", "pids/pids.current"))


def read_machine(info: Mapping[str, Any], disk_path: str, *, contained: bool = False) -> Machine:
    """`info` is the engine's own account (GET /info); `disk_path` a directory on the disk that fills up.

    `contained`: we run in a container of that engine. Its limits are not the pods', and the engine's own directory
    is not to be seen from there: our volume lies on the same disk as a rule.
    """
    memory = _meminfo((_PROC / "meminfo").read_text())
    total = int(info.get("MemTotal") or memory["MemTotal"])
    free = memory["MemAvailable"]
    pids = int((_PROC / "loadavg").read_text().split()[3].split("/")[1])
    pids_max = min(int((_PROC / f"sys/kernel/{name}").read_text()) for name in ("pid_max", "threads-max"))
    if not contained:
        total, free = within(total, free, memory_limit(_CGROUP))
        pids, pids_max = pids_within(pids, pids_max, pids_limit(_CGROUP))
    disk = os.statvfs(_existing(Path(disk_path)))
    root = Path(str(info.get("DockerRootDir") or disk_path))
    images = os.statvfs(root) if not contained and root.is_dir() else disk
    return Machine(
        runtime_version=f"docker://{info.get('ServerVersion', '')}",
        kernel=str(info.get("KernelVersion", "")),
        os_image=str(info.get("OperatingSystem", "")),
        architecture=str(info.get("Architecture", "")),
        cpus=int(info.get("NCPU") or os.cpu_count() or 1),
        memory=total,
        memory_available=free,
        cpu_seconds=busy_seconds((_PROC / "stat").read_text(), os.sysconf("SC_CLK_TCK")),
        disk=disk.f_blocks * disk.f_frsize,
        disk_free=disk.f_bavail * disk.f_frsize,
        pids=pids,
        pids_max=pids_max,
        inodes=disk.f_files,
        inodes_free=disk.f_favail,
        image_disk=images.f_blocks * images.f_frsize,
        image_disk_free=images.f_bavail * images.f_frsize,
        image_inodes=images.f_files,
        image_inodes_free=images.f_favail,
    )


def memory_limit(root: Path) -> tuple[int, int] | None:
    """Limit and working set, in bytes, of the cgroup that everything here lives in; None without a limit."""
    for limit, current, detail, inactive in _MEMORY_FILES:
        most = _number(root / limit)
        if most is None:
            continue
        used = _number(root / current) or 0
        lines = (line.split() for line in _text(root / detail).splitlines())
        spare = next((int(words[1]) for words in lines if words[0] == inactive), 0)
        return most, max(0, used - spare)
    return None


def within(total: int, free: int, limit: tuple[int, int] | None) -> tuple[int, int]:
    """Memory and what of it is available, under a cgroup's limit."""
    if limit is None or limit[0] >= total:
        return total, free
    return limit[0], min(free, max(0, limit[0] - limit[1]))


def pids_limit(root: Path) -> tuple[int, int] | None:
    """Limit of process ids and how many are in use; None without a limit."""
    for limit, current in _PIDS_FILES:
        most = _number(root / limit)
        if most is not None:
            return most, _number(root / current) or 0
    return None


def pids_within(used: int, most: int, limit: tuple[int, int] | None) -> tuple[int, int]:
    """Whichever of the two leaves less."""
    return (limit[1], limit[0]) if limit is not None and limit[0] - limit[1] < most - used else (used, most)


def log_bytes(path: str) -> int:
    """What a container's log takes, rotated files too; 0 where it cannot be seen. Blocks."""
    if not path:
        return 0
    place = Path(path)
    try:
        return sum(one.stat().st_size for one in place.parent.iterdir() if one.name.startswith(place.name))
    except OSError:
        return 0


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    """None where there is no such file, or no limit ("max")."""
    word = _text(path).strip()
    return int(word) if word.isdigit() else None


def _existing(path: Path) -> Path:
    """The path, or the nearest directory above it: the data directory may not be made yet."""
    return next(one for one in (path, *path.parents) if one.exists())


def _meminfo(text: str) -> dict[str, int]:
    """/proc/meminfo in bytes."""
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in text.splitlines() if line}


def busy_seconds(text: str, ticks: int) -> float:
    """Seconds all cores were busy since boot: the first line of /proc/stat without idle, iowait and guest time."""
    fields = [int(word) for word in text.splitlines()[0].split()[1:]]
    user, nice, system, _idle, _iowait, irq, softirq, *rest = fields
    steal = rest[0] if rest else 0
    return (user + nice + system + irq + softirq + steal) / ticks
