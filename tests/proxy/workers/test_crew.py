"""Several worker processes behind one control process: spread, killed, replaced, acknowledged together, taken over."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from proxy import storage
from proxy.table import table_to_json
from tests.proxy.support import Endpoints, connect, own_address, receive, route, send, table, until
from tests.proxy.test_main import running, served, started, told


async def status_of(directory: Path) -> dict[str, Any]:
    answer: dict[str, Any] = (await told(directory, {"status": {}}))["status"]
    return answer


async def workers_of(directory: Path) -> list[int]:
    return [worker["pid"] for worker in (await status_of(directory))["workers"] if not worker["retired"]]


def owner(pids: list[int], client: socket.socket) -> int:
    """The worker whose connection this is: the one in whose /proc the socket's inode is."""
    # Both ends: what another connection of the same port has left in TIME_WAIT has no inode.
    wanted = (client.getpeername(), client.getsockname())
    inode = ""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if (_place(words[1]), _place(words[2])) == wanted:
            inode = words[9]
    for pid in pids:
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            try:
                if os.readlink(fd) == f"socket:[{inode}]":
                    return pid
            except OSError:
                continue
    raise AssertionError(f"nobody has {wanted}")


def _place(text: str) -> tuple[str, int]:
    """An address as /proc/net/tcp writes it: hexadecimal, the last byte first."""
    ip, port = text.split(":")
    return socket.inet_ntoa(bytes.fromhex(ip)[::-1]), int(port, 16)


async def test_connections_spread_and_a_killed_worker_takes_only_its_own(tmp_path: Path, endpoints: Endpoints) -> None:
    place = (own_address(), 80)
    with running(tmp_path, "--workers", "2"):
        await started(tmp_path)
        held = table(route(*place, endpoints.places[:1]))
        assert (await told(tmp_path, {"snapshot": table_to_json(held)}))["applied"]["errors"] == []
        pids = await workers_of(tmp_path)
        assert len(pids) == 2
        pairs = [await served(place, endpoints) for _ in range(24)]
        by_pid: dict[int, list[tuple[socket.socket, socket.socket]]] = {pid: [] for pid in pids}
        for pair in pairs:
            by_pid[owner(pids, pair[0])].append(pair)
        assert all(by_pid.values()), "both carry some"
        counters = (await status_of(tmp_path))["counters"]
        assert (counters["accepted"], counters["open"]) == (24, 24)
        os.kill(pids[0], signal.SIGKILL)
        for _ in range(20):  # none is refused; who comes to the dead one's socket waits for its successor
            for sock in await served(place, endpoints):
                sock.close()
        for client, accepted in by_pid[pids[0]]:
            with pytest.raises((ConnectionResetError, AssertionError)):
                assert await receive(client, 1)
            accepted.close()
        for client, accepted in by_pid[pids[1]]:
            await send(client, b"still")
            assert await receive(accepted, 5) == b"still"
        again = await workers_of(tmp_path)
        assert len(again) == 2 and pids[1] in again and pids[0] not in again
        assert (await status_of(tmp_path))["counters"]["workersReplaced"] == 1
        for pair in pairs:
            for sock in pair:
                sock.close()


async def test_applied_is_said_when_all_have_applied(tmp_path: Path, endpoints: Endpoints) -> None:
    place = (own_address(), 80)
    with running(tmp_path, "--workers", "2"):
        await started(tmp_path)
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "proxy.sock"))
        first = table(route(*place, endpoints.places[:1]))
        writer.write(json.dumps({"snapshot": table_to_json(first)}).encode() + b"\n")
        assert "applied" in json.loads(await reader.readline())
        pids = await workers_of(tmp_path)
        os.kill(pids[0], signal.SIGSTOP)
        try:
            delta = {"epoch": "test", "base": first.revision, "revision": first.revision + 1, "upserts": []}
            writer.write(json.dumps({"delta": {**delta, "removed": ["default/web"]}}).encode() + b"\n")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await reader.readline()
        finally:
            os.kill(pids[0], signal.SIGCONT)
        async with asyncio.timeout(30):
            assert json.loads(await reader.readline())["applied"]["revision"] == first.revision + 1
        with pytest.raises(ConnectionRefusedError):
            await connect(place)
        writer.close()


async def test_a_dead_control_process_leaves_its_connections_and_frees_the_places(
    tmp_path: Path, endpoints: Endpoints
) -> None:
    place = (own_address(), 80)
    storage.save(tmp_path, table(route(*place, endpoints.places[:1])))
    with running(tmp_path, "--workers", "2") as process:
        await started(tmp_path)
        client, accepted = await served(place, endpoints)
        process.kill()
        process.wait()
        with running(tmp_path, "--workers", "2"):
            await started(tmp_path)
            for sock in await served(place, endpoints):
                sock.close()
            await send(client, b"still here")
            assert await receive(accepted, 10) == b"still here"
            client.close()
            accepted.close()


@pytest.mark.parametrize(("before", "after"), [(2, 2), (1, 1), (2, 1), (1, 2)])
async def test_takeover_refuses_nothing_and_keeps_connections(
    tmp_path: Path, endpoints: Endpoints, before: int, after: int
) -> None:
    place = (own_address(), 80)
    held = table(route(*place, endpoints.places[:1]))
    storage.save(tmp_path, held)
    with running(tmp_path, "--workers", str(before)) as old:
        await started(tmp_path)
        client, accepted = await served(place, endpoints)
        done = asyncio.Event()
        count = 0

        async def knock() -> None:
            nonlocal count
            while not done.is_set():
                for sock in await served(place, endpoints):
                    sock.close()
                count += 1

        async with asyncio.TaskGroup() as group:
            knocking = group.create_task(knock())
            with running(tmp_path, "--workers", str(after), "--takeover") as new:
                await until(lambda: _log(new, b"proxy.started"), "the new one serves", timeout=60)
                if before > 1:
                    await asyncio.to_thread(old.wait, 60)
                seen = count
                await until(lambda: count > seen + 5, "served by the new one")
                await send(client, b"old friend")
                assert await receive(accepted, 10) == b"old friend"
                # What drains is known to the new one too.
                assert (await told(tmp_path, {"snapshot": table_to_json(held)})).keys() == {"applied"}
                moved = table(route(*place, endpoints.places[:1]))
                assert "applied" in await told(tmp_path, {"snapshot": table_to_json(moved)})
                retired = [w for w in (await status_of(tmp_path))["workers"] if w["retired"]]
                assert retired, "the old one's worker is still looked after"
                done.set()
                await knocking
                client.close()
                accepted.close()
                if before == 1:
                    assert await asyncio.to_thread(old.wait, 60) == 0


def _log(process: Any, word: bytes) -> bool:
    """Whether the process has logged the word; what is read is kept beside the process."""
    os.set_blocking(process.stderr.fileno(), False)
    text = getattr(process, "seen", b"") + (process.stderr.read() or b"")
    process.seen = text
    return word in text


async def test_a_new_one_that_dies_half_way_changes_nothing(tmp_path: Path, endpoints: Endpoints) -> None:
    place = (own_address(), 80)
    storage.save(tmp_path, table(route(*place, endpoints.places[:1])))
    with running(tmp_path, "--workers", "2"):
        await started(tmp_path)
        _, writer = await asyncio.open_unix_connection(str(tmp_path / "proxy.sock"))
        writer.write(b'{"takeover": {"version": "x"}}\n')
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()
        for _ in range(5):
            for sock in await served(place, endpoints):
                sock.close()

        async def takes() -> bool:
            return "applied" in await told(tmp_path, {"snapshot": table_to_json(table())})

        async with asyncio.timeout(30):
            while True:
                try:
                    if await takes():
                        break
                except (OSError, ValueError):
                    await asyncio.sleep(0.02)


async def test_turns_are_strict_over_all_workers_and_a_death(tmp_path: Path, endpoints: Endpoints) -> None:
    place = (own_address(), 80)
    with running(tmp_path, "--workers", "2"):
        await started(tmp_path)
        held = table(route(*place, endpoints.places))
        assert (await told(tmp_path, {"snapshot": table_to_json(held)}))["applied"]["errors"] == []
        pids = await workers_of(tmp_path)
        order: list[int] = []
        owners: set[int] = set()

        async def one() -> None:
            client = await connect(place)
            async with asyncio.timeout(30):
                while not any(endpoints.waiting(index) for index in range(3)):
                    await asyncio.sleep(0.002)
            (index,) = [index for index in range(3) if endpoints.waiting(index)]
            order.append(index)
            accepted = await endpoints.accept(index)
            owners.add(owner(await workers_of(tmp_path), client))
            client.close()
            accepted.close()

        for _ in range(15):
            await one()
        os.kill(pids[1], signal.SIGKILL)
        for _ in range(15):
            await one()
        assert len(owners) >= 2, "more than one worker had a part"
        turns = [order.index(0), order.index(1), order.index(2)]
        assert sorted(turns) == [0, 1, 2]
        assert order == (order[:3] * 10), "strictly in turn"


async def test_a_killed_nursery_is_replaced_when_it_is_needed(tmp_path: Path, endpoints: Endpoints) -> None:
    place = (own_address(), 80)
    with running(tmp_path, "--workers", "2") as process:
        await started(tmp_path)
        held = table(route(*place, endpoints.places[:1]))
        assert (await told(tmp_path, {"snapshot": table_to_json(held)}))["applied"]["errors"] == []
        for _ in range(2):  # the second time it is one that was executed
            pids = await workers_of(tmp_path)
            (nursery,) = [pid for pid in children(process.pid) if _name(pid) == "proxy-nursery"]
            os.kill(nursery, signal.SIGKILL)
            os.kill(pids[0], signal.SIGKILL)

            async with asyncio.timeout(30):
                while True:
                    now = await workers_of(tmp_path)
                    if len(now) == 2 and pids[0] not in now and all(now):
                        break
                    await asyncio.sleep(0.01)
            for _ in range(8):
                for sock in await served(place, endpoints):
                    sock.close()
            assert not [pid for pid in children(process.pid) if _state(pid) == "Z"], "none is left unburied"


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
