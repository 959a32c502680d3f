"""`sampan-proxy` with services in the kernel: they outlive it, its successor finds them, `--forget` removes them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from common.routing import node_to_json, route_to_json
from tests.proxy.nft.test_kernel import VIP, asked, service
from tests.proxy.nft.world import HERE, NODE, World

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[3]


def command(world: World, directory: Path, *options: str) -> list[str]:
    inside = ["nsenter", f"--net=/run/netns/{world.node.name}", sys.executable, "-m", "proxy", "--workers", "1"]
    return [*inside, "--socket", str(directory / "proxy.sock"), "--data", str(directory), *options]


async def applied(directory: Path) -> dict[str, object]:
    """Hands over a table as soon as somebody takes it; what became of it."""
    async with asyncio.timeout(30):
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(str(directory / "proxy.sock"))
                break
            except OSError:
                await asyncio.sleep(0.05)
        routes = [route_to_json(service(*HERE, node_port=30080))]
        body = {"epoch": "e", "revision": 1, "node": node_to_json(NODE), "routes": routes}
        writer.write(json.dumps({"snapshot": body}).encode() + b"\n")
        while "applied" not in (answer := json.loads(await reader.readline())):
            pass
        writer.close()
        found: dict[str, object] = answer["applied"]
        return found


async def test_what_the_kernel_serves_outlives_the_process_until_it_shall_be_forgotten(
    shared_world: World, tmp_path: Path
) -> None:
    proxy = await asyncio.to_thread(subprocess.Popen, command(shared_world, tmp_path), cwd=ROOT)
    try:
        assert (await applied(tmp_path))["errors"] == []
        assert {(await asked(shared_world.pods[0], VIP, 80))[0] for _ in HERE} == set(HERE)
    finally:
        proxy.terminate()
        assert await asyncio.to_thread(proxy.wait, 20) == 0
    assert {(await asked(shared_world.pods[0], VIP, 80))[0] for _ in HERE} == set(HERE), "with nobody there"
    forgotten = await asyncio.to_thread(
        subprocess.run, command(shared_world, tmp_path, "--forget"), cwd=ROOT, capture_output=True, timeout=60
    )
    assert forgotten.returncode == 0, forgotten.stderr
    assert "sampan_n1" not in shared_world.node.nft("list", "tables")
