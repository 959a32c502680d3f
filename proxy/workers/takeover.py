"""A running proxy gives its listening sockets and its connections to the one that replaces it; none is refused.

New to old, on the old one's control socket: `takeover`; old to new: `sockets` (with descriptors), `given`. The new one
starts its workers on them, with the table from the disk, and says `taken`; until then the old one serves on, and a new
one that dies changes nothing. Then the old workers listen no more; each goes over as a `member`, and with it the word
on what drains. Last the old control process frees its place and hangs up.
"""

from __future__ import annotations

import asyncio
import json
import resource
import socket
from pathlib import Path
from typing import Any

from common.version import VERSION
from proxy.logs import EventLog
from proxy.plan import Place
from proxy.sockets import SharedSocket, most_listening
from proxy.storage import Saver
from proxy.workers.channel import DESCRIPTORS, Channel
from proxy.workers.crew import Crew
from proxy.workers.member import Handed

log = EventLog("proxy.takeover")

# Seconds that the other side may take for its part.
PATIENCE = 60.0


class Failed(Exception):
    """The running proxy could not be taken over; it goes on."""


async def running_version(path: Path) -> str:
    """The version of the proxy that runs there; "" when it does not say."""
    try:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_unix_connection(str(path))
            writer.write(b'{"version": {}}\n')
            answer = json.loads(await reader.readline() or b"{}")
            writer.close()
        return str(answer.get("version", {}).get("version", ""))
    except (OSError, TimeoutError, ValueError):
        return ""


async def give(sock: socket.socket, crew: Crew, saver: Saver, linger: float) -> Channel | None:
    """The old one's part. None: nothing was given, all is as it was. Otherwise close the channel in the very end."""
    said: asyncio.Queue[str] = asyncio.Queue()
    channel = Channel(sock, lambda kind, body, line: said.put_nowait(kind), lambda: said.put_nowait(""))
    saver.finish()
    held = [(place, sock) for place, socks in crew.sockets.open.items() for sock in socks]
    for begin in range(0, len(held), DESCRIPTORS):
        batch = held[begin : begin + DESCRIPTORS]
        channel.send("sockets", [place for place, _ in batch], [sock for _, sock in batch])
    channel.send("given", {"version": VERSION})
    channel.start()
    try:
        async with asyncio.timeout(PATIENCE):
            taken = await said.get()
    except TimeoutError:
        taken = ""
    if taken != "taken":
        log.warning("proxy.not_taken_over", said=taken or "nothing")
        channel.close()
        return None
    for member in await crew.surrender(linger):
        channel.send("member", {"pid": member.pid, "buffered": member.buffered.decode()}, [member.sock])
        member.sock.close()
    await channel.flushed()
    return channel


class Predecessor:
    """The running proxy as the new one sees it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._left: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._members: list[Handed] = []
        self._channel: Channel | None = None
        self.sockets: list[tuple[Place, SharedSocket]] = []
        self._most = most_listening(resource.getrlimit(resource.RLIMIT_NOFILE)[0])

    async def ask(self) -> None:
        """Gets its sockets. Raises Failed."""
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, str(self._path))
        except OSError as error:
            sock.close()
            raise Failed(f"it does not answer on {self._path}: {error}") from error
        channel = self._channel = Channel(sock, self._message, self._ended)
        channel.start()
        channel.send("takeover", {"version": VERSION})
        try:
            async with asyncio.timeout(PATIENCE):
                await self._given
        except TimeoutError as error:
            raise Failed("it did not give its sockets in time") from error

    async def finish(self) -> list[Handed]:
        """We serve: it may go. Returns its workers, which listen no more, when it has left its place."""
        assert self._channel is not None
        self._channel.send("taken", {})
        try:
            async with asyncio.timeout(PATIENCE):
                await self._left
        except TimeoutError:
            log.warning("takeover.predecessor_stays")
        self._channel.close()
        return self._members

    def _message(self, kind: str, body: Any, line: bytes) -> None:
        assert self._channel is not None
        if kind == "sockets":
            # Fewer than places when descriptors run out here: the rest is opened, and fails, as if nobody had it.
            for place, number in zip(body, self._channel.take(), strict=False):
                sock = SharedSocket(fileno=number)
                if len(self.sockets) < self._most:
                    self.sockets.append((Place(*place), sock))
                else:
                    sock.close()
        elif kind == "member":
            for number in self._channel.take():
                self._members.append(Handed(SharedSocket(fileno=number), body["pid"], body["buffered"].encode()))
        elif kind == "given" and not self._given.done():
            self._given.set_result(None)
        elif kind == "error" and not self._given.done():
            self._given.set_exception(Failed(body["message"]))

    def _ended(self) -> None:
        if not self._given.done():
            self._given.set_exception(Failed("it hung up"))
        if not self._left.done():
            self._left.set_result(None)
