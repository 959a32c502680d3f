"""A real master as a process on a loopback port, for tests; it can be killed and started again on the same data."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
_START_SECONDS = 90.0
_PLAIN_ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("SAMPAN_")}


class Master:
    """`address` is HOST:PORT; the data and the log stay in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.address = f"127.0.0.1:{free_port()}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        return self._folder / "data"

    def start(self) -> None:
        """Starts the process and returns when it answers. Raises AssertionError with its log when it does not."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "master", "--listen", self.address, "--data", str(self.data)],
                cwd=ROOT,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=_PLAIN_ENVIRONMENT,
            )
        host, port = self.address.split(":")
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
                return
            time.sleep(0.05)
        raise AssertionError("the master does not answer:\n" + (self._folder / "log").read_text())

    def kill(self) -> None:
        """kill -9, and wait until it is dead."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Master]:
    """A master that answers; it is dead after the block, whatever happens in it."""
    master = Master(folder)
    try:
        master.start()
        yield master
    finally:
        master.kill()


@contextlib.contextmanager
def simulated_node(master: Master, token: str, folder: Path, name: str = "node-1") -> Iterator[None]:
    """A node agent of its own process on the simulated runtime; it joins soon, and is dead after the block."""
    command = [sys.executable, "-m", "node_agent", "--runtime", "simulated", "--name", name, "--node-ip", "127.0.0.1"]
    with (folder / "agent.log").open("ab") as log:
        process = subprocess.Popen(
            [*command, "--master", master.address, "--token", token, "--data", str(folder / name)],
            cwd=ROOT,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env=_PLAIN_ENVIRONMENT,
        )
    try:
        yield
    finally:
        process.kill()
        process.wait()
