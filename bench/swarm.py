"""Docker Swarm on the harness's hosts, driven the way its users drive it: the peer of the cluster benches."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from bench.engine import ask, running
from tests.harness import Host, Hosts, eventually

PORT = 8770
# What a Swarm node needs of the engine to see others' deaths as fast as it can by default.
DISPATCHER_HEARTBEAT = "5s"


class Swarm:
    """A Swarm over all hosts of `hosts`, the first one its manager."""

    def __init__(self, hosts: Hosts) -> None:
        self.hosts = hosts
        self.manager = hosts[0]

    async def form(self) -> None:
        await self.manager.docker("swarm", "init", "--advertise-addr", self.manager.address)
        token = await self.manager.docker("swarm", "join-token", "-q", "worker")
        for host in list(self.hosts)[1:]:
            await host.docker("swarm", "join", "--token", token, f"{self.manager.address}:2377", timeout=60)

    async def leave(self) -> None:
        for host in reversed(list(self.hosts)):
            await host.docker("swarm", "leave", "--force", timeout=60, check=False)

    async def create(self, name: str, image: str, replicas: int, *command: str) -> float:
        """Seconds from the command until all tasks run."""
        start = time.monotonic()
        words = ["service", "create", "-q", "--detach", "--name", name, "--replicas", str(replicas)]
        await self.manager.docker(*words, "--stop-grace-period", "2s", "--restart-delay", "0s", image, *command)
        await self.all_run(name, replicas)
        return time.monotonic() - start

    async def all_run(self, name: str, replicas: int, within: float = 120.0) -> None:
        """Returns when `replicas` tasks are in state Running."""

        async def look() -> bool:
            wanted = {"service": [name], "desired-state": ["running"]}
            tasks = await ask(self.manager, "/tasks", wanted)
            running = sum(task["Status"]["State"] == "running" for task in tasks)
            return bool(running == replicas)

        await eventually(look, within=within, what=f"{replicas} tasks of {name} run", every=0.05)

    async def update(self, name: str, replicas: int) -> float:
        """Seconds from the command until every task is another one: one at a time, no delay, no monitoring."""
        before = await self._update_status(name)
        start = time.monotonic()
        how = ("--update-parallelism", "1", "--update-delay", "0s", "--update-monitor", "0s")
        await self.manager.docker("service", "update", "-q", "--detach", "--force", *how, name)

        async def completed() -> bool:
            status = await self._update_status(name)
            return status.get("StartedAt") != before.get("StartedAt") and status.get("State") == "completed"

        await eventually(completed, within=300, what=f"{name} is updated", every=0.05)
        await self.all_run(name, replicas)
        return time.monotonic() - start

    async def _update_status(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = await ask(self.manager, f"/services/{name}")
        return found.get("UpdateStatus") or {}

    async def remove(self, name: str) -> None:
        await self.manager.docker("service", "rm", name)

        async def gone() -> bool:
            left = [await host.docker("ps", "-aq", "--filter", f"name={name}") for host in self.hosts]
            return not any(left)

        await eventually(gone, within=60, what=f"{name} is gone")

    async def kill_one(self, host: Host, victim: str, name: str, replicas: int) -> None:
        """Kills one container of a service; returns when as many run again, another one among them."""
        await host.docker("kill", "-s", "KILL", victim)

        async def again() -> bool:
            now = await running(list(self.hosts), {"name": [name]})
            return victim not in now and len(now) == replicas

        await eventually(again, within=60, what="the container is replaced", every=0.02)


async def settle() -> None:
    """Lets the engines end what they are still doing, so that one round does not pay for the last."""
    await asyncio.sleep(2)
