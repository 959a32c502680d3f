"""A whole Sampan cluster on real Docker hosts: `async with Cluster(hosts=3) as cluster`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import grpc.aio

from common.rpc import open_channel
from tests.harness.commands import eventually, run
from tests.harness.hosts import Host, Hosts
from tests.harness.images import BUSYBOX
from tests.harness.parts import BIN, Master, Node, clean_environment

__all__ = ["Cluster", "Master", "Node"]


class Cluster:
    """A master and `hosts` nodes, all Ready when the block begins; nothing of it is left when it ends.

    `images` are loaded into every host first. `master_options` and `node_options` are further words for
    sampan-master and every sampan-node. `links` and `mtu` as for `Hosts`; the master is on the first link.
    `start_nodes=False` leaves the nodes to the test
    (`cluster.nodes[0].start()`). When the block ends by an error, the ends of all logs go to stderr.
    """

    def __init__(
        self,
        hosts: int = 3,
        *,
        name: str = "test",
        images: Sequence[str] = (BUSYBOX,),
        engine_options: Sequence[str] = (),
        master_options: Sequence[str] = (),
        node_options: Sequence[str] = (),
        start_nodes: bool = True,
        links: Sequence[int] = (),
        mtu: int = 1500,
    ) -> None:
        self.name = name
        self.hosts = Hosts(hosts, images=images, engine_options=engine_options, links=links, mtu=mtu)
        self.nodes: list[Node] = []
        self.master: Master
        self._master_options = tuple(master_options)
        self._node_options = tuple(node_options)
        self._start_nodes = start_nodes

    async def __aenter__(self) -> Self:
        await self.hosts.__aenter__()
        try:
            self.master = Master(self.hosts.fabric, self.name, self._master_options)
            await self.master.boot()
            for number in range(len(self.hosts)):
                self._attach(self.hosts[number])
            if self._start_nodes:
                await self.wait_ready()
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            print(self.logs(), file=sys.stderr)
        try:
            # At once: a stop in good order would only make the agents tidy up what goes anyway.
            for node in self.nodes:
                await node.kill()
            if hasattr(self, "master"):
                await self.master.kill()
                await self.hosts.fabric.unplug(self.hosts.addresses.master_netns)
        finally:
            await self.hosts.__aexit__(kind, error, trace)

    def _attach(self, host: Host) -> Node:
        node = Node(host, self.master, self._node_options)
        self.nodes.append(node)
        if self._start_nodes:
            node.start()
        return node

    def node(self, name: str) -> Node:
        """The node of this name ("node1"); raises KeyError."""
        return {node.name: node for node in self.nodes}[name]

    async def add_node(self) -> Node:
        """One more host with a node on it; not waited for."""
        return self._attach(await self.hosts.add())

    async def sampan(self, *arguments: str, input: str | None = None, timeout: float = 90.0, check: bool = True) -> str:
        """Runs the CLI against this cluster; its standard output. Raises CommandFailed."""
        environment = clean_environment(SAMPAN_MASTER=self.master.address)
        return await run([str(BIN / "sampan"), *arguments], input=input, timeout=timeout, check=check, env=environment)

    async def apply(self, manifest: str) -> str:
        """`sampan apply -f -`."""
        return await self.sampan("apply", "-f", "-", input=manifest)

    async def get(self, kind: str, *arguments: str) -> list[dict[str, Any]]:
        """The manifests that `sampan get KIND [NAME] -o json` prints, one or many, as a list."""
        answer = json.loads(await self.sampan("get", kind, *arguments, "-o", "json"))
        return list(answer["items"]) if "items" in answer else [answer]

    def channel(self) -> grpc.aio.Channel:
        """A channel to the master, for stubs; the test needs no token. Close it, or use it in `async with`."""
        return open_channel(self.master.address)

    async def ready(self) -> dict[str, bool]:
        """Every node that the master knows, and whether it is Ready."""
        found = {}
        for node in await self.get("nodes"):
            conditions = node.get("status", {}).get("conditions", [])
            found[node["metadata"]["name"]] = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
        return found

    async def wait_ready(self, *names: str, within: float = 90.0) -> None:
        """Returns when these nodes (without names: all) are Ready; raises AssertionError after `within` seconds."""
        wanted = set(names) or {node.name for node in self.nodes}

        async def look() -> bool:
            ready = await self.ready()
            return all(ready.get(name) for name in wanted)

        await eventually(look, within=within, what=f"{', '.join(sorted(wanted))} Ready", every=0.2)

    def logs(self, lines: int = 40) -> str:
        """The ends of the logs of all parts, for a person who looks for a fault."""
        processes = [self.master.process] if hasattr(self, "master") else []
        sections = [(process.name, process) for process in processes]
        for node in self.nodes:
            sections += [(f"{node.name} node", node.supervisor), (f"{node.name} dockerd", node.host.engine)]
        return "\n".join(f"----- {name}\n{process.tail(lines)}" for name, process in sections)
