"""Removes what a killed engine leaves in the kernel: processes in its cgroups, the cgroups, and mounts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import psutil

from tests.harness.commands import CommandFailed, run
from tests.harness.process import kill_all


def cgroup_folders(name: str) -> list[Path]:
    """All cgroups under `name` in every hierarchy (one of them on version 2), deepest first."""
    root = Path("/sys/fs/cgroup")
    tops = [top for top in (root / name, *(root.glob(f"*/{name}"))) if top.is_dir()]
    found = {Path(folder) for top in tops for folder, _, _ in os.walk(top)}
    return sorted(found, key=lambda path: len(path.parts), reverse=True)


def pids_in_cgroup(name: str) -> set[int]:
    """The processes in these cgroups: those of the engine's containers."""
    found: set[int] = set()
    for folder in cgroup_folders(name):
        with contextlib.suppress(OSError):
            found.update(int(line) for line in (folder / "cgroup.procs").read_text().split())
    return found - {0, os.getpid()}


async def power_off(netns: str, cgroup: str) -> None:
    """SIGKILL to all processes of a host: those in its namespace and those in its containers; and their cgroups go."""
    await kill_all(netns)
    for _ in range(200):
        pids = pids_in_cgroup(cgroup)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not pids:
            break
        await asyncio.sleep(0.02)
    remove_cgroups(cgroup)


def remove_cgroups(name: str) -> None:
    """Removes the empty cgroups under `name`; the kernel refuses those with processes in them."""
    for folder in cgroup_folders(name):
        with contextlib.suppress(OSError):
            folder.rmdir()


async def kill_recorded_containerd(file: Path) -> None:
    """Ends the containerd that a killed dockerd started, and its pid file.

    It dies with its dockerd by itself, but a moment later: a dockerd that starts within that moment takes it
    for alive and waits for it in vain.
    """
    with contextlib.suppress(FileNotFoundError, ValueError, psutil.NoSuchProcess):
        containerd = psutil.Process(int(_content(file)))
        if containerd.name() == "containerd":
            containerd.kill()
            while containerd.is_running() and containerd.status() != psutil.STATUS_ZOMBIE:
                await asyncio.sleep(0.01)
    _remove(file)


async def forget_slow_containerd(file: Path) -> None:
    """The same for one that took so long to start that its dockerd asked it for its stacks, and gave up."""
    with contextlib.suppress(OSError):
        stacks = Path("/tmp") / f"containerd.{_content(file).strip()}.stacks.log"
        await kill_recorded_containerd(file)
        _remove(stacks)


def _content(file: Path) -> str:
    return file.read_text()


def _remove(file: Path) -> None:
    file.unlink(missing_ok=True)


async def unmount_below(*folders: Path) -> None:
    """Unmounts everything below these folders: containers' file systems and network namespaces."""
    mine = [point for point in _mount_points() if any(Path(point).is_relative_to(folder) for folder in folders)]
    for start in range(0, len(mine), 50):
        # Innermost first; lazily, because a process that is just ending may still hold one.
        with contextlib.suppress(CommandFailed):
            await run(["umount", "-l", *mine[::-1][start : start + 50]])


def _mount_points() -> list[str]:
    """In the order they were made."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line.split()[4].replace("\\040", " ") for line in lines]
