"""What a node and its containers use now, measured when asked; CPU needs two readings, so the last ones are kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from common.errors import NotFound, SampanError
from node_agent.runtime.seam import Runtime, Seen, State

# CPU use is the mean between two readings that lie so far apart, in seconds.
LEAST_SECONDS, MOST_SECONDS = 1.0, 60.0
_AT_ONCE = 8

# When (the clock's seconds) and how many CPU seconds until then.
_Reading = tuple[float, float]


class UsageMeter:
    """Answers `usage` for one node."""

    def __init__(self, runtime: Runtime, node: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._runtime, self._node, self._clock = runtime, node, clock
        # By container id; "" is the machine.
        self._last: dict[str, _Reading] = {}
        self._asking = asyncio.Lock()

    async def measure(self) -> dict[str, Any]:
        """One JSON document: cores as numbers, memory in bytes. Raises Unavailable when the engine does not answer.

        {"node", "cpu", "memory", "pods": [{"namespace", "name", "containers": [{"name", "cpu", "memory"}]}]}
        """
        async with self._asking:
            seen = [one for one in await self._runtime.containers() if one.name and one.state is State.RUNNING]
            wanted = {"", *(one.id for one in seen)}
            now = self._clock()
            self._last = {id: kept for id, kept in self._last.items() if id in wanted and now - kept[0] <= MOST_SECONDS}
            if any(id not in self._last or now - self._last[id][0] < LEAST_SECONDS for id in wanted):
                first = await self._read([one for one in seen if one.id not in self._last])
                self._last = {id: (at, cpu) for id, (at, cpu, _) in first.items()} | self._last
                await asyncio.sleep(LEAST_SECONDS)
            read = await self._read(seen)
            used = {id: (_cores(self._last.get(id), at, cpu), memory) for id, (at, cpu, memory) in read.items()}
            self._last = {id: (at, cpu) for id, (at, cpu, _) in read.items()}
        return {"node": self._node, "cpu": used[""][0], "memory": used[""][1], "pods": _pods(seen, used)}

    async def _read(self, seen: list[Seen]) -> dict[str, tuple[float, float, int]]:
        """When, CPU seconds and memory, by container id; one that has just ended is left out."""
        gate = asyncio.Semaphore(_AT_ONCE)
        machine = await self._runtime.machine()
        found = {"": (self._clock(), machine.cpu_seconds, max(0, machine.memory - machine.memory_available))}

        async def one(id: str) -> None:
            async with gate:
                try:
                    usage = await self._runtime.usage(id)
                except NotFound:
                    return
                found[id] = (self._clock(), usage.cpu_seconds, usage.memory)

        try:
            async with asyncio.TaskGroup() as group:
                for container in seen:
                    group.create_task(one(container.id), name=f"usage/{container.id[:12]}")
        except* SampanError as errors:
            raise errors.exceptions[0] from None
        return found


def _cores(before: _Reading | None, at: float, cpu: float) -> float:
    if before is None or at <= before[0]:
        return 0.0
    return round(max(0.0, (cpu - before[1]) / (at - before[0])), 4)


def _pods(seen: list[Seen], used: dict[str, tuple[float, int]]) -> list[dict[str, Any]]:
    pods: dict[str, dict[str, Any]] = {}
    for one in seen:
        if one.id not in used:
            continue
        identity = one.identity
        pod = pods.setdefault(one.uid, {"namespace": identity.namespace, "name": identity.pod, "containers": []})
        pod["containers"].append({"name": one.name, "cpu": used[one.id][0], "memory": used[one.id][1]})
    return list(pods.values())
