"""The nftables data plane: the same table as in user space, programmed into the kernel as one table of its own."""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Callable, Iterable

from common.backoff import Backoff
from common.routing import NodeInfo
from common.tasks import Tasks
from proxy.logs import EventLog
from proxy.nft import counters, flows, handles, skeleton, untracked, wire
from proxy.nft.counters import PortCounters
from proxy.nft.encode import encode, touched, unpack_place
from proxy.nft.kernel import Kernel, KernelError, bridge_filter
from proxy.nft.rules import Rules, in_kernel
from proxy.nft.slots import Target
from proxy.nft.steps import Step
from proxy.plan import Moves, Place, Planner, PortError
from proxy.table import Change, Table

__all__ = ["Kernel", "KernelError", "NftPlane", "PortCounters", "in_kernel", "remove"]

log = EventLog("proxy.nft")


class NftPlane:
    """Follows the table; what the kernel holds outlives this process until `flush`. Use it from one event loop.

    A transaction that fails leaves the kernel as it was: every place that it would have changed is an error, and the
    whole is tried again, with growing pauses. `errors_changed` is called when a later try goes otherwise.
    """

    def __init__(self, kernel: Kernel | None = None, errors_changed: Callable[[], None] = lambda: None) -> None:
        self._kernel = kernel or Kernel()
        self._errors_changed = errors_changed
        self._planner = Planner(lambda route, node: not in_kernel(route, node), also_empty=True)
        self._keys: set[str] = set()
        self._rules = Rules()
        self._node = NodeInfo()
        self._ground: skeleton.Ground | None = None
        # Whether the kernel has our services' table: None: nobody knows; before the first transaction it may be a
        # predecessor's.
        self._present: bool | None = None
        # The names of our tables in the kernel, as far as this process has made them.
        self.tables: tuple[str, ...] = ()
        self._failure = ""
        self._unserved: dict[Place, None] = {}
        self._lock = asyncio.Lock()
        self._tasks = Tasks("nft")
        self._backoff = Backoff(1.0, 30.0, jitter=0.2)

    async def apply(self, table: Table, change: Change | None = None) -> list[PortError]:
        """Makes the kernel follow the table, in one transaction, before it returns; says what is not served.

        `change`: what made the table what it is, so that the cost is that of the change; None: look at everything.
        """
        async with self._lock:
            if change is None:
                change = Change(dict(table.routes), tuple(self._keys - table.routes.keys()), whole=True)
            self._keys.difference_update(change.removed)
            self._keys.update(change.upserts)
            self._node = table.node
            moves = self._planner.update(table, change)
            # Without any service left the table stays: where it is the only one that translates addresses, established
            # connections need it.
            same = self._wanted_ground() == self._ground
            if self._present and same:
                if moves.listen or moves.unlisten or moves.serve:
                    await self._change(moves)
            elif self._present is not False or self._planner.listeners or not same:
                await self._make()
        return self.errors()

    def errors(self) -> list[PortError]:
        """What of the table is not served, and why."""
        found = self._planner.errors()
        if self._failure:
            places = [place for place in self._unserved if place in self._planner.listeners]
            found += [self._planner.error_at(place, f"nftables: {self._failure}") for place in places]
        return found

    async def counters(self) -> list[PortCounters]:
        """What the kernel counted for each service port since its place was made. Raises KernelError."""
        async with self._lock:
            if not self._present or self._ground is None:
                return []
            return await asyncio.to_thread(self._read_counters, self._ground.table)

    async def flush(self) -> None:
        """Takes our table out of the kernel. Connections that were translated go on as long as any other table of this
        network namespace translates addresses, the agent's own for one. Raises KernelError."""
        await self.close()
        async with self._lock:
            self._present = None
            await remove(self._node, self._kernel)
            self._present = False
            self.tables = ()

    async def close(self) -> None:
        """Ends what goes on in the background; the kernel keeps serving."""
        await self._tasks.close()

    def _wanted_ground(self) -> skeleton.Ground:
        return skeleton.ground(self._node, bridge_filter=bridge_filter())

    async def _change(self, moves: Moves) -> None:
        assert self._ground is not None
        table = self._ground.table
        steps = self._rules.update(moves, self._planner.services)
        places = dict.fromkeys((*moves.listen, *moves.unlisten))
        changed = moves.serve.keys()
        if changed:
            places |= dict.fromkeys(self._rules.places_of(changed))
        if await self._commit(lambda: self._messages(table, steps), places, present=True):
            await self._end_stale_flows(places, moves.unlisten)

    def _messages(self, table: str, steps: list[Step]) -> list[wire.Message]:
        wanted = touched(steps)
        rules: dict[str, int] = {}
        for chain in sorted(set(wanted.values())):
            rules.update(handles.read(self._kernel.dump(wire.NFTABLES, handles.ask(table, chain))))
        for name, chain in wanted.items():
            if name not in rules:
                raise KernelError(f"rule {name} in {chain}", errno.ENOENT)
        found = encode(table, steps, rules)
        return found + untracked.follow(table, steps) if self._untracks() else found

    def _untracks(self) -> bool:
        return self._ground is not None and bool(self._ground.service_cidr)

    async def _make(self) -> None:
        """The whole table anew, in place of what there is: one transaction too."""
        former, self._ground = self._ground, self._wanted_ground()
        ground, planner = self._ground, self._planner
        self._rules = Rules(ground.pod_cidr)

        def messages() -> list[wire.Message]:
            found = _removal(former.table) if former and former.table != ground.table else []
            before = self._served_before(ground.table) - planner.listeners.keys() if self._untracks() else set()
            found += _removal(ground.table)
            if planner.listeners:
                steps = self._rules.update(Moves(planner.listeners, (), planner.services, ()), planner.services)
                found += skeleton.make_table(ground) + encode(ground.table, steps)
            if self._untracks():
                found += untracked.make(ground.table, ground.service_cidr, planner.listeners, sorted(before))
            return found

        places = dict.fromkeys(planner.listeners)
        if await self._commit(messages, places, present=bool(places)):
            names = ((ground.table, bool(places)), (untracked.table_of(ground.table), self._untracks()))
            self.tables = tuple(name for name, made in names if made)
            await self._end_stale_flows(places, ())

    def _served_before(self, table: str) -> set[Place]:
        """The places that this kernel has served within the time that connections are remembered."""
        found: set[Place] = set()
        beside = untracked.table_of(table)
        for name, kind in ((table, skeleton.SERVICES), (beside, untracked.TRACKED), (beside, untracked.FORMER)):
            try:
                elements = counters.elements(self._kernel.dump(wire.NFTABLES, counters.ask(name, kind)))
                found.update(unpack_place(element.key) for element in elements)
            except KernelError as error:
                if error.number != errno.ENOENT:
                    raise
        return found

    async def _commit(
        self, messages: Callable[[], list[wire.Message]], places: dict[Place, None], *, present: bool
    ) -> bool:
        """Whether it was done; `present`: whether the table is there then."""
        begun = time.monotonic()
        self._present = None
        try:
            await asyncio.to_thread(lambda: self._kernel.commit(messages()))
        except KernelError as error:
            if not places:
                # A node without a service in the kernel may lack the right to look into it.
                self._present = False
                log.info("nft.left_alone", cause=str(error))
                return False
            self._failure = str(error)
            self._unserved |= places
            log.error("nft.failed", error=self._failure, places=len(places))
            if not len(self._tasks):
                self._tasks.start("retry", self._retry())
            return False
        self._present = present
        self._failure, self._unserved = "", {}
        self._backoff.reset()
        log.info("nft.applied", places=len(places), seconds=round(time.monotonic() - begun, 3))
        return True

    async def _retry(self) -> None:
        while self._failure:
            await asyncio.sleep(next(self._backoff))
            async with self._lock:
                if self._failure:
                    before = self.errors()
                    await self._make()
                    changed = self.errors() != before
            if changed:
                self._errors_changed()

    async def _end_stale_flows(self, places: Iterable[Place], removed: Iterable[Place]) -> None:
        """What conntrack remembers of UDP endpoints that are gone."""
        if not any(place.protocol == "UDP" for place in places):
            return
        try:
            await asyncio.to_thread(self._end_flows, frozenset(removed))
        except KernelError as error:
            log.warning("nft.flows_not_ended", error=str(error))

    def _end_flows(self, removed: frozenset[Place]) -> None:
        places = self._rules.places

        def served(place: Place) -> frozenset[Target] | None:
            if place in places:
                return self._rules.targets(places[place])
            return frozenset() if place in removed else None

        found = flows.udp(self._kernel.dump(wire.CONNTRACK, flows.ask()))
        ended = self._kernel.each(wire.CONNTRACK, flows.stale(found, served))
        if ended:
            log.info("nft.flows_ended", flows=ended)

    def _read_counters(self, table: str) -> list[PortCounters]:
        names = (skeleton.SERVICES, skeleton.SENT, skeleton.RECEIVED)
        dumps = {name: counters.elements(self._kernel.dump(wire.NFTABLES, counters.ask(table, name))) for name in names}
        return counters.summed(dumps, self._rules.places)


async def remove(node: NodeInfo, kernel: Kernel | None = None) -> None:
    """Takes a node's table out of the kernel, also one that another process made. Raises KernelError."""
    table = skeleton.ground(node, bridge_filter=False).table
    await asyncio.to_thread((kernel or Kernel()).commit, _removal(table))


def _removal(table: str) -> list[wire.Message]:
    return skeleton.remove_table(table) + skeleton.remove_table(untracked.table_of(table))
