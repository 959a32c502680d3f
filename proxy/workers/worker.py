"""A worker process: one data plane, told by its control process what to serve and on which sockets."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from typing import Any

from proxy.logs import EventLog
from proxy.loop import run
from proxy.plan import InKernel, Place
from proxy.server import Proxy
from proxy.sockets import Given
from proxy.table import read_delta, read_snapshot, read_step
from proxy.workers.board import Board, Shares
from proxy.workers.channel import Channel
from proxy.workers.shelf import Shelf

log = EventLog("proxy.worker")

# Seconds between two reports of what drains, at most 10 a second.
DRAINING_PAUSE = 0.1


class Post:
    """One data plane at the end of a channel: does what is asked, tells what it has done.

    When the control process is gone without a word, it listens no more (another one will) and its connections live on.
    """

    def __init__(
        self,
        sock: socket.socket,
        proxy: Proxy,
        given: Given | None,
        linger: float,
        shares: Shares | None = None,
        shelf: Shelf | None = None,
    ) -> None:
        """`linger`: seconds that connections may go on after listening ends; `shelf`: of a worker indoors."""
        self._proxy = proxy
        self._given = given
        self._shares = shares
        self._shelf = shelf
        self._missed: frozenset[Place] = frozenset()
        self._linger = linger
        self._retired = asyncio.Event()
        self._orphaned = False
        self._hurry = asyncio.Event()
        self._reported: list[tuple[str, int, int]] = []
        self._report_due: asyncio.TimerHandle | None = None
        self.channel = Channel(sock, self._message, self._ended)
        proxy.on_draining = self._draining_soon

    async def run(self) -> None:
        """Until its connections are done after it was retired."""
        self.channel.start()
        self.channel.send("hello", {"pid": os.getpid()})
        await self._retired.wait()
        async with asyncio.TaskGroup() as group:
            drained = group.create_task(self._proxy.drain(self._linger), name="worker/drain")
            hurried = group.create_task(self._hurry.wait(), name="worker/hurry")
            await asyncio.wait({drained, hurried}, return_when=asyncio.FIRST_COMPLETED)
            drained.cancel()
            hurried.cancel()
        self._proxy.close()
        self._report()
        await self.channel.flushed()
        self.channel.close()

    def retire(self) -> None:
        """Listens no more; connections go on."""
        if not self._retired.is_set():
            self._proxy.stop_listening()
            self._retired.set()

    def _ended(self) -> None:
        log.warning("worker.orphaned", connections=self._proxy.busy)
        self.retire()

    def _message(self, kind: str, body: Any, line: bytes) -> None:
        if kind == "sockets":
            received = [socket.socket(fileno=number) for number in self.channel.take()]
            self._given_some([Place(*place) for place in body], received)
        elif kind == "lent":
            assert self._shelf is not None  # only who has one is told of it
            taken = [self._shelf.take(number) for *_, number in body]
            self._given_some([Place(*place) for *place, _ in body], taken)
        elif kind == "board":
            for number in self.channel.take():
                board = Board(number, body["workers"], body["worker"])
                board.close()  # the mapping stays
                if self._shares is not None:
                    self._shares.board = board
        elif kind == "shares":
            if self._shares is not None:
                self._shares.learn(body)
        elif kind in ("snapshot", "step", "delta"):
            if self._retired.is_set():
                return
            if kind == "snapshot":
                self._proxy.apply(read_snapshot(body))
            elif kind == "step":
                assert self._proxy.table is not None  # nobody is told a difference to nothing
                self._proxy.apply(read_step(self._proxy.table, body))
            else:
                self._proxy.change(read_delta(body))
            self._report()
            self._report_missing()
            epoch, revision = self._proxy.applied
            self.channel.send("applied", {"epoch": epoch, "revision": revision})
        elif kind == "status":
            status = self._proxy.tallies() if body.get("brief") else self._proxy.status()
            self.channel.send("status", {"number": body["number"], "status": status})
        elif kind == "retire":
            if self._retired.is_set():
                asyncio.get_running_loop().call_later(float(body["linger"]), self._hurry.set)
            self._linger = float(body["linger"])
            self.retire()
        elif kind == "hurry":
            self.retire()
            self._hurry.set()

    def _given_some(self, places: list[Place], socks: Sequence[socket.socket]) -> None:
        """Sockets of these places; the last ones did not arrive when there are fewer."""
        if self._given is None or self._retired.is_set():
            for sock in socks:
                sock.close()
            return
        for place, sock in zip(places, socks, strict=False):
            self._given.offer(place, sock)
        self._given.missing.update(places[len(socks) :])
        self._report_missing()

    def _report_missing(self) -> None:
        missing = frozenset(self._given.missing) if self._given is not None else frozenset()
        if missing != self._missed:
            if not self._missed:
                log.warning("worker.out_of_descriptors", places=len(missing))
            self._missed = missing
            self.channel.send("missing", sorted(missing))

    def _draining_soon(self) -> None:
        if self._report_due is None:
            loop = asyncio.get_running_loop()
            self._report_due = loop.call_later(DRAINING_PAUSE, self._report)

    def _report(self) -> None:
        if self._report_due is not None:
            self._report_due.cancel()
            self._report_due = None
        draining = self._proxy.draining()
        if draining != self._reported:
            self._reported = draining
            self.channel.send("draining", draining)


def serve(sock: socket.socket, half_close_idle: float, linger: float, in_kernel: InKernel) -> None:
    """A worker's main: returns when it is done."""

    async def work() -> None:
        given, shares = Given(), Shares()
        proxy = Proxy(half_close_idle=half_close_idle, sockets=given, in_kernel=in_kernel, commons=shares)
        await Post(sock.dup(), proxy, given, linger, shares).run()

    run(work())
