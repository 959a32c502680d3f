"""Proxies with few descriptors: what does not fit is told and tried again, everything else is served."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from common.routing import Route
from proxy.table import Table, table_to_json
from tests.proxy.support import Endpoints, connect, own_address, receive, route, send, table, until
from tests.proxy.test_main import ROOT, served, started, told
from tests.proxy.workers.test_crew import status_of, workers_of


@contextlib.contextmanager
def limited(directory: Path, descriptors: int, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A proxy whose processes may have so many descriptors, and no way to have more."""
    command = [sys.executable, "-m", "proxy", "--socket", str(directory / "proxy.sock"), "--data", str(directory)]
    shell = ["sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh"]
    with subprocess.Popen([*shell, *command, *options], cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


class Agent:
    """A node's agent on the proxy's socket: gives tables, keeps the latest acknowledgement."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    @contextlib.asynccontextmanager
    async def at(cls, directory: Path) -> AsyncIterator[Agent]:
        reader, writer = await asyncio.open_unix_connection(str(directory / "proxy.sock"), limit=1 << 24)
        try:
            yield cls(reader, writer)
        finally:
            writer.close()

    async def give(self, held: Table) -> list[dict[str, Any]]:
        """The errors of this table's acknowledgement."""
        self._writer.write(json.dumps({"snapshot": table_to_json(held)}).encode() + b"\n")
        return await self.errors(held.revision)

    async def errors(self, revision: int = 0) -> list[dict[str, Any]]:
        """Those of the next acknowledgement."""
        async with asyncio.timeout(60):
            while True:
                applied = json.loads(await self._reader.readline()).get("applied")
                if applied and applied["revision"] >= revision:
                    return list(applied["errors"])


def services(endpoints: Endpoints, names: range) -> list[Route]:
    return [route(own_address(), 80, endpoints.places[:1], key=f"default/s{name:03}") for name in names]


async def all_answer(routes: list[Route], endpoints: Endpoints) -> None:
    for one in routes:
        for sock in await served((one.cluster_ip, 80), endpoints):
            sock.close()


@pytest.mark.parametrize("workers", [1, 2])
async def test_places_beyond_the_limit_are_told_and_served_later(
    tmp_path: Path, endpoints: Endpoints, workers: int
) -> None:
    routes = services(endpoints, range(300))
    with limited(tmp_path, 256, "--workers", str(workers)) as process:
        await started(tmp_path)
        async with Agent.at(tmp_path) as agent:
            # With one worker, more than half of the limit: a place costs one descriptor, not two.
            assert await agent.give(table(*routes[:150])) == []
            if workers == 1:
                assert len(os.listdir(f"/proc/{process.pid}/fd")) < 190
            await all_answer(routes[:150], endpoints)
            errors = await agent.give(table(*routes))
            told_of = {error["key"] for error in errors}
            assert 108 <= len(told_of) < 150
            assert all("raise the limit of open files (256)" in error["message"] for error in errors), errors[0]
            assert all(error["port"] == 80 and error["uid"] == f"uid-{error['key']}" for error in errors), errors[0]
            await all_answer([one for one in routes if one.key not in told_of], endpoints)
            assert {one["key"] for one in (await status_of(tmp_path))["listeners"] if one["error"]} == told_of
            # Room for some: those that waited are served without being asked for again.
            waits = await agent.give(table(*routes[160:]))
            while waits:
                waits = await agent.errors()
            await all_answer(routes[160:], endpoints)


async def test_a_worker_without_descriptors_gets_its_places_when_it_has_some(
    tmp_path: Path, endpoints: Endpoints
) -> None:
    first, *others = services(endpoints, range(16))
    with limited(tmp_path, 72, "--workers", "2"):
        await started(tmp_path)
        async with Agent.at(tmp_path) as agent:
            assert await agent.give(table(first)) == []
            pids = await workers_of(tmp_path)
            clients: list[socket.socket] = []

            def full() -> bool:
                return all(len(os.listdir(f"/proc/{pid}/fd")) >= 71 for pid in pids)

            async with asyncio.timeout(60):
                while not full():
                    clients.append(await connect((first.cluster_ip, 80)))
                    await asyncio.sleep(0.002)
            # Either each acknowledgement is right, or the one after it.
            errors = await agent.give(table(first, *others)) or await agent.errors()
            # A worker may have had one or two left.
            missing = {error["key"] for error in errors}
            assert missing <= {one.key for one in others} and len(missing) >= len(others) - 4
            assert all("a worker has no descriptor left" in error["message"] for error in errors)
            assert await workers_of(tmp_path) == pids, "nobody died of it"
            for client in clients:
                client.close()
            for _ in range(len(clients)):
                if not endpoints.waiting():
                    break
                (await endpoints.accept()).close()
            while await agent.errors():
                pass
            while endpoints.waiting():
                (await endpoints.accept()).close()
            await all_answer([first, *others], endpoints)
            assert await workers_of(tmp_path) == pids


async def test_a_taken_over_place_costs_no_second_descriptor(tmp_path: Path, endpoints: Endpoints) -> None:
    routes = services(endpoints, range(120))
    held = table(*routes)
    with limited(tmp_path, 256, "--workers", "1") as old:
        await started(tmp_path)
        assert (await told(tmp_path, {"snapshot": table_to_json(held)}))["applied"]["errors"] == []
        client, accepted = await served((routes[0].cluster_ip, 80), endpoints)
        # 120 descriptors arrive where fewer have room: the others are opened as room is there, or told.
        with limited(tmp_path, 128, "--workers", "1", "--takeover") as new:
            await until(lambda: not _listens(old.pid), "the old one listens no more", timeout=60)
            await started(tmp_path)
            async with Agent.at(tmp_path) as agent:
                errors = await agent.give(held)
                missing = {error["key"] for error in errors}
                # Three quarters of the limit listen, no more: the others would be missing where clients are accepted.
                assert len(missing) == 120 - 96
                assert len(os.listdir(f"/proc/{new.pid}/fd")) < 115
                await send(client, b"old friend")
                assert await receive(accepted, 10) == b"old friend"
                await all_answer([one for one in routes if one.key not in missing], endpoints)
                client.close()
                accepted.close()


def _listens(pid: int) -> bool:
    """Whether the process has a TCP socket that listens."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = {f"socket:[{words[9]}]" for words in lines if words[3] == "0A"}
    for fd in Path(f"/proc/{pid}/fd").iterdir() if Path(f"/proc/{pid}").exists() else ():
        with contextlib.suppress(OSError):
            if os.readlink(fd) in listening:
                return True
    return False
