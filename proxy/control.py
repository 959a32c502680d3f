"""The unix socket on which an agent hands over the table: one JSON object a line, both ways.

In: `snapshot`, `delta`, `status`, `version`, `takeover`. Out: `applied`, `draining`, `resync`, `status`, `version`,
`error`. The connection that sent a table last is the agent's; it also hears when the errors of the applied table
change, and what connections removed endpoints still have. Others may ask for status beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

from common.version import VERSION
from proxy.logs import EventLog
from proxy.plan import PortError
from proxy.storage import Saver
from proxy.table import BadTable, Delta, Resync, Table, read_delta, read_snapshot

log = EventLog("proxy.control")

# One line holds a whole table: 10,000 services with 100,000 endpoints are about 5 MB.
LINE_LIMIT = 256 * 1024 * 1024
# Seconds between two reports of what drains; a table's acknowledgement brings the latest at once.
DRAINING_PAUSE = 0.1
CLAIM_POLL = 0.02


class AlreadyRunning(Exception):
    """Another proxy holds this socket."""


class Plane(Protocol):
    """What serves the table: one data plane (`Proxy`) or many (`Crew`)."""

    @property
    def table(self) -> Table | None: ...
    @property
    def applied(self) -> tuple[str, int]: ...

    on_applied: Callable[[], None]
    on_errors_changed: Callable[[], None]
    on_draining: Callable[[], None]

    def apply(self, table: Table, line: bytes) -> None: ...
    def change(self, delta: Delta, line: bytes) -> None: ...
    def errors(self) -> list[PortError]: ...
    def draining(self) -> list[tuple[str, int, int]]: ...
    async def full_status(self) -> dict[str, Any]: ...


class Control:
    """Listens on `path` (mode 0600); a socket file that a dead proxy left behind is replaced."""

    def __init__(self, path: Path, plane: Plane, saver: Saver) -> None:
        self._path = path
        self._plane = plane
        self._saver = saver
        self._server: asyncio.Server | None = None
        self._lock: int | None = None
        self._agent: asyncio.StreamWriter | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        # What the agent has heard.
        self._reported: list[PortError] = []
        self._answered: tuple[str, int] | None = None
        self._drained: list[tuple[str, int, int]] = []
        self._draining_due: asyncio.TimerHandle | None = None
        self._refusing = False
        # Gives the proxy away through the socket; returns when that is done or has failed.
        self.on_takeover: Callable[[socket.socket], Awaitable[None]] | None = None
        plane.on_errors_changed = self._errors_changed
        plane.on_applied = self._applied
        plane.on_draining = self._draining

    def claim(self) -> None:
        """Takes the place of the proxy on this socket, before anything is served. Raises AlreadyRunning, OSError."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._path.with_name(self._path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise AlreadyRunning(f"another proxy runs on {self._path}: stop it or choose another --socket") from error
        self._lock = lock

    async def claim_soon(self, timeout: float) -> None:
        """The same, waiting up to `timeout` seconds for a proxy that is leaving."""
        end = asyncio.get_running_loop().time() + timeout
        while True:
            try:
                self.claim()
                return
            except AlreadyRunning:
                if asyncio.get_running_loop().time() > end:
                    raise
            await asyncio.sleep(CLAIM_POLL)

    async def start(self) -> None:
        """Begins to listen; only after `claim`. Raises OSError."""
        assert self._lock is not None
        # Holding the lock, whatever lies there belongs to a dead proxy.
        self._path.unlink(missing_ok=True)
        mask = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, str(self._path), limit=LINE_LIMIT)
        finally:
            os.umask(mask)

    def refuse_agents(self, refusing: bool) -> None:
        """While the proxy is given away nobody may change the table."""
        self._refusing = refusing
        if refusing and self._agent is not None:
            self._writers.discard(self._agent)
            self._agent.transport.abort()
            self._agent = None

    def close(self) -> None:
        """Stops listening, hangs up and frees the place for the next proxy."""
        if self._draining_due is not None:
            self._draining_due.cancel()
            self._draining_due = None
        if self._server is not None:
            self._server.close()
            self._server = None
            self._path.unlink(missing_ok=True)
        for writer in self._writers:
            writer.close()
        self._writers.clear()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            # Replaced or hung up on: what is still in the buffer no longer counts.
            while (line := await reader.readline()) and writer in self._writers:
                await self._handle(line, writer)
                await writer.drain()
        except BadTable as error:
            log.error("control.bad_message", error=str(error))
            self._send(writer, {"error": {"message": str(error)}})
        except (ConnectionError, ValueError) as error:  # ValueError: a line over the limit
            log.info("control.broken", error=str(error))
        finally:
            self._writers.discard(writer)
            if self._agent is writer:
                self._agent = None
                log.info("agent.gone")
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _handle(self, line: bytes, writer: asyncio.StreamWriter) -> None:
        """One message; BadTable ends the connection, with the table as it was."""
        try:
            message = json.loads(line)
        except ValueError as error:
            raise BadTable(f"not JSON: {error}") from error
        kind, body = _only(message)
        if kind == "status":
            self._send(writer, {"status": {"version": VERSION, **await self._plane.full_status()}})
        elif kind == "version":
            self._send(writer, {"version": {"version": VERSION}})
        elif kind == "takeover":
            await self._give_away(writer)
        elif kind in ("snapshot", "delta"):
            if self._refusing:
                raise ConnectionAbortedError("the proxy is being replaced")
            self._take_agent(writer)
            self._follow(kind, body, line, writer)
        else:
            raise BadTable(f"unknown message {kind!r}: must be snapshot, delta or status")

    def _follow(self, kind: str, body: dict[str, Any], line: bytes, writer: asyncio.StreamWriter) -> None:
        try:
            if kind == "snapshot":
                table = read_snapshot(body)
                if self._answered == (table.epoch, table.revision):
                    self._answered = None  # told again, answered again
                self._saver.put(table)
                self._plane.apply(table, line)
            else:
                self._plane.change(read_delta(body), line)
                self._saver.add(line)
        except Resync as error:
            log.info("table.resync", reason=str(error))
            self._send(writer, {"resync": {}})

    async def _give_away(self, writer: asyncio.StreamWriter) -> None:
        if self.on_takeover is None or self._refusing:
            raise BadTable("takeover: this proxy cannot be taken over now")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        try:
            sock = socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno()))
        except OSError as error:
            raise BadTable(f"takeover: {error.strerror}") from error
        await self.on_takeover(sock)
        raise ConnectionAbortedError("the take-over is done with")

    def _take_agent(self, writer: asyncio.StreamWriter) -> None:
        """The latest connection that brings a table wins: an agent that was replaced must not change it again."""
        if self._agent is not writer:
            if self._agent is not None:
                log.info("agent.replaced")
                self._writers.discard(self._agent)
                self._agent.transport.abort()
            self._agent = writer
            self._drained = []
            log.info("agent.connected")

    def _applied(self) -> None:
        if self._agent is not None and self._plane.applied != self._answered:
            self._send_applied(self._agent)

    def _send_applied(self, writer: asyncio.StreamWriter) -> None:
        # First, so that whoever acts on the acknowledgement knows what drains because of it.
        self._send_draining()
        self._answered = self._plane.applied
        self._reported = self._plane.errors()
        errors = [
            {"key": e.key, "uid": e.uid, "port": e.port, "address": e.address, "message": e.message}
            for e in self._reported
        ]
        epoch, revision = self._answered
        self._send(writer, {"applied": {"epoch": epoch, "revision": revision, "errors": errors}})

    def _errors_changed(self) -> None:
        applied = self._plane.applied
        if self._agent is not None and applied != ("", 0) and self._plane.errors() != self._reported:
            self._send_applied(self._agent)

    def _draining(self) -> None:
        if self._draining_due is None:
            self._draining_due = asyncio.get_running_loop().call_later(DRAINING_PAUSE, self._send_draining)

    def _send_draining(self) -> None:
        if self._draining_due is not None:
            self._draining_due.cancel()
            self._draining_due = None
        draining = self._plane.draining()
        if self._agent is not None and draining != self._drained:
            self._drained = draining
            self._send(self._agent, {"draining": draining})

    def _send(self, writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
        writer.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")


def _only(message: object) -> tuple[str, dict[str, Any]]:
    if not isinstance(message, dict) or len(message) != 1:
        raise BadTable("a message must be an object with one field: snapshot, delta or status")
    ((kind, body),) = message.items()
    if not isinstance(body, dict):
        raise BadTable(f"{kind}: must be an object")
    return str(kind), body
