"""The kernel's half among the workers: it follows the same changes, one after the other, and says how far it is."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from common.tasks import Tasks
from proxy.logs import EventLog
from proxy.nft.counters import PortCounters
from proxy.nft.kernel import KernelError
from proxy.plan import PortError
from proxy.table import Change, Table

log = EventLog("proxy.kernel")


class KernelPlane(Protocol):
    """`proxy.nft.NftPlane`, as far as it is needed here."""

    async def apply(self, table: Table, change: Change | None = None) -> list[PortError]: ...

    async def counters(self) -> list[PortCounters]: ...

    @property
    def tables(self) -> Sequence[str]: ...


async def kernel_status(plane: KernelPlane) -> dict[str, Any]:
    """What the kernel has carried, for status and metrics: `kernel`, or `kernelError` when it does not say; and
    `kernelTables`, the names of our nftables tables."""
    tables = list(plane.tables)
    try:
        counters = await plane.counters()
    except KernelError as error:
        return {"kernelTables": tables, "kernel": [], "kernelError": str(error)}
    return {
        "kernelTables": tables,
        "kernel": [
            {**one.key._asdict(), "connections": one.connections, "bytesIn": one.bytes_in, "bytesOut": one.bytes_out}
            for one in counters
        ]
    }


class KernelHalf:
    """`applied` is the epoch and revision that the kernel has, or has refused with an error."""

    def __init__(self, plane: KernelPlane, on_applied: Callable[[], None]) -> None:
        self._plane = plane
        self._on_applied = on_applied
        self._tasks = Tasks("kernel")
        self._changes: deque[tuple[Table, Change, tuple[str, int]]] = deque()
        self._running = False
        self.applied = ("", 0)
        self.errors: list[PortError] = []

    def follow(self, table: Table, change: Change) -> None:
        """To be applied soon."""
        self._changes.append((table, change, (table.epoch, table.revision)))
        if not self._running:
            self._running = True
            self._tasks.start("follow", self._run())

    async def _run(self) -> None:
        while self._changes:
            table, change, revision = self._changes.popleft()
            try:
                self.errors = await self._plane.apply(table, change)
            except (OSError, KernelError) as error:  # the boundary to the kernel: user space goes on
                log.error("kernel.failed", error=str(error))
            self.applied = revision
            if not self._changes:
                self._running = False
            self._on_applied()

    async def close(self) -> None:
        await self._tasks.close()
