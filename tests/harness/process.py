"""One background process of a test: started into a namespace with a log file, ended by pid and start time only."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import psutil


class Process:
    """A command that can be started, killed and started again; its pid is also on disk for the clean-up tool.

    `netns` names the network namespace it runs in. nsenter and not `ip netns exec`: that one hides the
    cgroup mounts, and an engine without them starts no container.
    """

    def __init__(
        self, name: str, command: Sequence[str], *, folder: Path, netns: str = "", env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.command = list(command)
        self.log = folder / f"{name}.log"
        self._pid_file = folder / f"{name}.pid"
        self._netns = netns
        self._env = dict(env) if env is not None else None
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The pid of the running process; raises RuntimeError when it does not run."""
        if self._popen is None or self._popen.poll() is not None:
            raise RuntimeError(f"{self.name} is not running:\n{self.tail()}")
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How it ended (negative: the signal), None while it runs or before its first start."""
        return None if self._popen is None else self._popen.poll()

    def start(self) -> None:
        """Starts it; raises RuntimeError when it runs already."""
        if self.running:
            raise RuntimeError(f"{self.name} runs already")
        enter = ["nsenter", f"--net={netns_path(self._netns)}", "--"] if self._netns else []
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                [*enter, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._env,
                start_new_session=True,
            )
        # nsenter replaces itself by the command, so this pid stays right.
        self._pid_file.write_text(f"{self._popen.pid} {psutil.Process(self._popen.pid).create_time()}\n")

    def signal(self, number: int) -> None:
        """Sends a signal (STOP and CONT make and end a pause)."""
        os.kill(self.pid, number)

    async def stop(self, timeout: float = 10.0) -> None:
        """SIGTERM, and SIGKILL after `timeout` seconds; nothing when it does not run."""
        if self.running:
            self.signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await self.wait(timeout)
        await self.kill()

    async def kill(self) -> None:
        """SIGKILL, and waits until it is gone; nothing when it does not run."""
        if self.running:
            self.signal(signal.SIGKILL)
            await self.wait(60.0)
        self._pid_file.unlink(missing_ok=True)

    async def wait(self, timeout: float) -> int:
        """The exit code when it has ended; raises TimeoutError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while (code := self.exit_code) is None:
            if self._popen is None or time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} has not ended within {timeout:g} s")
            await asyncio.sleep(0.01)
        return code

    def tail(self, lines: int = 30) -> str:
        """The end of its log."""
        if not self.log.exists():
            return f"({self.name}: no log)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def netns_path(name: str) -> Path:
    """Where iproute2 keeps a named network namespace."""
    return Path("/var/run/netns") / name


def pids_in_netns(name: str) -> set[int]:
    """The processes whose network namespace is `name`; not those of containers, which have one of their own."""
    try:
        wanted = os.stat(netns_path(name))
    except FileNotFoundError:
        return set()
    found = set()
    for pid in psutil.pids():
        with contextlib.suppress(OSError):
            there = os.stat(f"/proc/{pid}/ns/net")
            if (there.st_dev, there.st_ino) == (wanted.st_dev, wanted.st_ino):
                found.add(pid)
    # A test may have entered the namespace itself.
    return found - {os.getpid()}


def with_children(pids: Iterable[int]) -> list[psutil.Process]:
    """These processes and all their descendants (a container's processes are children of its shim)."""
    found: dict[int, psutil.Process] = {}
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            for each in [process, *process.children(recursive=True)]:
                found[each.pid] = each
    return list(found.values())


async def kill_all(netns: str) -> None:
    """SIGKILL to everything in a namespace and to its children, until nothing is left (a few rounds at most)."""
    for _ in range(200):
        processes = [p for p in with_children(pids_in_netns(netns)) if _alive(p)]
        if not processes:
            return
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        await asyncio.sleep(0.02)
    raise RuntimeError(f"processes in {netns} do not end: {processes}")


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
