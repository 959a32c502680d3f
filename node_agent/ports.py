"""What the agent needs of the network and of the container runtime, real or simulated."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from node_agent.network import NodeNetworkConfig, Peer
from node_agent.pods.model import PodNetwork
from node_agent.runtime.seam import Runtime

RuntimeFactory = Callable[[str], Runtime]
"""Makes the runtime for a cluster's name; "" while it is not known yet, then only `machine()` is called."""


class Network(Protocol):
    """See node_agent.network.NodeNetwork. Calls raise common.errors."""

    async def setup(self) -> object: ...

    async def set_peers(self, peers: Iterable[Peer]) -> None: ...

    async def reconcile(self) -> None: ...

    async def watch(self) -> None:
        """Does at once what new pods need of the network, until cancelled; or ends, having nothing to do."""

    def problems(self) -> tuple[str, ...]: ...

    async def describe(self) -> dict[str, Any]:
        """A JSON document of everything that was set up."""

    def holds(self, address: str) -> bool:
        """Whether the node has this address now."""

    def pod_network(self) -> PodNetwork: ...

    def addresses(self) -> list[str]: ...

    async def teardown(self) -> None: ...


NetworkFactory = Callable[[Runtime, NodeNetworkConfig], Network]
"""Makes the network of one node; nothing is set up before `setup()`."""
