"""The processes of the soak: agents that come and go, the master, and an eye on the tables in both.

On SIGUSR1 either process writes a line with the length of every dict, set, list and deque that objects of ours hold,
summed over the objects of one class: what grows without end in memory has a name then. With it go the sizes of the two
heaps, Python's and the C library's, as far as somebody holds what is in them. Garbage is collected before, so that only
that is counted; how much it was is told, too.
"""

from __future__ import annotations

import asyncio
import ctypes
import dataclasses
import gc
import json
import os
import random
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import structlog

from common import heap, logs
from common.tasks import Tasks
from node_agent.agent import NodeAgent
from node_agent.config import AgentConfig
from node_agent.runtime.script import Answer, Asked, Behaviour, Script
from node_agent.runtime.seam import ContainerSpec
from node_agent.simulate import LastingRuntime, keep_running, simulated_agent
from node_agent.storage import MemoryStorage

TABLES_FILE = "SAMPAN_SOAK_TABLES"
IMAGES = tuple(f"app:{number}" for number in range(10))
OURS = ("master.", "node_agent.", "common.", "proxy.")
# Seconds an agent stays away: shorter than the time-outs, and long enough that its pods are replaced.
SHORT, LONG = 2.0, 18.0
JOIN_SECONDS = 0.01
CONNECTED_SECONDS = 0.1


# -- tables -----------------------------------------------------------------------------------


def watch_tables(path: Path) -> None:
    """From now on SIGUSR1 adds a line to the file."""

    def dump(*_: object) -> None:
        # What was there at the start is kept out of collections (common/heap.py), and with that out of sight.
        gc.unfreeze()
        garbage = gc.collect()
        held = heaps()
        line = json.dumps({"at": time.time(), "heaps": held, "tables": tables() | {"type garbage": garbage}})
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, line.encode() + b"\n")
        finally:
            os.close(descriptor)

    signal.signal(signal.SIGUSR1, dump)


class _Mallinfo2(ctypes.Structure):
    """malloc.h; `uordblks` and `hblkhd` are the bytes in use in the heap and beside it."""

    _NAMES = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    _fields_ = [(name, ctypes.c_size_t) for name in _NAMES]


def heaps() -> dict[str, int]:
    """Memory blocks of Python's own heap (up to 512 bytes each) that are in use, and bytes of the C library's heap,
    where larger ones, messages and gRPC are; unlike memory itself without what is free between them."""
    found = {"blocks": sys.getallocatedblocks()}
    mallinfo2 = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo2 is not None:  # glibc 2.33 and later
        mallinfo2.restype = _Mallinfo2
        info = mallinfo2()
        found["heap"] = info.uordblks + info.hblkhd
    return found


def tables() -> dict[str, int]:
    """Lengths by `module.Class.attribute`, how many objects of each type, and how many tasks there are."""
    found: Counter[str] = Counter()
    for obj in gc.get_objects():
        kind = type(obj)
        found[f"type {kind.__module__}.{kind.__qualname__}"] += 1
        if str(getattr(kind, "__module__", "")).startswith(OURS):
            for name, held in _attributes(obj):
                if isinstance(held, dict | set | list | deque) and len(held):
                    found[f"{kind.__module__}.{kind.__qualname__}.{name}"] += len(held)
    found["asyncio.tasks"] = len(asyncio.all_tasks(asyncio.get_running_loop()))
    return dict(found)


def _attributes(obj: Any) -> Iterator[tuple[str, Any]]:
    # By name where the names are known: to ask a small object for its __dict__ makes one, which then stays.
    if dataclasses.is_dataclass(obj):
        for field in dataclasses.fields(obj):
            yield field.name, getattr(obj, field.name, None)
        return
    if hasattr(obj, "__dict__"):
        yield from vars(obj).items()
    for name in getattr(type(obj), "__slots__", ()):
        yield name, getattr(obj, name, None)


# -- agents -----------------------------------------------------------------------------------


def behave(spec: ContainerSpec) -> Behaviour:
    word = spec.image.partition(":")[0]
    if word == "crash":
        return Behaviour(exits_after=0.5, exit_code=7, lines=("opening", "no such table"), message="no such table")
    if word == "work":
        return Behaviour(exits_after=1.0, lines=("done",))
    if word == "fail":
        return Behaviour(exits_after=1.0, exit_code=3)
    return Behaviour(lines=("ready",))


def answer(asked: Asked) -> Answer:
    """A page /flap that is well nine tenths of the time, each pod at another time, so that rollouts come to their end;
    /live fails now and then for long enough that the container is restarted, /crash always; commands run until they are
    left."""
    turn = int(time.time() / 8 + crc32(asked.container.uid.encode()))
    if asked.what == "exec":
        return Answer(output="here", seconds=3600)
    if asked.what != "http":
        return Answer(echoes=True)
    if "crash" in asked.detail:
        return Answer(code=500)
    sick = ("flap" in asked.detail and turn % 10 == 0) or ("live" in asked.detail and turn % 16 == 0)
    return Answer(code=500 if sick else 200)


class Node:
    """A node whose agent comes and goes. Its engine and disk stay, unless it is set up anew."""

    def __init__(self, config: AgentConfig, tasks: Tasks) -> None:
        self._config, self._tasks = config, tasks
        self._task: asyncio.Task[None] | None = None
        self._agent: NodeAgent | None = None
        self.empty()

    @property
    def name(self) -> str:
        return self._config.name

    def empty(self) -> None:
        """As a machine that was reinstalled: nothing on its disk, no container."""
        script = Script(behave=behave, answer=answer)
        self._engine = LastingRuntime(node=self._config.name, script=script, images=IMAGES)
        self._disk = MemoryStorage()

    def start(self) -> None:
        one, engine, disk = self._config, self._engine, self._disk

        def agent() -> NodeAgent:
            self._agent = simulated_agent(one, engine, disk)
            return self._agent

        self._task = self._tasks.start(one.name, keep_running(one, agent))

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._agent = None

    async def connected(self) -> None:
        """Waits for a session."""
        while self._agent is None or not self._agent.link.connected:  # noqa: ASYNC110
            await asyncio.sleep(CONNECTED_SECONDS)


class Machines:
    """The nodes of one process; a round takes some away, which come back, one as new, and one never."""

    def __init__(self, master: str, token: str, first: int, count: int) -> None:
        self._master, self._token, self._first = master, token, first
        self._tasks = Tasks("nodes")
        self._nodes = [self._node(f"n{number}", number) for number in range(first, first + count)]

    def _node(self, name: str, number: int) -> Node:
        address = f"192.0.2.{number % 250 + 1}"
        config = AgentConfig(
            name, self._master, Path("/nowhere"), token=self._token, runtime="simulated", node_ip=address
        )
        return Node(config, self._tasks)

    async def start(self) -> None:
        for node in self._nodes:
            node.start()
            await asyncio.sleep(JOIN_SECONDS)

    async def round(self, turn: int) -> str:
        """Ends when every node is connected again. The name of the node that has left for good."""
        chosen = random.Random(turn * 1000 + self._first).sample(range(len(self._nodes)), 5)
        left = self._nodes[chosen[0]].name
        async with asyncio.TaskGroup() as group:
            group.create_task(self._replace(chosen[0], turn))
            group.create_task(self._away(self._nodes[chosen[1]], LONG, empty=True))
            group.create_task(self._away(self._nodes[chosen[2]], LONG))
            for at in chosen[3:]:
                group.create_task(self._away(self._nodes[at], SHORT))
        for node in self._nodes:
            await node.connected()
        return left

    async def _replace(self, at: int, turn: int) -> None:
        """Gone for good: another machine of another name comes instead."""
        await self._nodes[at].stop()
        self._nodes[at] = self._node(f"n{self._first + at}-{turn}", self._first + at)
        self._nodes[at].start()

    async def _away(self, node: Node, seconds: float, *, empty: bool = False) -> None:
        await node.stop()
        await asyncio.sleep(seconds)
        if empty:
            node.empty()
        node.start()
        await node.connected()


async def _agents(master: str, token: str, first: int, count: int) -> None:
    """Runs agents until the process is killed; each line on its input is the number of a round, each on its output
    says that it is over."""
    watch_tables(Path(os.environ[TABLES_FILE]))
    machines = Machines(master, token, first, count)
    await machines.start()
    while line := await asyncio.to_thread(sys.stdin.readline):
        left = await machines.round(int(line))
        sys.stdout.write(json.dumps({"round": int(line), "left": left}) + "\n")
        sys.stdout.flush()


def run_agents(master: str, token: str, share: str) -> None:
    """`share` is FIRST:COUNT."""
    heap.one_heap()
    logs.configure(role="agent", level="error")
    structlog.contextvars.clear_contextvars()
    first, count = (int(part) for part in share.split(":"))
    asyncio.run(_agents(master, token, first, count))


def run_master() -> None:
    """The master as `python -m master` runs it; its flags are those of this process."""
    watch_tables(Path(os.environ[TABLES_FILE]))
    from master.__main__ import main

    main()


if __name__ == "__main__":
    run_master()
