"""`sampan-proxy` as a process: serves its stored table without an agent, drains on SIGTERM, is lean."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from proxy import storage
from proxy.table import Table, table_to_json
from tests.proxy.support import Endpoints, connect, own_address, receive, route, send, table, until

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def running(directory: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "proxy", "--socket", str(directory / "proxy.sock"), "--data", str(directory)]
    with subprocess.Popen([*command, *options], cwd=ROOT, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


async def told(directory: Path, message: Any) -> dict[str, Any]:
    reader, writer = await asyncio.open_unix_connection(str(directory / "proxy.sock"), limit=1 << 24)
    writer.write(json.dumps(message).encode() + b"\n")
    answer: dict[str, Any] = json.loads(await reader.readline())
    writer.close()
    return answer


async def started(directory: Path) -> None:
    def answers() -> bool:
        with socket.socket(socket.AF_UNIX) as sock:
            return sock.connect_ex(str(directory / "proxy.sock")) == 0

    await until(answers, "the proxy listens for an agent", timeout=60)


async def served(place: tuple[str, int], endpoints: Endpoints) -> tuple[socket.socket, socket.socket]:
    client = await connect(place)
    accepted = await endpoints.accept(0)
    await send(accepted, b"hello")
    assert await receive(client, 5) == b"hello"
    return client, accepted


async def test_kill_9_start_again_and_drain(tmp_path: Path, endpoints: Endpoints) -> None:
    place = (own_address(), 80)
    held = table(route(*place, endpoints.places[:1]))
    with running(tmp_path) as process:
        await started(tmp_path)
        assert (await told(tmp_path, {"status": {}}))["status"]["complete"] is False
        assert (await told(tmp_path, {"snapshot": table_to_json(held)}))["applied"]["errors"] == []
        for sock in await served(place, endpoints):
            sock.close()
        await until(lambda: storage.load(tmp_path) == held, "the table is on disk")
        process.send_signal(signal.SIGKILL)
        process.wait()
    with running(tmp_path, "--drain", "120", "--log-json") as process:
        await started(tmp_path)
        status = (await told(tmp_path, {"status": {}}))["status"]
        assert (status["epoch"], status["revision"]) == (held.epoch, held.revision)
        client, accepted = await served(place, endpoints)
        process.send_signal(signal.SIGTERM)
        await until(lambda: not (tmp_path / "proxy.sock").exists(), "the proxy stops listening")
        with running(tmp_path):  # the next one need not wait for the draining one
            await started(tmp_path)
            for sock in await served(place, endpoints):
                sock.close()
        await send(client, b"last words")
        assert await receive(accepted, 10) == b"last words"
        client.close()
        accepted.close()
        assert await asyncio.to_thread(process.wait, 60) == 0
        assert process.stderr is not None
        events = [json.loads(line)["event"] for line in process.stderr.read().splitlines()]
        assert events[0] == "listener.open" and "proxy.draining" in events and events[-1] == "proxy.stopped"


async def test_a_second_signal_ends_the_draining(tmp_path: Path, endpoints: Endpoints) -> None:
    place = (own_address(), 80)
    storage.save(tmp_path, table(route(*place, endpoints.places[:1])))
    with running(tmp_path, "--drain", "600") as process:
        await started(tmp_path)
        client, accepted = await served(place, endpoints)
        process.send_signal(signal.SIGTERM)
        await until(lambda: not (tmp_path / "proxy.sock").exists(), "the proxy stops listening")
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 60) == 0
        client.close()
        accepted.close()


async def test_a_second_proxy_says_that_one_runs(tmp_path: Path) -> None:
    with running(tmp_path):
        await started(tmp_path)
        with running(tmp_path) as second:
            assert await asyncio.to_thread(second.wait, 60) == 1
            assert second.stderr is not None and b"another proxy runs" in second.stderr.read()


async def test_idle_memory(tmp_path: Path) -> None:
    storage.save(tmp_path, Table("e", 1))
    with running(tmp_path) as process:
        await started(tmp_path)
        resident = int(
            next(
                line.split()[1]
                for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
                if line.startswith("VmRSS")
            )
        )
        assert resident < 30_000, f"{resident} kB resident at idle"


def test_imports_are_lean() -> None:
    command = (
        "import sys, proxy.__main__; print([m for m in ('grpc', 'google', 'structlog', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_nursery_of_another_version_is_not_begun() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-m", "proxy", "--socket", "s", "--data", "d", "--nursery", "0.0.0-other"]
        run = subprocess.run(
            [*command, str(theirs.fileno())], pass_fds=[theirs.fileno()], capture_output=True, text=True, timeout=90
        )
    assert run.returncode == 1
    assert "--takeover" in run.stderr and "Traceback" not in run.stderr
