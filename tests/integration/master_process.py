"""A master as a real process on loopback: start it, kill it, start it again on the same data."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.ports import free_port


class MasterProcess:
    """`python -m master` in a child process; ends with the block, and only this process is ever signalled."""

    def __init__(
        self,
        data: Path,
        flags: Sequence[str] = (),
        port: int | None = None,
        *,
        module: str = "master",
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.data = data
        self._log = data.with_suffix(".log")
        self.address = f"127.0.0.1:{port or free_port()}"
        self._flags = [*flags]
        self._module, self._environ = module, environ or {}
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    @property
    def pid(self) -> int:
        assert self._process is not None, "the master has not been started"
        return self._process.pid

    async def start(self, timeout: float = 90.0) -> None:
        """Starts it and waits until its health service says SERVING."""
        log = self._log.open("ab")
        with log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                self._module,
                "--listen",
                self.address,
                "--data",
                str(self.data),
                *self._flags,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **self._environ},
            )
        process = self._process
        await wait_serving(self.address, self._log, lambda: process.returncode is not None, timeout)

    async def kill(self, sig: int = signal.SIGKILL) -> None:
        """Ends it at once (SIGKILL by default) and waits for its end."""
        if self._process is None:
            return
        if self._process.returncode is None:
            self._process.send_signal(sig)
        await self._process.wait()
        self._process = None

    def log(self) -> str:
        return self._log.read_text(errors="replace")


async def wait_serving(address: str, log: Path, ended: Callable[[], bool], timeout: float = 90.0) -> None:
    """Returns when the health service at `address` says SERVING.

    Raises AssertionError with the end of the log after `timeout` seconds, or when the process has `ended`.
    """
    deadline = time.monotonic() + timeout
    options = [(f"grpc.{name}_reconnect_backoff_ms", ms) for name, ms in (("initial", 20), ("max", 100))]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        while True:
            try:
                answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=1.0)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            except grpc.aio.AioRpcError as error:
                if ended() or time.monotonic() > deadline:
                    raise AssertionError(f"it did not come up: {log.read_text(errors='replace')[-3000:]}") from error
            await asyncio.sleep(0.01)
