"""Connections to pods' ports from their node: at the pod's address, or on the pod's own loopback."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import socket
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common.errors import SampanError, Unavailable
from node_agent.runtime.docker.engine import Engine
from node_agent.runtime.stdio import Out, Pipe, ReachError

_DIAL_SECONDS = 10.0
_PIECE = 64 * 1024
# linux/sched.h
_CLONE_NEWNET = 0x40000000


@contextlib.asynccontextmanager
async def docker_dial(engine: Engine, id: str, host: str, port: int) -> AsyncIterator[Pipe]:
    """`StdioRuntime.dial` on one engine."""
    try:
        async with asyncio.timeout(_DIAL_SECONDS):
            reader, writer = await _connect(engine, id, host, port)
    except TimeoutError:
        raise ReachError(f"port {port} of the pod ({host}) did not answer within {_DIAL_SECONDS:.0f} s") from None
    except OSError as error:
        words = os.strerror(error.errno).lower() if error.errno else str(error)
        raise ReachError(f"port {port} of the pod ({host}): {words}") from None
    pipe = SocketPipe(reader, writer)
    try:
        yield pipe
    finally:
        # What was ended on both sides closes; what was left half-way is cut, so that the server notices.
        writer.close() if pipe.over else writer.transport.abort()


async def _connect(engine: Engine, id: str, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        return await asyncio.open_connection(host, port, limit=_PIECE)
    except ConnectionRefusedError:
        # Perhaps it listens on 127.0.0.1 only, which `kubectl port-forward` reaches, too.
        try:
            pid = int((await engine.call("GET", f"containers/{id}/json"))["State"].get("Pid") or 0)
        except SampanError:
            pid = 0
        inside = await _connect_inside(pid, id, port) if pid else None
        if inside is None:
            raise
        return await asyncio.open_connection(sock=inside, limit=_PIECE)


async def _connect_inside(pid: int, id: str, port: int) -> socket.socket | None:
    # A thread of its own, which ends with the call: it never leaves the namespace it enters.
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="dial")
    try:
        return await asyncio.get_running_loop().run_in_executor(pool, dial_inside, pid, id, port)
    finally:
        pool.shutdown(wait=False)


def dial_inside(pid: int, id: str, port: int) -> socket.socket | None:
    """A connection to 127.0.0.1 in the network of container `id`, whose process is `pid`; blocks, in a new thread only.

    None when it can't be had: the engine's processes are of another machine or namespace, or nothing listens.
    """
    try:
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    except OSError:
        return None
    try:
        if id not in Path(f"/proc/{pid}/cgroup").read_text():
            return None
        if ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET) != 0:
            return None
        return socket.create_connection(("127.0.0.1", port), timeout=_DIAL_SECONDS / 2)
    except OSError:
        return None
    finally:
        os.close(namespace)


class SocketPipe:
    """Implements `Pipe` over one connection; asyncio's limits bound what waits in it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._read_all = self._wrote_all = False

    @property
    def over(self) -> bool:
        """Whether both directions have ended well."""
        return self._read_all and self._wrote_all

    async def __aiter__(self) -> AsyncIterator[tuple[Out, bytes]]:
        try:
            while data := await self._reader.read(_PIECE):
                yield Out.STDOUT, data
        except OSError as error:
            raise Unavailable(f"the pod broke the connection: {error.strerror or error}") from None
        self._read_all = True

    async def send(self, data: bytes) -> None:
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as error:
            raise Unavailable(f"the pod broke the connection: {error.strerror or error}") from None

    async def close_stdin(self) -> None:
        self._wrote_all = True
        with contextlib.suppress(OSError):
            if self._writer.can_write_eof():
                self._writer.write_eof()
