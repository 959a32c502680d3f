"""Nothing grows: a real master and 200 simulated nodes under constant change, with a table of what stays flat.

    python -m bench.soak [--minutes 10] [--nodes 200] [--quick]

Round after round: rollouts (good, crashing, with a bad image that is rolled back, for a changed ConfigMap, of a
DaemonSet), scalings, jobs, evictions, namespaces, watches, logs, commands and ports whose users walk away; probes flap,
nodes go and come, some as new and some never. Every step waits for the end of the one before it, so a slow machine does
fewer rounds and not more at once. At the end of a round, when all is quiet, the store's files, the objects by kind, and
memory, heaps, descriptors, threads and every table in memory of the master and of both agents' processes are read.

The first third of the rounds is compared with the last one, from where the store's history is full of what rounds
write. What the master remembers of pods is full before, by pods like no other. bench/soak_gauges.py has the bars, and
the table shows them. Exit code 1 when something is not flat, or when there were too few rounds to say so.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from rich.table import Table

from bench import report
from bench.soak_calls import Calls, counts
from bench.soak_gauges import LEAST_ROUNDS, MB, Verdict, allowance, bound, descriptors, files, judge, process, warmed_up
from bench.soak_inside import TABLES_FILE, run_agents
from bench.soak_load import TooSlow, Users
from bench.soak_quiet import MOVING, unsettled
from common.rpc import open_channel
from master.store.store import HISTORY_LIMIT
from protos.control_pb2_grpc import ControlPlaneStub
from tests.integration.master_process import MasterProcess

PROCESSES = 2
MOST_MINUTES = 60.0
JOINED_SECONDS = QUIET_SECONDS = 480.0
LOOK_AGAIN = 0.5
# What has just been told is still on its way into the store when all looks quiet.
SETTLE_SECONDS = 2.0
# A machine that does not do enough rounds in the time asked for gets so many times that.
MOST_TIMES = 4.0
# Entries of a table that are so few are not worth a line.
FEW = 5
# Per namespace: what master/api/events.py keeps, and how far beyond it goes between two looks, with many writing.
MOST_EVENTS = 1000 + 500
# So many changes after the first round began, the store's history is full of what rounds write: before, it grows.
FULL = int(HISTORY_LIMIT * 1.2)


class Soak:
    """One run: its processes, and a sample of each round."""

    def __init__(self, folder: Path, nodes: int) -> None:
        self._folder, self._nodes = folder, nodes
        self._agents: list[asyncio.subprocess.Process] = []
        self._pids: dict[str, int] = {}
        self._kinds: list[dict[str, Counter[str]]] = []
        self.samples: list[dict[str, float]] = []
        self.tables: list[dict[str, int]] = []
        self.users: Users | None = None
        # Changes written before the first round: what the history has of them is not what rounds write.
        self.before = 0

    async def run(self, seconds: float) -> None:
        """Raises TooSlow when something did not come to its end, CancelledError on SIGTERM; no process is left."""
        this = asyncio.current_task()
        assert this is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
        token = self._folder / "token"
        flags = ["--cluster-cidr", "10.0.0.0/12", "--log-level", "warning", "--bootstrap-token-file", str(token)]
        environ = {TABLES_FILE: str(self._table_file("master"))}
        data = self._folder / "data"
        async with MasterProcess(data, flags, module="bench.soak_inside", environ=environ) as master:
            self._pids["master"] = master.pid
            async with open_channel(master.address) as channel:
                calls = Calls(ControlPlaneStub(channel))
                users = self.users = Users(calls, scale=max(1, self._nodes // 25))
                try:
                    await users.fill()
                    await self._start_agents(master.address, token.read_text().strip())
                    await self._joined(calls)
                    await users.set_up()
                    await self._rounds(calls, users, data, seconds)
                finally:
                    await self._stop_agents()
                    (self._folder / "master.log").write_text(master.log())

    def _table_file(self, name: str) -> Path:
        return self._folder / f"{name}.tables"

    # -- processes ----------------------------------------------------------------------------

    async def _start_agents(self, master: str, token: str) -> None:
        share = self._nodes // PROCESSES
        for number in range(PROCESSES):
            name = f"agents-{number}"
            flags = ["--agents", f"{number * share}:{share}", "--master", master, "--token", token]
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "bench.soak",
                *flags,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={**os.environ, TABLES_FILE: str(self._table_file(name))},
            )
            self._agents.append(child)
            self._pids[name] = child.pid

    async def _stop_agents(self) -> None:
        for child in self._agents:
            if child.returncode is None:
                child.kill()
            await child.wait()

    async def _joined(self, calls: Calls) -> None:
        async with asyncio.timeout(JOINED_SECONDS):
            while len((await calls.everything(["Node"]))[0]["Node"]) < self._nodes // PROCESSES * PROCESSES:  # noqa: ASYNC110
                await asyncio.sleep(1)

    # -- rounds -------------------------------------------------------------------------------

    async def _rounds(self, calls: Calls, users: Users, data: Path, seconds: float) -> None:
        began = time.monotonic()
        await self._quiet(calls)
        self.before = (await calls.everything(["Node"]))[1]
        while True:
            turn = len(self.samples) + 1
            async with asyncio.TaskGroup() as group:
                group.create_task(users.round(turn), name="users")
                for child in self._agents:
                    group.create_task(self._machines(child, users, turn), name="machines")
            await self._quiet(calls)
            await self._sample(calls, data)
            over = time.monotonic() - began
            self._say(turn, over)
            enough = len(self.samples) - self.warm() >= LEAST_ROUNDS
            if over >= seconds and (enough or over >= seconds * MOST_TIMES):
                return
            # To be measured stops a process for a second, and on a busy machine for so long that its nodes are missed.
            await self._quiet(calls)

    async def _machines(self, child: asyncio.subprocess.Process, users: Users, turn: int) -> None:
        """Has nodes of one process go and come, and removes the one that has left for good."""
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write(f"{turn}\n".encode())
        await child.stdin.drain()
        line = await child.stdout.readline()
        if not line:
            raise TooSlow("a process of agents has ended")
        await users.remove_node(json.loads(line)["left"])
        users.done["node away"] += 4

    async def _quiet(self, calls: Calls) -> None:
        """Waits until everything that was asked for is there, twice in a row."""
        left: list[str] = []
        try:
            async with asyncio.timeout(QUIET_SECONDS):
                for _ in range(2):
                    while left := await self._unsettled(calls):  # noqa: ASYNC110
                        await asyncio.sleep(LOOK_AGAIN)
                    await asyncio.sleep(SETTLE_SECONDS / 2)
        except TimeoutError:
            raise TooSlow(f"not quiet within {QUIET_SECONDS:.0f} s: {', '.join(left)}") from None

    async def _unsettled(self, calls: Calls) -> list[str]:
        return unsettled((await calls.everything(MOVING))[0], self._nodes, "passing-")

    async def _sample(self, calls: Calls, data: Path) -> None:
        assert self.users is not None
        await self.users.leave_lists()
        found = files(data) | counts(*await calls.everything())
        found["operations"] = self.users.operations
        for name, pid in self._pids.items():
            found |= {f"{name} {what}": value for what, value in process(pid).items()}
        self._kinds.append({name: descriptors(pid) for name, pid in self._pids.items()})
        # Last: it collects garbage, and what memory comes to without that is not what users see.
        held, tables = await self._inside()
        self.samples.append(found | held)
        self.tables.append(tables)

    async def _inside(self) -> tuple[dict[str, float], dict[str, int]]:
        """Asks every process for its heaps and tables, and waits for the answers."""
        known = {name: len(self._lines(name)) for name in self._pids}
        for pid in self._pids.values():
            os.kill(pid, signal.SIGUSR1)
        heaps: dict[str, float] = {}
        found: dict[str, int] = {}
        async with asyncio.timeout(JOINED_SECONDS):
            for name, before in known.items():
                while len(lines := self._lines(name)) <= before:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
                line = json.loads(lines[-1])
                found |= {f"{name} {table}": size for table, size in line["tables"].items()}
                heaps |= {f"{name} {what}": float(size) for what, size in line["heaps"].items()}
        return heaps, found

    def _lines(self, name: str) -> list[str]:
        file = self._table_file(name)
        text = file.read_text() if file.exists() else ""
        # The last one may still be being written.
        return text.split("\n")[:-1]

    def _say(self, turn: int, over: float) -> None:
        now = self.samples[-1]
        memory = ", ".join(f"{name} {now[f'{name} memory'] / MB:.0f}" for name in self._pids)
        report.console.print(
            f"round {turn}, {over:4.0f} s: {now['operations']:.0f} operations, {now['revision']:.0f} writes, "
            f"{now['objects Pod']:.0f} pods, {now['objects Event']:.0f} events, MB: store {now['store.db'] / MB:.0f}, "
            f"{memory}"
        )

    # -- judging ------------------------------------------------------------------------------

    def warm(self) -> int:
        """Rounds that are not judged."""
        return warmed_up([sample["revision"] for sample in self.samples], self.before + FULL)

    def verdicts(self) -> dict[str, Verdict]:
        """Every figure but those that are meant to grow."""
        judged = self.samples[self.warm() :]
        names = dict.fromkeys(name for sample in judged for name in sample if name not in ("revision", "operations"))
        return {name: judge([sample.get(name, 0.0) for sample in judged], allowance(name)) for name in names}

    def table_verdicts(self) -> dict[str, Verdict]:
        """The tables in memory of each process."""
        judged = self.tables[self.warm() :]
        found: dict[str, Verdict] = {}
        for name in sorted({name for tables in judged for name in tables}):
            table = name.partition(" ")[2]
            values = [float(tables.get(name, 0)) for tables in judged]
            if max(values) > bound(name):
                found[name] = judge(values, allowance(table))
        return found

    def descriptor_kinds(self, name: str) -> str:
        """The descriptors of a process by kind, when judging began and at the end."""
        first, last = self._kinds[min(self.warm(), len(self._kinds) - 1)][name], self._kinds[-1][name]
        return ", ".join(f"{kind} {first[kind]} -> {last[kind]}" for kind in sorted(first | last))


def show(verdicts: dict[str, Verdict], title: str, operations: float, *, few: float = 0.0) -> None:
    columns = ("", "first third", "last third", "grew", "per 1,000 operations", "bar", "")
    table = Table(*columns, title=title, title_justify="left")
    for name, found in verdicts.items():
        if found.first < few and found.flat:
            continue
        size = name.endswith((" memory", " resident", " heap", "store.db", "store.db used", "wal"))
        unit, digits = (MB, ".1f") if size else (1.0, ".0f")
        table.add_row(
            name + (", MB" if size else ""),
            *(f"{value / unit:{digits}}" for value in (found.first, found.last)),
            f"{found.growth / unit:+{digits}}",
            f"{found.growth / unit / operations * 1000:+.2f}" if operations else "",
            f"+{found.bar / unit:{digits}}",
            "flat" if found.flat else "[bold]not flat[/bold]",
        )
    if table.row_count:
        report.console.print(table)


def conclude(soak: Soak, *, tables: bool) -> list[str]:
    """Prints everything; the names of what is not flat."""
    assert soak.users is not None
    warm, rounds = soak.warm(), len(soak.samples)
    done = ", ".join(f"{name} {count}" for name, count in sorted(soak.users.done.items()))
    report.console.print(f"done: {done}")
    report.console.print(f"refused and tried again: {dict(sorted(soak.users.refused.items()))}")
    if rounds - warm < LEAST_ROUNDS:
        report.console.print(
            f"[bold]too few rounds[/bold]: {rounds}, of which {warm} to warm up; a verdict needs "
            f"{LEAST_ROUNDS} more: give it more --minutes"
        )
        return ["nothing judged"]
    verdicts, held = soak.verdicts(), soak.table_verdicts()
    # From the middle of the first third to the middle of the last one.
    operations = (soak.samples[-1]["operations"] - soak.samples[warm]["operations"]) * 2 / 3
    title = f"{rounds - warm} rounds after {warm} to warm up, each measured when all was quiet again"
    show(verdicts, title, operations)
    odd = {name: found for name, found in held.items() if tables or not found.flat}
    flat = sum(found.flat for found in held.values())
    report.console.print(f"tables and types in memory: {len(held)} looked at, {flat} flat")
    show(odd, "tables in memory", operations, few=FEW)
    growing = [name for name, found in (verdicts | held).items() if not found.flat]
    for name in growing:
        if name.endswith(" descriptors"):
            report.console.print(f"{name}: {soak.descriptor_kinds(name.partition(' ')[0])}")
    if max(sample["objects Event in one namespace"] for sample in soak.samples) > MOST_EVENTS:
        growing.append("events of one namespace beyond their bound")
    return growing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long it churns (default 10, at most 60)")
    parser.add_argument("--nodes", type=int, default=200, help="simulated nodes (default 200)")
    parser.add_argument("--tables", action="store_true", help="also show the tables in memory that are flat")
    parser.add_argument("--keep", type=Path, help="keep the master's data and logs in this directory")
    parser.add_argument("--quick", action="store_true", help="50 nodes for two minutes: whether it works")
    parser.add_argument("--agents", help=argparse.SUPPRESS)
    parser.add_argument("--master", help=argparse.SUPPRESS)
    parser.add_argument("--token", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.agents:
        run_agents(options.master, options.token, options.agents)
        return 0
    if not 0 < options.minutes <= MOST_MINUTES:
        parser.error(f"--minutes must be more than 0 and at most {MOST_MINUTES:.0f}, got {options.minutes}")
    if options.nodes < 10 * PROCESSES:
        parser.error(f"--nodes must be {10 * PROCESSES} or more, got {options.nodes}")
    nodes, minutes = (50, 2.0) if options.quick else (options.nodes // PROCESSES * PROCESSES, options.minutes)
    report.heading(f"Soak: {nodes} simulated nodes in {PROCESSES} processes, {minutes:g} minutes of constant change")
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(options.keep or Path(folder), nodes)
        early = ""
        try:
            asyncio.run(soak.run(minutes * 60))
        except (TooSlow, ExceptionGroup) as error:
            if not isinstance(_first(error), TooSlow):
                raise
            early = str(_first(error))
        except asyncio.CancelledError:
            early = "it was told to end"
        growing = conclude(soak, tables=options.tables)
        if early:
            report.console.print(f"[bold]ended early[/bold]: {early}")
            growing.insert(0, "what it waited for")
    report.console.print(f"[bold]{'not flat: ' + ', '.join(growing) if growing else 'everything stays flat'}[/bold]")
    return 1 if growing else 0


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


if __name__ == "__main__":
    sys.exit(main())
