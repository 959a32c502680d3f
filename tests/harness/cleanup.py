"""`python -m tests.harness.cleanup`: removes what harnesses left that did not end well; living ones are left alone."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
from pathlib import Path

import psutil

from tests.harness.commands import CommandFailed
from tests.harness.fabric import ip, named_namespaces
from tests.harness.images import CACHE
from tests.harness.remains import cgroup_folders, power_off, unmount_below
from tests.harness.slots import MOST, PREFIX, Addresses, Claim, state_root


async def remove_index(addresses: Addresses) -> bool:
    """Removes everything under an index that this process holds; True when there was something."""
    mine = [name for name in named_namespaces() if name.startswith(f"{PREFIX}{addresses.index}-")]
    link = _link_exists(addresses.test_link)
    found = bool(mine) or link or addresses.state.exists() or bool(cgroup_folders(addresses.cgroup))
    if not found:
        return False
    for file in sorted(addresses.state.rglob("*.pid")):
        _kill_recorded(file)
    for name in mine:
        await power_off(name, addresses.cgroup)
        with contextlib.suppress(CommandFailed):
            await ip([f"netns delete {name}"])
    await power_off("", addresses.cgroup)
    if link:
        with contextlib.suppress(CommandFailed):
            await ip([f"link delete {addresses.test_link}"])
    await unmount_below(addresses.state, *_free_data_roots())
    await asyncio.to_thread(shutil.rmtree, addresses.state, ignore_errors=True)
    return True


def _link_exists(name: str) -> bool:
    return Path("/sys/class/net", name).exists()


def _kill_recorded(file: Path) -> None:
    """Ends the process that a Process recorded; pid and start time must both fit, the pid alone may be another's."""
    words = file.read_text().split()
    if len(words) != 2:
        return
    with contextlib.suppress(psutil.NoSuchProcess, ValueError):
        process = psutil.Process(int(words[0]))
        if abs(process.create_time() - float(words[1])) < 1:
            process.kill()


def _free_data_roots() -> list[Path]:
    """The data folders of engines that no living harness holds."""
    free = []
    for lock in (CACHE / "engines").glob("*.lock"):
        with contextlib.suppress(BlockingIOError):
            Claim(lock).release()
            free.append(lock.with_suffix(""))
    return free


async def main() -> None:
    removed = []
    for index in range(MOST):
        if not (state_root() / f"{index}.lock").exists():
            continue
        try:
            claim = Claim(state_root() / f"{index}.lock")
        except BlockingIOError:
            print(f"harness {index} is alive: left alone")
            continue
        try:
            if await remove_index(Addresses(index)):
                removed.append(index)
        finally:
            claim.release()
    if "--images" in sys.argv[1:]:
        for folder in _free_data_roots():
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    print(f"removed harnesses: {', '.join(map(str, removed)) or 'none'}")


if __name__ == "__main__":
    asyncio.run(main())
