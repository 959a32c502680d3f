"""Commands in running containers, and their own stdio, over Docker's hijacked connections."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import structlog
from aiodocker.stream import Stream

from common.errors import Conflict, NotFound, SampanError
from node_agent.runtime.docker.engine import Engine, speaking
from node_agent.runtime.seam import Refused
from node_agent.runtime.stdio import Out

log = structlog.get_logger(__name__)

# Docker notes an end a little after the output has ended.
_FIRST_LOOK_SECONDS, _LAST_LOOK_SECONDS = 0.01, 0.5
# For so long an exec may be starting, when its terminal has no size yet.
_RESIZE_SECONDS = 2.0
# Ending a process is a courtesy when the caller is on its way out.
_KILL_SECONDS = 5.0


@contextlib.asynccontextmanager
async def docker_exec(
    engine: Engine, id: str, command: Sequence[str], *, stdin: bool, tty: bool
) -> AsyncIterator[DockerStdio]:
    """`StdioRuntime.exec` on one engine."""
    body = {
        "Cmd": list(command),
        "AttachStdin": stdin,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": tty,
    }
    made = await engine.call("POST", f"containers/{id}/exec", body=body)
    exec_id = str(made["Id"])

    async def ended() -> int | None:
        shown = await engine.call("GET", f"exec/{exec_id}/json")
        # Not running and without a code: it has not begun.
        return None if shown.get("Running") or shown.get("ExitCode") is None else int(shown["ExitCode"])

    async with engine.hijack(f"exec/{exec_id}/start", body={"Detach": False, "Tty": tty}, tty=tty) as stream:
        stdio = DockerStdio(engine, stream, f"exec/{exec_id}/resize", tty, ended)
        try:
            yield stdio
        finally:
            if stdio.code is None:
                await _end(engine, id, exec_id)


@contextlib.asynccontextmanager
async def docker_attach(engine: Engine, id: str, *, stdin: bool, replay: bool) -> AsyncIterator[DockerStdio]:
    """`StdioRuntime.attach` on one engine."""
    shown = await engine.call("GET", f"containers/{id}/json")
    if not shown["State"]["Running"]:
        raise Conflict(f"container {id} is not running")
    tty = bool(shown["Config"]["Tty"])

    async def ended() -> int | None:
        state = (await engine.call("GET", f"containers/{id}/json"))["State"]
        return None if state.get("Running") else int(state.get("ExitCode") or 0)

    params = {"stream": "1", "stdout": "1", "stderr": "1"}
    params |= {"stdin": "1" if stdin else "0", "logs": "1" if replay else "0"}
    async with engine.hijack(f"containers/{id}/attach", params=params, tty=tty) as stream:
        yield DockerStdio(engine, stream, f"containers/{id}/resize", tty, ended)


class DockerStdio:
    """Implements `Stdio`. What waits to be read is bounded by aiohttp's flow control and the socket's buffers."""

    def __init__(
        self, engine: Engine, stream: Stream, resize: str, tty: bool, look: Callable[[], Awaitable[int | None]]
    ) -> None:
        self._engine, self._stream, self._resize, self._tty, self._look = engine, stream, resize, tty, look
        # Of a process that is known to have ended.
        self.code: int | None = None

    async def __aiter__(self) -> AsyncIterator[tuple[Out, bytes]]:
        while True:
            with speaking("reading output"):
                message = await self._stream.read_out()
            if message is None:
                return
            yield (Out.STDERR if message.stream == Out.STDERR else Out.STDOUT), message.data

    async def send(self, data: bytes) -> None:
        transport = self._transport()
        if transport is None or transport.is_closing():
            return
        try:
            await self._stream.write_in(data)
        except (ConnectionError, AssertionError):
            # The other end is gone, which the output's end shows.
            return

    async def close_stdin(self) -> None:
        transport = self._transport()
        if not self._tty and transport is not None and not transport.is_closing() and transport.can_write_eof():
            transport.write_eof()

    def _transport(self) -> Any:
        response = self._stream._resp
        connection = response.connection if response is not None else None
        return connection.transport if connection is not None else None

    async def resize(self, rows: int, cols: int) -> None:
        if not self._tty:
            return
        deadline = asyncio.get_running_loop().time() + _RESIZE_SECONDS
        while True:
            try:
                await self._engine.call("POST", self._resize, params={"h": str(rows), "w": str(cols)})
                return
            except (NotFound, Conflict, Refused):
                # It has ended, or it is only just being started.
                if await self.ended() or asyncio.get_running_loop().time() > deadline:
                    return
            await asyncio.sleep(_FIRST_LOOK_SECONDS)

    async def exit_code(self) -> int:
        delay = _FIRST_LOOK_SECONDS
        while self.code is None:
            self.code = await self._look()
            if self.code is None:
                await asyncio.sleep(delay)
                delay = min(_LAST_LOOK_SECONDS, delay * 2)
        return self.code

    async def ended(self) -> bool:
        try:
            self.code = self.code if self.code is not None else await self._look()
        except NotFound:
            return True
        return self.code is not None


async def _end(engine: Engine, id: str, exec_id: str) -> None:
    """Kills an exec's process where it is in sight; Docker itself has no call for that."""
    try:
        async with asyncio.timeout(_KILL_SECONDS):
            while True:
                shown = await engine.call("GET", f"exec/{exec_id}/json")
                pid = int(shown.get("Pid") or 0)
                if shown.get("ExitCode") is not None and not shown.get("Running"):
                    return
                if pid:
                    break
                # It is only just being started.
                await asyncio.sleep(_FIRST_LOOK_SECONDS)
    except (SampanError, TimeoutError):
        return
    if not await asyncio.to_thread(kill_in_container, pid, id):
        log.info("exec.abandoned", container=id[:12], exec=exec_id[:12])


def kill_in_container(pid: int, id: str) -> bool:
    """SIGKILL for a process if it is in container `id`: the engine's pids may be of another machine or namespace."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        # The handle keeps the process, so what its cgroup says holds until the signal.
        if id not in Path(f"/proc/{pid}/cgroup").read_text():
            return False
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
