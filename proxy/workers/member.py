"""One worker as its control process sees it: what it was asked, what it has answered."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, NamedTuple

from proxy.logs import EventLog
from proxy.plan import Place
from proxy.sockets import SharedSocket
from proxy.workers.channel import Channel

log = EventLog("proxy.crew")


class Handed(NamedTuple):
    """A worker on its way to another control process; `buffered`: what was read of its unfinished message."""

    sock: SharedSocket
    pid: int
    buffered: bytes


class Member:
    """The channel to one worker; `applied` and `draining` are its latest words."""

    def __init__(
        self,
        sock: socket.socket,
        pid: int,
        now: float,
        buffered: bytes,
        *,
        on_applied: Callable[[], None],
        on_draining: Callable[[], None],
        on_missing: Callable[[], None],
        on_end: Callable[[Member], None],
    ) -> None:
        self.pid = pid
        self.started = now
        self.applied = ("", 0)
        self.draining: list[tuple[str, int, int]] = []
        # Places whose sockets it did not get: it has no descriptors left.
        self.missing: frozenset[Place] = frozenset()
        self._expected = ("", 0)
        self._since = now
        self._on_applied = on_applied
        self._on_draining = on_draining
        self._on_missing = on_missing
        self._answers: dict[int, asyncio.Future[dict[str, Any] | None]] = {}
        self.channel = Channel(sock, self._message, lambda: self._ended(on_end), buffered)
        self.channel.start()

    def expect(self, revision: tuple[str, int], now: float) -> None:
        """A table of this epoch and revision is on its way."""
        if self._expected == self.applied:
            self._since = now
        self._expected = revision

    def overdue(self, now: float, limit: float) -> bool:
        """Whether it has owed an answer for longer than `limit` seconds."""
        return self._expected != self.applied and now - self._since > limit

    async def status(self, number: int, timeout: float, *, brief: bool = False) -> dict[str, Any] | None:
        """What the worker says of itself (`brief`: its tallies alone); None when it does not answer in time."""
        future: asyncio.Future[dict[str, Any] | None] = asyncio.get_running_loop().create_future()
        self._answers[number] = future
        self.channel.send("status", {"number": number, "brief": brief})
        try:
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            return None
        finally:
            del self._answers[number]

    def _message(self, kind: str, body: Any, line: bytes) -> None:
        if kind == "hello":
            self.pid = int(body["pid"])
        elif kind == "applied":
            self.applied = (body["epoch"], body["revision"])
            self._since = asyncio.get_running_loop().time()
            self._on_applied()
        elif kind == "draining":
            self.draining = [(ip, port, count) for ip, port, count in body]
            self._on_draining()
        elif kind == "missing":
            self.missing = frozenset(Place(*place) for place in body)
            self._on_missing()
        elif kind == "status":
            future = self._answers.get(body["number"])
            if future is not None and not future.done():
                future.set_result(body["status"])

    def _ended(self, on_end: Callable[[Member], None]) -> None:
        for future in self._answers.values():
            if not future.done():
                future.set_result(None)  # not cancelled: that would cancel who asks
        on_end(self)
