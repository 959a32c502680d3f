"""The seam to a container's inside: a command's or the container's own stdio, and the pod's ports."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from common.errors import SampanError


class Out(enum.IntEnum):
    """Which output a piece comes from; the numbers are Docker's (and file descriptors)."""

    STDOUT = 1
    STDERR = 2


class Pipe(Protocol):
    """Bytes both ways, each with an end of its own: an open exec or attach, or a connection to a port.

    Iterating yields what comes from the other side and ends when that closes it. Not read, it stops the other side.
    Every call may raise Unavailable when the engine is gone, or a connection broke.
    """

    def __aiter__(self) -> AsyncIterator[tuple[Out, bytes]]: ...

    async def send(self, data: bytes) -> None:
        """Writes to the other side; waits while that does not read. Dropped when a process has ended."""

    async def close_stdin(self) -> None:
        """End of file for the other side; its output goes on. Nothing happens with a terminal: send ^D there."""


class Stdio(Pipe, Protocol):
    """An open exec or attach. Read its output to the end before asking for `exit_code()`."""

    async def resize(self, rows: int, cols: int) -> None:
        """The terminal's size in characters; nothing happens without a terminal, or after the end."""

    async def exit_code(self) -> int:
        """Waits for the process's end. 126 or 127 for a command that could not be run."""

    async def ended(self) -> bool:
        """Whether the process has ended; may be asked after the block, too."""


@dataclass(frozen=True)
class PathSeen:
    """A path of a container: `size` in bytes, `mode` the permission bits with setuid, setgid and sticky."""

    name: str
    size: int
    mode: int
    directory: bool


@dataclass(frozen=True)
class HttpRequest:
    """One GET. `headers` go out as they are; `host` is a name or an address, `path` may have a query."""

    tls: bool
    host: str
    port: int
    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class HttpAnswer:
    """The status, and where it redirects to (empty: nowhere)."""

    status: int
    location: str = ""


class ReachError(SampanError):
    """A port did not answer, or not in its protocol; `str()` says how, as a user reads it."""

    reason = "ProbeFailed"


class Reach(Protocol):
    """The pods' ports as seen from their node. Calls are not bounded in time; they end when cancelled."""

    async def http(self, request: HttpRequest) -> HttpAnswer:
        """One request and the head of its answer; certificates are not verified. Raises ReachError."""

    async def tcp(self, host: str, port: int) -> None:
        """Returns when it could connect. Raises ReachError."""

    async def grpc(self, host: str, port: int, service: str) -> None:
        """Returns when grpc.health.v1 says SERVING. Raises ReachError."""


class StdioRuntime(Protocol):
    """What a runtime can do inside a running container."""

    def exec(
        self, id: str, command: Sequence[str], *, stdin: bool = False, tty: bool = False
    ) -> AbstractAsyncContextManager[Stdio]:
        """Runs a command in it. Raises NotFound, Conflict (it does not run), Refused, Unavailable.

        Leaving the block kills a command that still runs, where the runtime can; else it runs on unseen.
        """

    def attach(self, id: str, *, stdin: bool = False, replay: bool = False) -> AbstractAsyncContextManager[Stdio]:
        """The container's own stdio, from now on, or with `replay` from its start. Raises NotFound, Conflict.

        `stdin` needs a container made with one. Leaving the block ends nothing.
        """

    def dial(self, id: str, host: str, port: int) -> AbstractAsyncContextManager[Pipe]:
        """A connection to a pod's port: at its address `host`, or on its loopback where the runtime gets there.

        `id` is the container that holds the pod's network. Raises ReachError, NotFound. Leaving the block closes it.
        """

    async def path_seen(self, id: str, path: str) -> PathSeen:
        """What a path of a container (running or not) is; a symbolic link is followed. Raises NotFound, Refused."""

    def read_files(self, id: str, path: str) -> AsyncIterator[bytes]:
        """A tar archive of a path; every entry is below one name. Raises NotFound, Refused."""

    async def write_files(self, id: str, directory: str, archive: AsyncIterator[bytes]) -> None:
        """Unpacks a tar archive there, over what there is. Raises NotFound (no such directory), Refused."""

    async def termination_message(self, id: str) -> str:
        """What an ended container left at its message path, 4,096 bytes at most; empty when there is nothing."""

    @property
    def reach(self) -> Reach: ...
