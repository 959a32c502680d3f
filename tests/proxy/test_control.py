"""The agent's socket: snapshots, deltas, gaps, the latest agent, bad input, and what a dead proxy leaves behind."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from common.routing import route_to_json
from proxy import storage
from proxy.control import AlreadyRunning, Control
from proxy.server import Proxy
from proxy.storage import Saver
from proxy.table import table_to_json
from tests.proxy.support import Endpoints, connect, own_address, route, table, until


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        # What was told last of removed endpoints' connections.
        self.drained: list[list[Any]] = []

    @classmethod
    async def connect(cls, path: Path) -> Client:
        return cls(*await asyncio.open_unix_connection(str(path), limit=1 << 26))

    async def send(self, message: Any) -> None:
        self.writer.write(message if isinstance(message, bytes) else json.dumps(message).encode() + b"\n")
        await self.writer.drain()

    async def next(self) -> dict[str, Any] | None:
        async with asyncio.timeout(30):
            while line := await self._reader.readline():
                message: dict[str, Any] = json.loads(line)
                if "draining" not in message:
                    return message
                self.drained = message["draining"]
        return None

    async def ask(self, message: Any) -> dict[str, Any] | None:
        await self.send(message)
        return await self.next()

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            pass


@pytest.fixture
async def socket_path(proxy: Proxy, tmp_path: Path) -> AsyncIterator[Path]:
    saver = Saver(tmp_path)
    control = Control(tmp_path / "proxy.sock", proxy, saver)
    control.claim()
    await control.start()
    yield tmp_path / "proxy.sock"
    control.close()
    await saver.close()
    assert not (tmp_path / "proxy.sock").exists()


async def test_snapshot_delta_gap(proxy: Proxy, socket_path: Path, endpoints: Endpoints) -> None:
    first, second = own_address(), own_address()
    agent = await Client.connect(socket_path)
    delta = {
        "epoch": "e",
        "base": 5,
        "revision": 6,
        "upserts": [route_to_json(route(second, 80, endpoints.places, key="a/two"))],
        "removed": ["a/one"],
    }
    assert await agent.ask({"delta": delta}) == {"resync": {}}
    assert proxy.table is None
    one = route_to_json(route(first, 80, endpoints.places, key="a/one"))
    snapshot = {"epoch": "e", "revision": 5, "addresses": [], "routes": [one]}
    assert await agent.ask({"snapshot": snapshot}) == {"applied": {"epoch": "e", "revision": 5, "errors": []}}
    (await connect((first, 80))).close()
    assert await agent.ask({"delta": delta}) == {"applied": {"epoch": "e", "revision": 6, "errors": []}}
    (await connect((second, 80))).close()
    with pytest.raises(ConnectionRefusedError):
        await connect((first, 80))
    assert await agent.ask({"delta": {**delta, "base": 7, "revision": 8}}) == {"resync": {}}
    assert await agent.ask({"delta": {**delta, "epoch": "f", "base": 6, "revision": 7}}) == {"resync": {}}
    (await connect((second, 80))).close()
    assert proxy.table is not None and proxy.table.revision == 6
    await agent.close()


async def test_the_socket_is_for_its_owner_only(socket_path: Path) -> None:
    assert stat.S_IMODE(socket_path.stat().st_mode) == 0o600


async def test_the_latest_agent_wins_and_status_is_nobodys_agent(proxy: Proxy, socket_path: Path) -> None:
    old, new, looker = [await Client.connect(socket_path) for _ in range(3)]
    assert await old.ask({"snapshot": table_to_json(table())})
    status = await looker.ask({"status": {}})
    assert status is not None and status["status"]["complete"] is True
    assert await old.ask({"snapshot": table_to_json(table())}), "looking does not take the agent's place"
    assert await new.ask({"snapshot": table_to_json(table())})
    try:
        assert await old.next() is None
    except ConnectionResetError:
        pass
    assert await looker.ask({"status": {}})
    for client in (old, new, looker):
        await client.close()


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (b"not json\n", "JSON"),
        (b"[1]\n", "one field"),
        ({"unknown": {}}, "snapshot, delta or status"),
        ({"snapshot": []}, "snapshot"),
        ({"snapshot": {"epoch": "e", "revision": 1, "addresses": ["nonsense"], "routes": []}}, "addresses"),
        ({"snapshot": {"epoch": "e", "revision": 1, "addresses": [], "routes": [{"key": "a/b"}]}}, "a/b"),
        ({"delta": {"epoch": "e", "revision": 1}}, "base"),
    ],
)
async def test_bad_messages_are_named_and_change_nothing(
    proxy: Proxy, socket_path: Path, message: Any, said: str
) -> None:
    held = table()
    proxy.apply(held)
    client = await Client.connect(socket_path)
    answer = await client.ask(message)
    assert answer is not None and said in answer["error"]["message"]
    assert await client.next() is None
    assert proxy.table is held
    await client.close()


async def test_errors_are_told_and_told_again_when_they_go(socket_path: Path, endpoints: Endpoints) -> None:
    address = own_address()
    holder = await asyncio.start_server(lambda r, w: w.close(), address, 80)
    agent = await Client.connect(socket_path)
    held = table(route(address, 80, endpoints.places))
    answer = await agent.ask({"snapshot": table_to_json(held)})
    assert answer is not None
    (error,) = answer["applied"]["errors"]
    assert error["key"] == "default/web" and error["uid"] == "uid-default/web"
    assert (error["address"], error["port"]) == (address, 80) and "in use" in error["message"]
    holder.close()
    await holder.wait_closed()
    again = await agent.next()
    assert again == {"applied": {"epoch": "test", "revision": held.revision, "errors": []}}
    await agent.close()


async def test_one_proxy_a_socket_and_a_dead_ones_file_is_replaced(
    proxy: Proxy, socket_path: Path, tmp_path: Path
) -> None:
    with pytest.raises(AlreadyRunning):
        Control(socket_path, proxy, Saver(tmp_path)).claim()
    other = tmp_path / "stale.sock"
    dead = await asyncio.start_unix_server(lambda r, w: w.close(), str(other))
    dead.close()
    assert other.exists()
    control = Control(other, proxy, Saver(tmp_path))
    control.claim()
    await control.start()
    client = await Client.connect(other)
    assert await client.ask({"status": {}})
    await client.close()
    control.close()


async def test_a_large_table_fits_in_a_line(proxy: Proxy, socket_path: Path, tmp_path: Path) -> None:
    held = table(*(route("", 80, [(f"10.0.{n % 250}.{m}", 80) for m in range(10)], key=f"a/{n}") for n in range(2000)))
    agent = await Client.connect(socket_path)
    assert await agent.ask({"snapshot": table_to_json(held)}) is not None
    assert proxy.table == held
    await until(lambda: storage.load(tmp_path) == held, "the table is on disk")
    await agent.close()


async def test_what_drains_is_told_before_the_acknowledgement_and_when_it_ends(
    proxy: Proxy, socket_path: Path, endpoints: Endpoints
) -> None:
    address = own_address()
    agent = await Client.connect(socket_path)
    await agent.ask({"snapshot": table_to_json(table(route(address, 80, endpoints.places[:1])))})
    clients = [await connect((address, 80)) for _ in range(3)]
    accepted = [await endpoints.accept(0) for _ in clients]
    await until(lambda: len(proxy._context.open) == 3, "relayed")
    left = await agent.ask({"snapshot": table_to_json(table(route(address, 80, endpoints.places[1:2])))})
    assert left is not None and "applied" in left
    assert agent.drained == [[*endpoints.places[0], 3]]
    for sock in [*clients, *accepted]:
        sock.close()
    await until(lambda: not proxy.draining(), "drained")
    await asyncio.sleep(0)
    reading = asyncio.get_running_loop().time() + 5
    while agent.drained:
        assert asyncio.get_running_loop().time() < reading
        line = await agent._reader.readline()
        agent.drained = json.loads(line)["draining"]
    await agent.close()
