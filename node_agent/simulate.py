"""Many simulated nodes in one process, each with a real session: for scale runs, demos and tests."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from collections.abc import Callable, Iterable
from ipaddress import IPv4Network
from typing import Any

import structlog

from node_agent.agent import NodeAgent, Restart
from node_agent.config import AgentConfig
from node_agent.network import NodeNetworkConfig, Peer
from node_agent.pods.model import PodNetwork
from node_agent.runtime.seam import Runtime
from node_agent.runtime.simulated import SimulatedRuntime
from node_agent.session import first_failure
from node_agent.storage import FileStorage, Storage

log = structlog.get_logger()

# Sessions that are opened a second, so that a thousand nodes do not knock all at once.
JOINS_PER_SECOND = 200


@dataclasses.dataclass(frozen=True)
class SimulatedPodNetwork:
    """The addresses a node's pods get, as the real network hands them out; nothing is set up in the kernel."""

    name: str
    gateway: str
    subnet: str
    first: str
    last: str


class SimulatedNetwork:
    """Implements `ports.Network` without touching the machine; `peers` is what the node was told."""

    def __init__(self, config: NodeNetworkConfig) -> None:
        self._config = config
        self.peers: tuple[Peer, ...] = ()

    async def setup(self) -> None:
        return None

    async def set_peers(self, peers: Iterable[Peer]) -> None:
        self.peers = tuple(peers)

    def pod_network(self) -> PodNetwork:
        subnet = IPv4Network(self._config.pod_cidr)
        return SimulatedPodNetwork(
            name=f"sampan-{self._config.node}",
            gateway=str(subnet[1]),
            subnet=str(subnet),
            first=str(subnet[2]),
            last=str(subnet[-2]),
        )

    def addresses(self) -> list[str]:
        return [self._config.node_ip]

    async def reconcile(self) -> None:
        return None

    async def watch(self) -> None:
        return None

    def problems(self) -> tuple[str, ...]:
        return ()

    async def describe(self) -> dict[str, Any]:
        return {"node": self._config.node, "address": self._config.node_ip, "simulated": True}

    def holds(self, address: str) -> bool:
        return True

    async def teardown(self) -> None:
        self.peers = ()


class LastingRuntime(SimulatedRuntime):
    """A simulated engine that runs on when its agent ends, as a real one does."""

    async def close(self) -> None:
        return None


def node_configs(config: AgentConfig) -> list[AgentConfig]:
    """One config per node: NAME as it is for one, NAME-1 … NAME-N for more."""
    if config.simulate == 1:
        return [config]
    return [
        dataclasses.replace(config, name=f"{config.name}-{number}", data=config.data / str(number))
        for number in range(1, config.simulate + 1)
    ]


def simulated_agent(config: AgentConfig, runtime: Runtime, storage: Storage) -> NodeAgent:
    """An agent on a simulated runtime and network, with a real session."""

    async def token(known: bool) -> str:
        return config.token

    return NodeAgent(
        config,
        runtimes=lambda cluster: runtime,
        networks=lambda runtime, network: SimulatedNetwork(network),
        storage=storage,
        token=token,
        with_proxy=False,
    )


async def keep_running(config: AgentConfig, make: Callable[[], NodeAgent]) -> None:
    """One node's agent, begun anew when the master gives the node another identity."""
    while True:
        try:
            await make().run()
            return
        except Restart as error:
            log.warning("agent.restarts", node=config.name, cause=str(error))


async def run_simulated(config: AgentConfig) -> None:
    """Runs all nodes until cancelled; the first that fails for good ends them all."""
    from node_agent.__main__ import read_token

    token = await read_token(config, False)
    try:
        async with asyncio.TaskGroup() as group:
            for one in node_configs(dataclasses.replace(config, token=token)):
                engine, storage = LastingRuntime(node=one.name), FileStorage(one.data)
                make = functools.partial(simulated_agent, one, engine, storage)
                group.create_task(keep_running(one, make), name=f"node/{one.name}")
                await asyncio.sleep(1 / JOINS_PER_SECOND)
    except ExceptionGroup as failures:
        raise first_failure(failures) from None
