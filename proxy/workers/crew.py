"""The control process's half of a proxy: opens the sockets, hands table and sockets to its workers, replaces the dead.

Every listening socket stays open here too, so a worker that dies takes only its own connections along: what waits in
its backlog is taken by the one that follows.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

from common.routing import node_to_json, route_to_json
from common.tasks import Tasks
from proxy.logs import EventLog
from proxy.plan import InKernel, Moves, Place, Planner, PortError, by_mode
from proxy.sockets import BIND_RETRY, SharedSocket, Sockets
from proxy.table import Change, Delta, Resync, Table, table_to_json
from proxy.workers.board import Assignments, Board
from proxy.workers.channel import DESCRIPTORS
from proxy.workers.member import Handed, Member
from proxy.workers.shelf import Shelf
from proxy.workers.status import merged

log = EventLog("proxy.crew")

# Seconds until a dead worker is replaced: at once, later each time when those before lived for less than SETTLED.
RESPAWN_FIRST = 0.02
RESPAWN_CAP = 5.0
SETTLED = 5.0
# Seconds that a worker may take to apply a table before it is taken for hung and killed, and to answer for a status.
HUNG = 30.0
STATUS_WAIT = 3.0
STOP_POLL = 0.02


class Spawner(Protocol):
    """Makes workers: forked (`Nursery`) or in this process (`Indoors`)."""

    # Where listening sockets are left for a worker in this process.
    shelf: Shelf | None

    def spawn(self) -> socket.socket: ...
    def close(self) -> None: ...


class Crew:
    """All workers of a proxy, and those of the proxies before it whose connections are not done."""

    def __init__(self, spawner: Spawner, count: int, in_kernel: InKernel = by_mode) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks("crew")
        self._spawner = spawner
        self._count = count
        self._members: dict[int, Member] = {}
        self._retired: set[Member] = set()
        self._planner = Planner(in_kernel)
        self._assignments = Assignments(Board.make(count)) if count > 1 else None
        self.sockets = Sockets(self._loop, count)
        self.sockets.on_open = lambda place, socks: self._fresh.append((place, socks))
        self.sockets.on_errors = self._errors_changed
        self._fresh: list[tuple[Place, list[SharedSocket]]] = []
        self._giving_again: asyncio.TimerHandle | None = None
        self._delays = dict.fromkeys(range(count), RESPAWN_FIRST)
        self._stopping = False
        self._numbers = 0
        self._started = self._loop.time()
        self.respawned = 0
        self.table: Table | None = None
        # Told of each change of the table before the workers are: names, the kernel's half.
        self.followers: list[Callable[[Table, Change], None]] = []
        # Errors of those, and how far those are that need time.
        self.other_errors: list[Callable[[], list[PortError]]] = []
        self.other_applied: list[Callable[[], tuple[str, int]]] = []
        self.other_status: list[Callable[[], Awaitable[dict[str, Any]]]] = []
        self.on_applied: Callable[[], None] = lambda: None
        self.on_errors_changed: Callable[[], None] = lambda: None
        self.on_draining: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Makes the workers; they serve from the first table on."""
        for slot in range(self._count):
            self._spawn(slot)
        self._tasks.start("watch", self._watch())

    # -- the table ----------------------------------------------------------------------------

    def apply(self, table: Table, line: bytes = b"") -> None:
        """A complete table; `line` is the message it came in."""
        change = table.since(self.table)
        # Who has a table hears only what differs: reading a large one would hold up a worker's traffic.
        told = _step(table, change) if self.table is not None else line or _line(table)
        self.table = table
        self._moved(change, told)

    def change(self, delta: Delta, line: bytes) -> None:
        """What changed. Raises Resync."""
        if self.table is None:
            raise Resync("there is no table yet")
        self._moved(self.table.follow(delta), line)

    def _moved(self, change: Change, line: bytes) -> None:
        assert self.table is not None
        for follower in self.followers:
            follower(self.table, change)
        moves = self._planner.update(self.table, change)
        self.sockets.want(self._steered(moves), moves.unlisten)
        self._hand_out()
        told = self._assignments.follow(moves) if self._assignments is not None else []
        for member in self._members.values():
            member.expect((self.table.epoch, self.table.revision), self._loop.time())
            if told:
                member.channel.send("shares", told)
            member.channel.send_line(line)

    def _steered(self, moves: Moves) -> dict[Place, bool]:
        services = self._planner.services
        return {place: bool(services[key].affinity_seconds) for place, key in moves.listen.items()}

    def _hand_out(self) -> None:
        fresh, self._fresh = self._fresh, []
        if fresh:
            for slot, member in self._members.items():
                self._give(slot, member, fresh)

    def _give(self, slot: int, member: Member, places: Iterable[tuple[Place, list[SharedSocket]]]) -> None:
        """A worker's sockets of some places: its own of each group, or the only one there is."""
        given: list[tuple[Place, SharedSocket]] = []
        for place, socks in places:
            if len(socks) < self._count:
                given += [(place, sock) for sock in socks]
            else:
                given += [(place, sock) for index, sock in enumerate(socks) if index % self._count == slot]
        shelf = self._spawner.shelf
        if shelf is not None:
            if given:
                member.channel.send("lent", [[*place, shelf.put(sock)] for place, sock in given])
            return
        for begin in range(0, len(given), DESCRIPTORS):
            batch = given[begin : begin + DESCRIPTORS]
            member.channel.send("sockets", [place for place, _ in batch], [sock for _, sock in batch])

    @property
    def applied(self) -> tuple[str, int]:
        """Epoch and revision that every living worker serves; ("", 0) when that is not one epoch's."""
        if self.table is None or not self._members:
            return ("", 0)
        applied = {member.applied for member in self._members.values()}
        applied |= {other() for other in self.other_applied}
        if any(epoch != self.table.epoch for epoch, _ in applied):
            return ("", 0)
        return (self.table.epoch, min(revision for _, revision in applied))

    def errors(self) -> list[PortError]:
        """What of the table is not served, and why; the same for all workers."""
        found = self._planner.errors()
        found += [self._planner.error_at(place, message) for place, message in sorted(self._unserved().items())]
        for other in self.other_errors:
            found += other()
        return found

    def _unserved(self) -> dict[Place, str]:
        """Places of the plan that are not listened on, or not by every worker."""
        why = "a worker has no descriptor left for it: raise the limit of open files"
        found = {
            place: f"cannot listen on {place.address}:{place.port}: {why} ({self.sockets.limit})"
            for member in self._members.values()
            for place in member.missing
            if place in self.sockets.open
        }
        return {**found, **self.sockets.errors}

    def _missing_changed(self) -> None:
        self._give_again_later()
        self.on_errors_changed()

    def _give_again_later(self) -> None:
        if self._giving_again is None and any(member.missing for member in self._members.values()):
            self._giving_again = self._loop.call_later(BIND_RETRY, self._give_again)

    def _give_again(self) -> None:
        """Sends once more what workers had no descriptors for; they may have some by now."""
        self._giving_again = None
        if self._stopping:
            return
        held = self.sockets.open
        for slot, member in self._members.items():
            self._give(slot, member, [(place, held[place]) for place in sorted(member.missing) if place in held])
        self._give_again_later()

    def draining(self) -> list[tuple[str, int, int]]:
        """Address, port and number of connections that removed endpoints still have, in all workers together."""
        total: dict[tuple[str, int], int] = {}
        for member in (*self._members.values(), *self._retired):
            for ip, port, count in member.draining:
                total[ip, port] = total.get((ip, port), 0) + count
        return [(ip, port, count) for (ip, port), count in sorted(total.items())]

    def _errors_changed(self) -> None:
        self._hand_out()
        self.on_errors_changed()

    # -- the workers --------------------------------------------------------------------------

    def _spawn(self, slot: int) -> None:
        if self._stopping:
            return
        try:
            sock = self._spawner.spawn()
        except OSError as error:
            log.error("worker.not_started", slot=slot, error=str(error))
            self._respawn_later(slot)
            return
        member = self._members[slot] = self._member(sock)
        if self._assignments is not None:
            board = self._assignments.board
            member.channel.send("board", {"workers": board.workers, "worker": slot}, [board])
            member.channel.send("shares", self._assignments.all())
        self._give(slot, member, self.sockets.open.items())
        if self.table is not None:
            member.expect((self.table.epoch, self.table.revision), self._loop.time())
            member.channel.send_line(_line(self.table))

    def _member(self, sock: socket.socket, pid: int = 0, buffered: bytes = b"") -> Member:
        return Member(
            sock,
            pid,
            self._loop.time(),
            buffered,
            on_applied=self._member_applied,
            on_draining=lambda: self.on_draining(),
            on_missing=self._missing_changed,
            on_end=self._member_ended,
        )

    def other_moved(self) -> None:
        """A follower is further than it was."""
        self._member_applied()

    def _member_applied(self) -> None:
        if self.applied != ("", 0):
            self.on_applied()

    def _member_ended(self, member: Member) -> None:
        if member in self._retired:
            self._retired.discard(member)
            log.info("worker.done", pid=member.pid)
        else:
            slot = next(slot for slot, held in self._members.items() if held is member)
            del self._members[slot]
            if self._assignments is not None:
                self._assignments.died(slot)
            if not self._stopping:
                log.warning("worker.died", pid=member.pid, slot=slot)
                if self._loop.time() - member.started > SETTLED:
                    self._delays[slot] = RESPAWN_FIRST
                self._respawn_later(slot)
                self._member_applied()  # nobody waits for the dead
                if member.missing:
                    self.on_errors_changed()
        if member.draining:
            self.on_draining()

    def _respawn_later(self, slot: int) -> None:
        self.respawned += 1
        delay = self._delays[slot]
        self._delays[slot] = min(RESPAWN_CAP, delay * 3)
        self._loop.call_later(delay, self._spawn, slot)

    async def _watch(self) -> None:
        """Kills workers that hang: one that applies no table keeps its connections on removed endpoints."""
        while True:
            await asyncio.sleep(HUNG / 6)
            for member in self._members.values():
                if member.overdue(self._loop.time(), HUNG) and member.pid not in (0, os.getpid()):
                    log.error("worker.hung", pid=member.pid)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(member.pid, signal.SIGKILL)

    async def full_status(self) -> dict[str, Any]:
        """All workers' status as one."""
        status = await self._asked(brief=False)
        table = self.table
        status["epoch"] = table.epoch if table else ""
        status["revision"] = table.revision if table else 0
        status["complete"] = table is not None
        status["node"] = table.node.name if table else ""
        status["applied"] = list(self.applied)
        status["errors"] = [vars(error) for error in self.errors()]
        services, unserved = self._planner.services, self._unserved()
        status["listeners"] = [
            {
                "address": place.address,
                "port": place.port,
                "protocol": place.protocol,
                "key": key.key,
                "service_port": services[key].name,
                "error": unserved.get(place, ""),
            }
            for place, key in sorted(self._planner.listeners.items())
        ]
        return status

    async def counted(self) -> dict[str, Any]:
        """The figures for `proxy.metrics`; the workers are asked for their tallies alone."""
        status = await self._asked(brief=True)
        table = self.table
        services = self._planner.services
        return {
            **status,
            "revision": table.revision if table else 0,
            "complete": table is not None,
            "listening": len(self._planner.listeners),
            "failing": len(self.errors()),
            "servicePorts": len(services),
            "endpoints": sum(len(serving.endpoints) for serving in services.values()),
        }

    async def _asked(self, *, brief: bool) -> dict[str, Any]:
        members = [*self._members.values(), *self._retired]
        self._numbers += 1
        asked = [member.status(self._numbers, STATUS_WAIT, brief=brief) for member in members]
        answers = await asyncio.gather(*asked)
        status = merged([answer for answer in answers if answer is not None])
        for more in self.other_status:
            status |= await more()
        status["workers"] = [
            {"pid": member.pid, "retired": member in self._retired, "answered": answer is not None}
            for member, answer in zip(members, answers, strict=True)
        ]
        status["counters"]["workersReplaced"] = self.respawned
        return status

    # -- the end ------------------------------------------------------------------------------

    def adopt(self, handed: Handed) -> None:
        """A worker of the proxy before: its connections go on, and what drains there counts here."""
        self._retired.add(self._member(handed.sock, handed.pid, handed.buffered))

    async def surrender(self, linger: float) -> list[Handed]:
        """Retires all workers, and gives them away with those retired before; `linger` bounds the new ones' end."""
        self._stopping = True
        members = [*self._members.values(), *self._retired]
        for member in self._members.values():
            member.channel.send("retire", {"linger": linger})
        self._spawner.close()
        handed = []
        for member in members:
            await member.channel.flushed()
            if not member.channel.closed:
                sock, buffered = member.channel.detach()
                handed.append(Handed(SharedSocket(fileno=sock.detach()), member.pid, buffered))
        self._members.clear()
        self._retired.clear()
        return handed

    def stop_listening(self, linger: float) -> None:
        """New connections are refused from now on; established ones go on for `linger` seconds."""
        self._stopping = True
        for member in (*self._members.values(), *self._retired):
            member.channel.send("retire", {"linger": linger})
        self.sockets.close()

    async def drain(self) -> None:
        """Returns when the last worker is done."""
        while self._members or self._retired:  # noqa: ASYNC110
            await asyncio.sleep(STOP_POLL)

    def hurry(self) -> None:
        """Ends the draining."""
        for member in (*self._members.values(), *self._retired):
            member.channel.send("hurry", {})

    async def close(self) -> None:
        """Hangs up on everything."""
        self._stopping = True
        await self._tasks.close()
        self.sockets.close()
        for member in (*self._members.values(), *self._retired):
            member.channel.close()
        self._spawner.close()
        if self._assignments is not None:
            self._assignments.board.close()


def _line(table: Table) -> bytes:
    return json.dumps({"snapshot": table_to_json(table)}, separators=(",", ":")).encode() + b"\n"


def _step(table: Table, change: Change) -> bytes:
    body = {
        "epoch": table.epoch,
        "revision": table.revision,
        "node": node_to_json(table.node),
        "upserts": [route_to_json(route) for route in change.upserts.values()],
        "removed": change.removed,
    }
    return json.dumps({"step": body}, separators=(",", ":")).encode() + b"\n"
