"""Runs a NodeNetwork inside whatever network namespace this process is started in; commands as JSON lines on stdin.

The container engine is left out: the pods' network is a bridge made with `ip`, for both forms of node.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import subprocess
import sys
from typing import Any

from common.errors import SampanError
from common.tasks import Tasks
from node_agent.network import (
    NetworkSpec,
    NodeNetwork,
    NodeNetworkConfig,
    Peer,
    SelfContainer,
    SelfEndpoint,
)


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


class BridgeRuntime:
    """A NetworkRuntime of plain bridges; in the container form the bridge itself is the agent's interface."""

    def __init__(self, *, in_container: bool, outside: str) -> None:
        self._in_container = in_container
        self._outside = outside
        self._spec: NetworkSpec | None = None
        self._own = ""

    @staticmethod
    def _exists(name: str) -> bool:
        return subprocess.run(["ip", "link", "show", name], capture_output=True).returncode == 0

    async def ensure_network(self, spec: NetworkSpec) -> None:
        self._spec = spec
        bridge = spec.options["com.docker.network.bridge.name"]
        if not self._exists(bridge):
            ip("link", "add", bridge, "type", "bridge")
            ip("link", "set", bridge, "up")
        prefix = spec.subnet.split("/")[1]
        if not self._in_container:
            ip("addr", "replace", f"{spec.gateway}/{prefix}", "dev", bridge)

    async def network_bridge(self, name: str) -> str:
        assert self._spec is not None and self._spec.name == name
        return self._spec.options["com.docker.network.bridge.name"]

    async def connect_self(self, network: str, ip_address: str) -> None:
        bridge = await self.network_bridge(network)
        assert self._spec is not None
        ip("addr", "replace", f"{ip_address}/{self._spec.subnet.split('/')[1]}", "dev", bridge)
        self._own = ip_address

    async def self_container(self) -> SelfContainer | None:
        if not self._in_container:
            return None
        assert self._spec is not None
        networks = {
            self._spec.name: SelfEndpoint(self._own, self._spec.aux_gateway or ""),
            "outside": SelfEndpoint("", self._outside),
        }
        return SelfContainer("test", networks)

    async def remove_network(self, name: str) -> None:
        bridge = await self.network_bridge(name)
        if self._exists(bridge):
            ip("link", "delete", bridge)


async def run(config: dict[str, Any], outside: str) -> None:
    runtime = BridgeRuntime(in_container=config["in_container"], outside=outside)
    network = NodeNetwork(runtime, NodeNetworkConfig(**config))
    tasks = Tasks("node")
    tasks.start("watch", network.watch())
    while line := await asyncio.to_thread(sys.stdin.readline):
        command = json.loads(line)
        answer: Any = None
        try:
            match command["do"]:
                case "setup":
                    answer = dataclasses.asdict(await network.setup())
                case "peers":
                    await network.set_peers([Peer(**peer) for peer in command["peers"]])
                case "reconcile":
                    await network.reconcile()
                case "addresses":
                    answer = network.addresses()
                case "describe":
                    answer = await network.describe()
                case "problems":
                    answer = list(network.problems())
                case "teardown":
                    await network.teardown()
            print(json.dumps({"answer": answer}), flush=True)
        except SampanError as error:
            print(json.dumps({"error": f"{type(error).__name__}: {error}"}), flush=True)
    await tasks.close()


if __name__ == "__main__":
    import structlog

    logging.basicConfig(stream=sys.stderr)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(run(json.loads(sys.argv[1]), sys.argv[2]))
