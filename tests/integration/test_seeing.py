"""What a node says of itself: its proxy through agent and master, its figures at /metrics; and when it says nothing."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from common.errors import BadRequest, Unavailable
from node_agent.agent import NodeAgent
from node_agent.config import AgentConfig
from node_agent.metrics import METRICS
from node_agent.runtime.seam import Runtime
from node_agent.simulate import SimulatedNetwork
from node_agent.storage import Storage
from tests.integration.simulated import Cluster, eventually
from tests.ports import free_port

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with Cluster(tmp_path) as made:
        yield made


def with_proxy(config: AgentConfig, runtime: Runtime, storage: Storage) -> NodeAgent:
    async def token(known: bool) -> str:
        return config.token

    return NodeAgent(
        config,
        runtimes=lambda cluster: runtime,
        networks=lambda runtime, network: SimulatedNetwork(network),
        storage=storage,
        token=token,
    )


@contextlib.contextmanager
def proxy(config: AgentConfig) -> Iterator[psutil.Process]:
    """The node's proxy as a process of its own; dead after the block."""
    config.data.mkdir(parents=True, exist_ok=True)
    options = ["--socket", str(config.proxy_socket), "--data", str(config.data / "proxy"), "--workers", "1"]
    with subprocess.Popen([sys.executable, "-m", "proxy", *options], cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        try:
            yield psutil.Process(process.pid)
        finally:
            process.kill()


async def scrape(port: int) -> dict[str, float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
    body = (await reader.read()).decode().partition("\r\n\r\n")[2]
    writer.close()
    assert {line.split()[2] for line in body.splitlines() if "# TYPE" in line} == {metric.name for metric in METRICS}
    return {name: float(value) for name, value in re.findall(r"^([^#\s].*) (\S+)$", body, re.MULTILINE)}


async def test_a_node_tells_of_its_proxy(cluster: Cluster) -> None:
    node = cluster.node("node-1")
    streams = cluster.master.dispatcher.streams

    async def ask() -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(await streams.query("node-1", "proxy"))
        return answer

    with proxy(node.config) as process:
        node.start(with_proxy)
        await cluster.until_ready("node-1")
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(Unavailable):
                    said = await ask()
                    if said["complete"] and said["routes"]["applied"] == said["routes"]["revision"] > 0:
                        break
                await asyncio.sleep(0.05)
        assert said["node"] == "node-1" and said["counters"]["open"] == 0
        assert isinstance(said["listeners"], list) and isinstance(said["services"], list)
        process.kill()
        process.wait()
    with pytest.raises(Unavailable, match="the proxy does not run"):
        await ask()
    with pytest.raises(BadRequest, match='must be "network", "proxy" or "usage", got "weather"'):
        await streams.query("node-1", "weather")


async def test_a_node_without_proxy_says_so_and_a_silent_one_is_an_error_within_seconds(cluster: Cluster) -> None:
    node = cluster.node("node-1")
    node.start()
    await cluster.until_ready("node-1")
    streams = cluster.master.dispatcher.streams
    with pytest.raises(Unavailable, match="runs no proxy"):
        await streams.query("node-1", "proxy")
    cluster.line.silence()
    began = time.monotonic()
    with pytest.raises(Unavailable):
        await streams.query("node-1", "proxy")
    assert time.monotonic() - began < 30
    cluster.line.flow()
    with pytest.raises(Unavailable, match="not connected"):
        await streams.query("node-2", "proxy")


async def test_an_agent_is_scraped(cluster: Cluster) -> None:
    port = free_port()
    node = cluster.node("node-1")
    node.config = dataclasses.replace(node.config, metrics_listen=f"127.0.0.1:{port}")
    node.start()
    await cluster.until_ready("node-1")
    await cluster.master.pod("web", "node-1")
    await cluster.until_phase("Running", "web")
    seen = await scrape(port)
    assert node.agent is not None
    sessions = seen["sampan_agent_sessions_total"]
    assert seen["sampan_agent_session_up"] == 1 and 1 <= sessions <= node.agent.link.sessions
    assert seen['sampan_agent_pods{phase="Running"}'] == 1 and seen['sampan_agent_pods{phase="Failed"}'] == 0
    assert seen['sampan_agent_container_restarts_total{namespace="default",pod="web",container="c"}'] == 0
    assert seen["sampan_agent_assignments_revision"] == seen["sampan_agent_assignments_applied_revision"] > 0
    assert seen["sampan_agent_report_seconds_count"] > 0
    assert seen['sampan_agent_runtime_call_seconds_count{call="create_container"}'] == 1
    cluster.line.cut()
    async with asyncio.timeout(60):
        while (seen := await scrape(port))["sampan_agent_sessions_total"] <= sessions:
            await asyncio.sleep(0.05)
    await eventually(lambda: node.agent is not None and node.agent.link.connected)
