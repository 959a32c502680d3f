"""Keeps a node's network as it shall be: routes to the peers, repairs, problems as events, the node's own address."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

import structlog

from common.backoff import Backoff
from common.errors import SampanError
from node_agent.network import Peer, agreed
from node_agent.ports import Network
from protos import agent_pb2

log = structlog.get_logger()

# Somebody may flush routes or chains: the network is compared with what it shall be this often.
REPAIR_SECONDS = 10.0
# A node whose address is gone is not reached by anybody: it is looked at more often than all the rest.
ADDRESS_SECONDS = 2.0


class AddressChanged(Exception):
    """The node's address is gone and it speaks to the master from another one, which `str()` names."""


class PeerTable:
    """The other nodes as peers of `own`, kept change by change: a node that joins costs the same among 10 and 5,000."""

    def __init__(self, own: str) -> None:
        self._own = own
        # What is asked of the way to this node itself.
        self._ours = ""
        self._nodes: dict[str, agent_pb2.PeerNode] = {}
        self._peers: dict[str, Peer] = {}

    def replace(self, nodes: Iterable[agent_pb2.PeerNode]) -> None:
        """Makes `nodes` all there are."""
        self._nodes = {node.name: node for node in nodes}
        self._agree()

    def put(self, node: agent_pb2.PeerNode) -> None:
        """A node is there, or another than before."""
        self._nodes[node.name] = node
        if node.name != self._own:
            self._peers[node.name] = self._peer(node)
        elif node.network != self._ours:
            self._agree()

    def remove(self, name: str) -> None:
        """A node is gone."""
        self._nodes.pop(name, None)
        self._peers.pop(name, None)
        if name == self._own and self._ours:
            self._agree()

    def peers(self) -> list[Peer]:
        """Each with the way that was asked for between it and this node."""
        return list(self._peers.values())

    def _agree(self) -> None:
        own = self._nodes.get(self._own)
        self._ours = own.network if own is not None else ""
        self._peers = {name: self._peer(node) for name, node in self._nodes.items() if name != self._own}

    def _peer(self, node: agent_pb2.PeerNode) -> Peer:
        return Peer(node.name, node.address, node.pod_cidr, agreed(self._ours, node.network))


def problem_events(node: str, before: Sequence[str], now: Sequence[str]) -> list[agent_pb2.AgentEvent]:
    """An event of the node for every new problem, and one when the last is gone."""
    events = [_event(node, "Warning", "NetworkProblem", problem) for problem in now if problem not in before]
    if before and not now:
        events.append(_event(node, "Normal", "NetworkRepaired", "the node's network is as it shall be"))
    return events


def _event(node: str, type: str, reason: str, message: str) -> agent_pb2.AgentEvent:
    event = agent_pb2.AgentEvent(type=type, reason=reason, message=message)
    event.involved.kind, event.involved.apiVersion, event.involved.name = "Node", "v1", node
    event.time.GetCurrentTime()
    return event


class NetworkKeeper:
    """Runs for as long as the node does.

    `peers` gives the other nodes, None while they are not known: then the routes of an earlier agent stay.
    `found` is called with the node's addresses whenever they may have changed.
    """

    def __init__(
        self,
        network: Network,
        node: str,
        peers: Callable[[], Iterable[Peer] | None],
        found: Callable[[list[str]], None],
        event: Callable[[agent_pb2.AgentEvent], None],
    ) -> None:
        self._network, self._node = network, node
        self._peers, self._found, self._event = peers, found, event
        self._problems: tuple[str, ...] = ()
        # Set from the start: peers that were kept on disk are routed to at once.
        self.peers_changed = asyncio.Event()
        self.peers_changed.set()

    async def run(self) -> None:
        """Until cancelled; what fails is told and tried again."""
        backoff = Backoff(0.5, REPAIR_SECONDS, jitter=0.2)
        delay = REPAIR_SECONDS
        while True:
            self._found(self._network.addresses())
            try:
                async with asyncio.timeout(delay):
                    await self.peers_changed.wait()
            except TimeoutError:
                pass
            self.peers_changed.clear()
            try:
                await self._repair()
                backoff.reset()
                delay = REPAIR_SECONDS
                self._tell(self._network.problems())
            except (SampanError, OSError) as error:
                delay = next(backoff)
                log.error("network.not_repaired", cause=str(error), retry_in=round(delay, 1))
                self._tell((*self._network.problems(), f"the network is not repaired: {error}"))

    async def _repair(self) -> None:
        peers = self._peers()
        if peers is None:
            await self._network.reconcile()
        else:
            await self._network.set_peers(peers)

    def _tell(self, problems: Sequence[str]) -> None:
        for event in problem_events(self._node, self._problems, problems):
            self._event(event)
        self._problems = tuple(problems)

    async def watch_address(self, address: str, look: Callable[[], str]) -> None:
        """Ends only by cancellation or AddressChanged. `look` finds the address towards the master and may block."""
        while True:
            await asyncio.sleep(ADDRESS_SECONDS)
            if self._network.holds(address):
                continue
            now = await asyncio.to_thread(look)
            if now != address and not now.startswith("127."):
                raise AddressChanged(now)
