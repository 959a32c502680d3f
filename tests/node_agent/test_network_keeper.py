"""The keeper of the network: peers and their ways, problems as events, repairs, an address that is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import Unavailable
from node_agent import network_keeper
from node_agent.network import Peer
from node_agent.network_keeper import AddressChanged, NetworkKeeper, PeerTable, problem_events
from node_agent.pods.model import PodNetwork
from protos import agent_pb2

NODES = [
    agent_pb2.PeerNode(name="n1", address="10.0.0.1", pod_cidr="10.244.1.0/24"),
    agent_pb2.PeerNode(name="n2", address="10.0.0.2", pod_cidr="10.244.2.0/24", network="direct"),
]


def peers_of(nodes: Iterable[agent_pb2.PeerNode], own: str) -> list[Peer]:
    table = PeerTable(own)
    table.replace(nodes)
    return table.peers()


class Kept:
    """A network that remembers what it was told; `fails` makes the next calls raise."""

    def __init__(self) -> None:
        self.told: list[tuple[Peer, ...] | None] = []
        self.fails = 0
        self.held = {"10.0.0.1"}
        self.found: tuple[str, ...] = ()

    async def setup(self) -> object:
        return None

    async def set_peers(self, peers: Iterable[Peer]) -> None:
        self._call(tuple(peers))

    async def reconcile(self) -> None:
        self._call(None)

    async def watch(self) -> None:
        return None

    def _call(self, what: tuple[Peer, ...] | None) -> None:
        self.told.append(what)
        if self.fails:
            self.fails -= 1
            raise Unavailable("no netlink today")

    def problems(self) -> tuple[str, ...]:
        return self.found

    async def describe(self) -> dict[str, Any]:
        return {}

    def holds(self, address: str) -> bool:
        return address in self.held

    def pod_network(self) -> PodNetwork:
        raise NotImplementedError

    def addresses(self) -> list[str]:
        return sorted(self.held)

    async def teardown(self) -> None:
        return None


@asynccontextmanager
async def running(
    network: Kept, nodes: Callable[[], Iterable[agent_pb2.PeerNode] | None], events: list[agent_pb2.AgentEvent]
) -> AsyncIterator[NetworkKeeper]:
    def peers() -> list[Peer] | None:
        known = nodes()
        return peers_of(known, "n1") if known is not None else None

    keeper = NetworkKeeper(network, "n1", peers, lambda addresses: None, events.append)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(keeper.run(), name="keeper")
        yield keeper
        task.cancel()


async def until(look: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not look():
            await asyncio.sleep(0.01)


def test_a_pair_of_nodes_agrees_on_its_way() -> None:
    assert peers_of(NODES, "n1") == [Peer("n2", "10.0.0.2", "10.244.2.0/24", "direct")]
    assert peers_of(NODES, "n2") == [Peer("n1", "10.0.0.1", "10.244.1.0/24", "direct")]


def test_every_problem_is_told_once_and_its_end_too() -> None:
    first = problem_events("n1", (), ("n2 is away",))
    assert [(e.involved.kind, e.involved.name, e.type, e.message) for e in first] == [
        ("Node", "n1", "Warning", "n2 is away")
    ]
    assert problem_events("n1", ("n2 is away",), ("n2 is away",)) == []
    (over,) = problem_events("n1", ("n2 is away",), ())
    assert over.type == "Normal" and over.reason == "NetworkRepaired"


STEPS = st.lists(
    st.tuples(st.sampled_from(["n1", "n2", "n3"]), st.sampled_from(["gone", "", "direct", "vxlan"])), max_size=12
)


@given(STEPS)
def test_a_table_kept_change_by_change_is_the_table_made_anew(steps: list[tuple[str, str]]) -> None:
    kept, nodes = PeerTable("n1"), dict[str, agent_pb2.PeerNode]()
    for name, network in steps:
        if network == "gone":
            nodes.pop(name, None)
            kept.remove(name)
        else:
            nodes[name] = agent_pb2.PeerNode(name=name, address="10.0.0.9", pod_cidr="10.244.9.0/24", network=network)
            kept.put(nodes[name])
        assert sorted(kept.peers(), key=str) == sorted(peers_of(nodes.values(), "n1"), key=str)


async def test_peers_of_the_disk_are_routed_to_at_once_and_unknown_ones_left_alone() -> None:
    network, events = Kept(), list[agent_pb2.AgentEvent]()
    known: list[agent_pb2.PeerNode] | None = None
    async with running(network, lambda: known, events) as keeper:
        await until(lambda: bool(network.told))
        assert not any(network.told)
        known = NODES
        keeper.peers_changed.set()
        await until(lambda: any(network.told))
    # It looks after them every now and then, too.
    assert set(network.told) == {None, (Peer("n2", "10.0.0.2", "10.244.2.0/24", "direct"),)}
    assert events == []


async def test_what_fails_is_tried_again_and_told() -> None:
    network, events = Kept(), list[agent_pb2.AgentEvent]()
    network.fails = 1
    async with running(network, lambda: NODES, events):
        await until(lambda: len(events) >= 2)
    assert len(network.told) >= 2
    assert "no netlink today" in events[0].message and events[0].type == "Warning"
    assert events[1].reason == "NetworkRepaired"


async def test_an_address_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_keeper, "ADDRESS_SECONDS", 0.01)
    network = Kept()
    keeper = NetworkKeeper(network, "n1", lambda: None, lambda addresses: None, lambda event: None)
    towards_master = ["10.0.0.7", "127.0.0.1"]

    def look() -> str:
        return towards_master[-1]

    async with asyncio.TaskGroup() as group:
        task = group.create_task(_changed(keeper, look), name="watch")
        network.held = set()
        await asyncio.sleep(0)
        # Without a network there is only loopback: that is no address for others.
        towards_master.pop()
        assert await task == "10.0.0.7"


async def _changed(keeper: NetworkKeeper, look: Callable[[], str]) -> str:
    try:
        async with asyncio.timeout(30):
            await keeper.watch_address("10.0.0.1", look)
    except AddressChanged as now:
        return str(now)
    raise AssertionError("it ended without a word")
