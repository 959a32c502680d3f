"""CPU is what was used between two readings; the first question takes both itself."""

from __future__ import annotations

import dataclasses

from common.errors import NotFound
from node_agent.runtime.seam import ContainerSpec, Identity, SandboxSpec, Usage
from node_agent.runtime.simulated import SimulatedRuntime
from node_agent.usage import UsageMeter


class Engine(SimulatedRuntime):
    """Containers that have used `cpu` seconds; those in `gone` end while they are looked at."""

    def __init__(self) -> None:
        super().__init__(images=("i",))
        self.cpu: dict[str, float] = {}
        self.gone: set[str] = set()
        self.asked = 0

    async def usage(self, id: str) -> Usage:
        self.asked += 1
        if id in self.gone:
            raise NotFound("it has gone")
        # Half a core, at the pace of the meter's own readings.
        self.cpu[id] = self.cpu.get(id, 0.0) + 0.5
        return Usage(self.cpu[id], 1000)

    async def run(self, pod: str) -> str:
        identity = Identity("simulated", "node", "default", pod, f"uid-{pod}")
        sandbox = await self.create_sandbox(SandboxSpec(identity, pod, ""))
        await self.start(sandbox)
        spec = ContainerSpec(dataclasses.replace(identity, container="c", sandbox=sandbox), "i")
        id = await self.create_container(spec)
        await self.start(id)
        return id


class Clock:
    """One second from each look to the next."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


async def test_two_readings_at_first_then_one() -> None:
    engine = Engine()
    await engine.run("a")
    meter = UsageMeter(engine, "n1", Clock())
    first = await meter.measure()
    assert engine.asked == 2
    assert first["node"] == "n1" and [pod["name"] for pod in first["pods"]] == ["a"]
    (container,) = first["pods"][0]["containers"]
    assert container["name"] == "c" and 0 < container["cpu"] <= 0.5 and container["memory"] == 1000
    second = await meter.measure()
    assert engine.asked == 3 and 0 < second["pods"][0]["containers"][0]["cpu"] <= 0.5


async def test_what_ends_meanwhile_is_left_out_and_forgotten() -> None:
    engine = Engine()
    kept, gone = await engine.run("a"), await engine.run("b")
    engine.gone.add(gone)
    meter = UsageMeter(engine, "n1", Clock())
    assert [pod["name"] for pod in (await meter.measure())["pods"]] == ["a"]
    await engine.remove(kept)
    await engine.remove(gone)
    assert (await meter.measure())["pods"] == []
