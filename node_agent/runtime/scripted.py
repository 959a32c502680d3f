"""exec, attach, ports and files of simulated containers: the script answers, no process and no socket does."""

from __future__ import annotations

import asyncio
import io
import posixpath
import tarfile
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from common.errors import NotFound
from node_agent.runtime.script import Answer
from node_agent.runtime.stdio import HttpAnswer, HttpRequest, Out, PathSeen, ReachError

# What a slow process has not read: as much as a pipe holds.
_PIPE_PIECES = 16


class ScriptedStdio:
    """Implements `Stdio` for one scripted command; `gone` is set when its container has ended."""

    def __init__(self, answer: Answer, gone: asyncio.Event, killed: int) -> None:
        self._answer, self._gone, self._killed = answer, gone, killed
        self._sent: asyncio.Queue[bytes | None] = asyncio.Queue(_PIPE_PIECES)
        self._done = asyncio.Event()
        self._code: int | None = None

    async def __aiter__(self) -> AsyncIterator[tuple[Out, bytes]]:
        if self._answer.output:
            yield Out.STDOUT, self._answer.output.encode()
        if self._answer.error:
            yield Out.STDERR, self._answer.error.encode()
        while self._answer.echoes:
            piece = await self._unless_gone(self._sent.get())
            if piece is None:
                break
            yield Out.STDOUT, piece
        if self._answer.seconds:
            await self._unless_gone(asyncio.sleep(self._answer.seconds, b""))
        self.end(self._killed if self._gone.is_set() else self._answer.code)

    async def _unless_gone(self, work: Coroutine[Any, Any, bytes | None]) -> bytes | None:
        """What `work` gives, or None when the container ends before."""
        async with asyncio.TaskGroup() as group:
            mine = group.create_task(work)
            end = group.create_task(self._gone.wait())
            await asyncio.wait((mine, end), return_when=asyncio.FIRST_COMPLETED)
            end.cancel()
            if not mine.done():
                mine.cancel()
                return None
        return mine.result()

    def end(self, code: int) -> None:
        if self._code is None:
            self._code = code
            self._done.set()

    async def send(self, data: bytes) -> None:
        if self._answer.echoes and self._code is None:
            await self._sent.put(data)

    async def close_stdin(self) -> None:
        if self._answer.echoes and self._code is None:
            await self._sent.put(None)

    async def resize(self, rows: int, cols: int) -> None:
        return

    async def exit_code(self) -> int:
        await self._done.wait()
        assert self._code is not None
        return self._code

    async def ended(self) -> bool:
        return self._code is not None


class ScriptedAttach:
    """Implements `Stdio` for a container's own output; `code` is None while it runs."""

    def __init__(self, lines: AsyncIterator[bytes], gone: asyncio.Event, code: Callable[[], int | None]) -> None:
        self._lines, self._gone, self._code = lines, gone, code

    async def __aiter__(self) -> AsyncIterator[tuple[Out, bytes]]:
        async for line in self._lines:
            yield Out.STDOUT, line

    async def send(self, data: bytes) -> None:
        return

    async def close_stdin(self) -> None:
        return

    async def resize(self, rows: int, cols: int) -> None:
        return

    async def exit_code(self) -> int:
        await self._gone.wait()
        return self._code() or 0

    async def ended(self) -> bool:
        return self._code() is not None


class ScriptedReach:
    """Implements `Reach`: `ask` puts a question to the container that has the address."""

    def __init__(self, ask: Callable[[str, str, str], Answer | None]) -> None:
        self._ask = ask

    async def _answer(self, host: str, what: str, detail: str) -> Answer:
        answer = self._ask(host, what, detail)
        if answer is None:
            raise ReachError(f"dial tcp {detail}: connect: connection refused")
        if answer.seconds:
            await asyncio.sleep(answer.seconds)
        return answer

    async def tcp(self, host: str, port: int) -> None:
        if (await self._answer(host, "tcp", f"{host}:{port}")).code:
            raise ReachError(f"dial tcp {host}:{port}: connect: connection refused")

    async def http(self, request: HttpRequest) -> HttpAnswer:
        url = f"{'https' if request.tls else 'http'}://{request.host}:{request.port}{request.path}"
        return HttpAnswer((await self._answer(request.host, "http", url)).code)

    async def grpc(self, host: str, port: int, service: str) -> None:
        if (await self._answer(host, "grpc", f"{host}:{port}/{service}")).code:
            raise ReachError('service unhealthy (responded with "NOT_SERVING")')


class ScriptedFiles:
    """A container's files, in memory: at first only / and /tmp."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[tarfile.TarInfo, bytes]] = {}
        for path in ("/", "/tmp"):
            entry = tarfile.TarInfo(path)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            self._entries[path] = (entry, b"")

    def seen(self, path: str) -> PathSeen:
        """Raises NotFound."""
        found = self._entries.get(posixpath.normpath(path))
        if found is None:
            raise NotFound(f"{path}: no such file or directory in the container")
        entry, data = found
        return PathSeen(posixpath.basename(entry.name), len(data), entry.mode, entry.isdir())

    def pack(self, path: str) -> bytes:
        """A tar archive of a path and what is below it. Raises NotFound."""
        top = posixpath.normpath(path)
        base = self.seen(top).name
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for name, (entry, data) in sorted(self._entries.items()):
                if name == top or name.startswith(top.rstrip("/") + "/"):
                    archive.addfile(entry.replace(name=base + name[len(top) :], deep=False), io.BytesIO(data))
        return packed.getvalue()

    def unpack(self, directory: str, packed: bytes) -> None:
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            for entry in archive:
                name = posixpath.normpath(posixpath.join(directory, entry.name))
                content = archive.extractfile(entry)
                data = content.read() if content is not None else b""
                self._entries[name] = (entry.replace(name=name, deep=False), data)
