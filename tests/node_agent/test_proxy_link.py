"""The agent's side of the proxy's socket, against the real proxy's table and a listener that answers by hand."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from common.routing import Endpoint, NodeInfo, Route, RoutePort
from node_agent.proxy_link import REVISIONS_KEPT, ProxyLink, port_events, to_route
from protos import agent_pb2
from tests.master.dispatcher.conftest import eventually


def service(name: str, *ips: str, cluster_ip: str = "10.96.0.9") -> agent_pb2.Item:
    ends = [agent_pb2.RouteEndpoint(ip=ip, port=8080) for ip in ips]
    port = agent_pb2.ServiceRoutePort(name="http", protocol="TCP", port=80, node_port=30080, endpoints=ends)
    route = agent_pb2.ServiceRoute(
        namespace="default", name=name, uid=f"uid-{name}", cluster_ip=cluster_ip, ports=[port]
    )
    return agent_pb2.Item(key=f"service/default/{name}", service=route)


class Proxy:
    """A proxy's socket; `lines` is what came, `answer` sends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[dict[str, Any]] = []
        self._writer: asyncio.StreamWriter | None = None
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, str(self.path), limit=2**24)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            self.path.unlink(missing_ok=True)
        if self._writer is not None:
            self._writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        while data := await reader.readline():
            self.lines.append(json.loads(data))

    def answer(self, message: dict[str, Any]) -> None:
        assert self._writer is not None
        self._writer.write(json.dumps(message).encode() + b"\n")

    def applied(self, *errors: dict[str, Any]) -> None:
        last = next(iter(self.lines[-1].values()))
        self.answer({"applied": {"epoch": last["epoch"], "revision": last["revision"], "errors": list(errors)}})


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[Proxy]:
    one = Proxy(tmp_path / "proxy.sock")
    yield one
    await one.stop()


@contextlib.asynccontextmanager
async def linked(
    proxy: Proxy, events: list[agent_pb2.AgentEvent], news: Callable[[], None] = lambda: None
) -> AsyncIterator[ProxyLink]:
    link = ProxyLink(proxy.path, NodeInfo(name="n1", addresses=("127.0.0.1",)), events.append, news)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(link.run())
        try:
            yield link
        finally:
            task.cancel()


async def test_a_snapshot_then_deltas_and_the_masters_revision_when_applied(proxy: Proxy) -> None:
    await proxy.start()
    async with linked(proxy, []) as link:
        await eventually(lambda: link.connected)
        assert proxy.lines == [], "nothing is said before there is a complete table"
        link.update({"service/default/a": service("a", "10.0.0.1")}, "epoch", 7)
        await eventually(lambda: len(proxy.lines) == 1)
        snapshot = proxy.lines[0]["snapshot"]
        assert snapshot["addresses"] == ["127.0.0.1"]
        assert snapshot["node"] == {"name": "n1", "addresses": ["127.0.0.1"]}
        [route] = snapshot["routes"]
        assert (route["key"], route["clusterIP"]) == ("default/a", "10.96.0.9")
        assert route["ports"][0]["endpoints"] == [["10.0.0.1", 8080]]
        assert link.applied == ("", 0)
        proxy.applied()
        await eventually(lambda: link.applied == ("epoch", 7))
        link.change([service("b", cluster_ip="None")], ["service/default/a"], "epoch", 8)
        await eventually(lambda: len(proxy.lines) == 2)
        delta = proxy.lines[1]["delta"]
        assert delta["base"] == snapshot["revision"] and delta["removed"] == ["default/a"]
        assert [(r["key"], r["clusterIP"]) for r in delta["upserts"]] == [("default/b", "")]
        proxy.applied()
        await eventually(lambda: link.applied == ("epoch", 8))


async def test_a_revision_that_changes_nothing_for_the_proxy_counts_as_applied(proxy: Proxy) -> None:
    await proxy.start()
    async with linked(proxy, []) as link:
        link.update({"service/default/a": service("a")}, "e", 1)
        await eventually(lambda: proxy.lines)
        proxy.applied()
        await eventually(lambda: link.applied == ("e", 1))
        link.change([agent_pb2.Item(key="node/x", node=agent_pb2.PeerNode(name="x"))], [], "e", 2)
        await eventually(lambda: link.applied == ("e", 2))
        assert len(proxy.lines) == 1


async def test_resync_and_new_addresses_bring_the_complete_table(proxy: Proxy) -> None:
    await proxy.start()
    async with linked(proxy, []) as link:
        link.update({"service/default/a": service("a")}, "e", 1)
        await eventually(lambda: len(proxy.lines) == 1)
        proxy.answer({"resync": {}})
        await eventually(lambda: len(proxy.lines) == 2)
        link.use_addresses(["127.0.0.1", "10.0.0.5"])
        await eventually(lambda: len(proxy.lines) == 3)
        assert "snapshot" in proxy.lines[1]
        assert proxy.lines[2]["snapshot"]["addresses"] == ["127.0.0.1", "10.0.0.5"]


async def test_with_patience_nothing_is_said_before_the_addresses_are_found(proxy: Proxy) -> None:
    await proxy.start()
    link = ProxyLink(proxy.path, NodeInfo(addresses=("127.0.0.1",)), lambda event: None, patience=60)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(link.run())
        link.update({"service/default/a": service("a")}, "e", 1)
        await asyncio.sleep(0)
        assert not link.connected
        link.use_addresses(["127.0.0.1", "10.0.0.5"])
        await eventually(lambda: proxy.lines)
        assert [line["snapshot"]["addresses"] for line in proxy.lines] == [["127.0.0.1", "10.0.0.5"]]
        task.cancel()


async def test_a_proxy_that_comes_later_or_again_gets_the_complete_table(proxy: Proxy) -> None:
    async with linked(proxy, []) as link:
        link.update({"service/default/a": service("a")}, "e", 1)
        await proxy.start()
        await eventually(lambda: len(proxy.lines) == 1)
        await proxy.stop()
        await eventually(lambda: not link.connected)
        link.change([service("b")], [], "e", 2)
        await proxy.start()
        await eventually(lambda: len(proxy.lines) == 2)
        assert len(proxy.lines[1]["snapshot"]["routes"]) == 2


async def test_a_port_in_use_is_one_event_on_the_service(proxy: Proxy) -> None:
    await proxy.start()
    events: list[agent_pb2.AgentEvent] = []
    error = {
        "key": "default/a",
        "uid": "uid-a",
        "port": 80,
        "address": "10.96.0.9",
        "message": "Address already in use",
    }
    async with linked(proxy, events) as link:
        link.update({"service/default/a": service("a")}, "e", 1)
        await eventually(lambda: proxy.lines)
        proxy.applied(error)
        await eventually(lambda: events)
        proxy.applied(error)
        link.change([service("b")], [], "e", 2)
        await eventually(lambda: len(proxy.lines) == 2)
        proxy.applied(error)
        await eventually(lambda: link.applied == ("e", 2))
    [event] = events
    assert (event.reason, event.type) == ("PortInUse", "Warning")
    assert (event.involved.kind, event.involved.name, event.involved.uid) == ("Service", "a", "uid-a")
    assert event.message == "10.96.0.9:80: Address already in use"


async def test_what_the_proxy_drains_is_news_and_ends_with_it(proxy: Proxy) -> None:
    await proxy.start()
    said: list[Mapping[tuple[str, int], int]] = []
    async with linked(proxy, [], news=lambda: said.append(link.draining)) as link:
        link.update({"service/default/a": service("a")}, "e", 1)
        await eventually(lambda: proxy.lines)
        proxy.answer({"draining": [["10.0.0.1", 8080, 2]]})
        proxy.applied()
        await eventually(lambda: link.applied == ("e", 1))
        # Told before the revision was: what has left the table is known to drain when the master hears that it has.
        assert said == [{("10.0.0.1", 8080): 2}] * 2
        proxy.answer({"draining": []})
        await eventually(lambda: not link.draining)
        proxy.answer({"draining": [["10.0.0.1", 8080, 1]]})
        await eventually(lambda: link.draining)
        await proxy.stop()
        await eventually(lambda: not link.draining)


def test_a_route_has_all_that_the_service_says() -> None:
    ends = [agent_pb2.RouteEndpoint(ip="10.0.0.1", port=53, node_name="n", pod="p", hostname="h")]
    port = agent_pb2.ServiceRoutePort(
        name="dns", protocol="UDP", port=53, node_port=30053, endpoints=ends, send_proxy="v2", accept_proxy=True
    )
    told = agent_pb2.ServiceRoute(
        namespace="default",
        name="a",
        uid="u",
        cluster_ip="10.96.0.9",
        ports=[port],
        external_ips=["192.0.2.1"],
        affinity_seconds=60,
        internal_policy="Local",
        external_policy="Local",
        balance="LeastConnections",
        mode="nftables",
        node_port_addresses=["10.0.0.0/8"],
    )
    route = to_route(told)
    assert route == Route(
        "default/a",
        "u",
        "10.96.0.9",
        (RoutePort("dns", 53, 30053, (Endpoint("10.0.0.1", 53),), "UDP", "v2", True),),
        external_ips=("192.0.2.1",),
        affinity_seconds=60,
        internal_policy="Local",
        external_policy="Local",
        balance="LeastConnections",
        mode="nftables",
        node_port_addresses=("10.0.0.0/8",),
    )
    (end,) = route.ports[0].endpoints
    assert (end.node, end.pod, end.hostname) == ("n", "p", "h")
    plain = agent_pb2.ServiceRoute(namespace="default", name="c", uid="u", cluster_ip="None")
    plain.addresses.add(ip="10.0.0.1", node_name="n", pod="p", hostname="h")
    assert to_route(plain) == Route("default/c", "u", "", (), addresses=(Endpoint("10.0.0.1", 0, "n", "p", "h"),))
    outside = to_route(agent_pb2.ServiceRoute(namespace="default", name="b", uid="u", external_name="example.com"))
    assert outside == Route("default/b", "u", "", (), external_name="example.com")


def test_an_error_that_cleared_may_speak_again() -> None:
    error = {"key": "default/a", "uid": "u", "port": 80, "address": "", "message": "permission denied"}
    standing, events = port_events(set(), [error, error])
    assert len(events) == 1 and events[0].reason == "PortNotServed"
    standing, events = port_events(standing, [])
    assert not standing and not events
    assert len(port_events(standing, [error])[1]) == 1


async def test_a_route_of_this_node_alone_outlives_the_masters_table(proxy: Proxy) -> None:
    events: list[agent_pb2.AgentEvent] = []
    here = Route("@hostport/shop.web", "u1", "", (RoutePort("http", 80, 8080, (Endpoint("10.244.0.9", 80),)),))
    await proxy.start()
    async with linked(proxy, events) as link:
        link.open_here(here)
        link.update({"service/default/a": service("a", "10.0.0.1")}, "epoch", 7)
        await eventually(lambda: len(proxy.lines) == 1)
        assert {route["key"] for route in proxy.lines[0]["snapshot"]["routes"]} == {"default/a", here.key}
        link.update({"service/default/b": service("b", "10.0.0.2")}, "epoch", 8)
        await eventually(lambda: len(proxy.lines) == 2)
        assert proxy.lines[1]["delta"]["removed"] == ["default/a"]
        proxy.applied({"key": here.key, "uid": "u1", "port": 8080, "address": "10.0.0.5", "message": "in use"})
        await eventually(lambda: bool(events))
        link.close_here(here.key)
        await eventually(lambda: len(proxy.lines) == 3)
        assert proxy.lines[2]["delta"]["removed"] == [here.key]
        link.close_here(here.key)
    assert link.applied == ("epoch", 8)
    about = events[0].involved
    assert (about.kind, about.namespace, about.name, about.uid) == ("Pod", "shop", "web", "u1")


def test_a_proxy_that_is_away_costs_a_bounded_memory(tmp_path: Path) -> None:
    link = ProxyLink(tmp_path / "nobody", NodeInfo(), lambda event: None)
    for revision in range(1, 3 * REVISIONS_KEPT):
        link.change([service("web", f"10.244.{revision % 250}.1")], [], "e", revision)
    assert len(link._revisions) == REVISIONS_KEPT
    served = link._table.revision
    for revision in range(3 * REVISIONS_KEPT, 3 * REVISIONS_KEPT + 50):
        # Nodes that join are nothing to the proxy.
        link.change([], [], "e", revision)
    assert link._table.revision == served and len(link._revisions) == REVISIONS_KEPT
    link._applied({"epoch": link._table.epoch, "revision": served})
    assert link.applied == ("e", 3 * REVISIONS_KEPT + 49) and not link._revisions
