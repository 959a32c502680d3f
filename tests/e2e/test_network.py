"""Pods, services and node ports over two links with a router between, on links of 1280 bytes; faults and changes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial

import pytest
import pytest_asyncio

from tests.e2e.networks import (
    BOUND_PORT,
    BULK,
    HOST_PORT,
    INNER_PORT,
    KEPT,
    MTU,
    NODE_PORT,
    NODES,
    OWN_PORT,
    POD_MTU,
    SERVICE,
    container,
    fetch,
    network_of,
    pod,
    pod_ip,
    sees,
    ways,
)
from tests.e2e.support import ask, ready_pods, stream
from tests.harness import Cluster, Host, eventually
from tests.harness.commands import CommandFailed, run
from tests.harness.parts import BIN, Node, clean_environment

pytestmark = [pytest.mark.root, pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["asyncio", "nftables"])
async def cluster(request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    """node1 and node2 on the first link, with the master; node3 behind the router. One web pod on each."""
    # An address that is found by itself, so that it may change.
    options = ("--node-ip", "", "--proxy-mode", request.param)
    async with Cluster(hosts=3, links=(1, 1, 2), mtu=MTU, node_options=options) as made:
        await made.apply("".join(pod(f"web-{name}", name) for name in NODES) + SERVICE)
        await ready_pods(made, 3, within=60)
        yield made


@pytest.fixture
def once(request: pytest.FixtureRequest) -> None:
    """For what no data plane has a part in: tried in one of the two."""
    if "nftables" in request.node.name:
        pytest.skip("the same in every data plane")


async def test_the_way_to_each_node_is_found(cluster: Cluster, once: None) -> None:
    async def found() -> bool:
        told = {name: await network_of(cluster, name) for name in NODES}
        assert {name: ways(one) for name, one in told.items()} == {
            "node1": {"node2": "direct", "node3": "vxlan"},
            "node2": {"node1": "direct", "node3": "vxlan"},
            "node3": {"node1": "vxlan", "node2": "vxlan"},
        }
        assert not any(one["problems"] for one in told.values()), told
        return True

    await eventually(found, within=60, what="every node knows the others, and has no problems")
    table = await cluster.sampan("node", "network", "node1")
    for word in ("vxlan", "SAMPAN-FORWARD", "10.96.0.0/16", "MASQUERADE", "node3"):
        assert word in table


async def test_pods_see_each_others_own_addresses(cluster: Cluster, once: None) -> None:
    for source in NODES:
        own = await pod_ip(cluster, f"web-{source}")
        for target in NODES:
            url = f"http://{await pod_ip(cluster, f'web-{target}')}:8080/cgi-bin/who"
            assert await sees(cluster.node(source).host, f"web-{source}", url) == own


async def test_everybody_reaches_the_service(cluster: Cluster) -> None:
    pods = {f"web-{name}" for name in NODES}
    for name in NODES:
        host = cluster.node(name).host
        assert await sees(host, f"web-{name}", "http://10.96.7.7/") in pods

        async def all_answer(host: Host = host) -> bool:
            from_host = {(await host.run(["curl", "-sS", "-m", "15", "http://10.96.7.7/"])).strip() for _ in range(9)}
            from_outside = {await ask(host.address, NODE_PORT) for _ in range(9)}
            assert (from_host, from_outside) == (pods, pods)
            return True

        # A node hears of a pod a moment after it is ready.
        await eventually(all_answer, within=60, what="the node itself and others outside reach all endpoints")


async def test_a_pod_reaches_itself_through_its_service(cluster: Cluster) -> None:
    host = cluster.node("node1").host
    for _ in range(3):
        assert await sees(host, "web-node1", "http://10.96.7.8/") == "web-node1"


async def test_a_node_speaks_through_the_tunnel_as_its_pods_gateway(cluster: Cluster) -> None:
    """For itself and for clients outside: so that answers come back through the tunnel, too."""
    told = await network_of(cluster, "node1")
    gateway, host = told["podNetwork"]["gateway"], cluster.node("node1").host
    for url in ("http://10.96.7.10/cgi-bin/who", f"http://{host.address}:8767/cgi-bin/who"):
        curl = partial(host.run, ["curl", "-sS", "-m", "15", url])
        seen = await eventually(curl, within=60, what=f"{url} answers")
        assert gateway in seen, url
    seen = await run(["curl", "-sS", "-m", "15", f"http://{host.address}:8767/cgi-bin/who"])
    assert gateway in seen


@pytest.mark.parametrize("mode", ["asyncio", "nftables"])
async def test_each_client_stays_with_its_pod(cluster: Cluster, mode: str) -> None:
    """In the data plane of the node, and in the other one beside it, as the service asks for it."""
    await cluster.apply(KEPT % mode)
    pods = {f"web-{name}" for name in NODES}

    async def carried() -> bool:
        places = [await cluster.node(name).host.run(["nft", "list", "ruleset"]) for name in NODES]
        return {"10.96.7.9" in place for place in places} == {mode == "nftables"}

    await eventually(carried, within=60, what=f"every node serves it by {mode}")
    for name in NODES:
        host = cluster.node(name).host
        first = await sees(host, f"web-{name}", "http://10.96.7.9/")
        for _ in range(3):
            assert await fetch(host, f"web-{name}", "http://10.96.7.9/") == first in pods, "a pod"
        assert len({await host.run(["curl", "-sS", "-m", "15", "http://10.96.7.9/"]) for _ in range(4)}) == 1, "a node"
        assert len({await ask(host.address, 8766) for _ in range(4)}) == 1, "a client outside"


async def test_more_than_a_link_carries_at_once_arrives(cluster: Cluster) -> None:
    host = cluster.node("node1").host
    told = await network_of(cluster, "node1")
    assert told["podNetwork"]["options"]["com.docker.network.driver.mtu"] == str(POD_MTU)
    (tunnel,) = told["links"]
    assert tunnel["mtu"] == POD_MTU
    id = await container(host, "web-node1")
    assert (await host.docker("exec", id, "cat", "/sys/class/net/eth0/mtu")).strip() == str(POD_MTU)
    urls = [f"http://{await pod_ip(cluster, f'web-{name}')}:8080/bulk" for name in ("node2", "node3")]
    for url in [*urls, "http://10.96.7.7/bulk", "http://10.96.7.7/bulk", "http://10.96.7.7/bulk"]:
        size = await host.docker("exec", id, "sh", "-c", f"timeout 20 wget -q -O - {url} | wc -c", timeout=30)
        assert int(size) == BULK, url
    for node in cluster.nodes:
        size = await run(["curl", "-sS", "-m", "20", "-o", "/dev/null", "-w", "%{size_download}", f"http://{node.host.address}:{NODE_PORT}/bulk"])  # fmt: skip  # noqa: E501
        assert int(size) == BULK


async def test_a_narrower_way_is_found(cluster: Cluster) -> None:
    """A router that carries less than any link says so, and is heard: by nodes, pods and clients outside."""
    netns, host = cluster.hosts.addresses.router_netns, cluster.node("node1").host
    routes = (await run(["ip", "-n", netns, "route", "show", "proto", "kernel"])).splitlines()
    assert len(routes) == 2
    try:
        for route in routes:
            await run(["ip", "-n", netns, "route", "change", *route.split(), "mtu", "800"])
        id = await container(host, "web-node1")
        for url in (f"http://{await pod_ip(cluster, 'web-node3')}:8080/bulk", *(["http://10.96.7.7/bulk"] * 3)):
            size = await host.docker("exec", id, "sh", "-c", f"timeout 20 wget -q -O - {url} | wc -c", timeout=30)
            assert int(size) == BULK, url
        for _ in NODES:
            third = cluster.node("node3").host
            size = await run(["curl", "-sS", "-m", "20", "-o", "/dev/null", "-w", "%{size_download}", f"http://{third.address}:{NODE_PORT}/bulk"])  # fmt: skip  # noqa: E501
            assert int(size) == BULK
    finally:
        for route in routes:
            await run(["ip", "-n", netns, "route", "change", *route.split()])


async def test_pods_have_their_nodes_address_outside(cluster: Cluster, once: None) -> None:
    seen: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("peername")[0])
        await reader.readline()
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nhello")
        await writer.drain()
        writer.close()

    outside = cluster.hosts.addresses.test_address
    server = await asyncio.start_server(answer, outside, 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        for name in ("node1", "node3"):
            host = cluster.node(name).host
            assert await sees(host, f"web-{name}", f"http://{outside}:{port}/") == "hello"
            assert seen[-1] == host.address


async def test_host_ports_and_pods_in_the_nodes_network(cluster: Cluster) -> None:
    third, second = cluster.node("node3").host, cluster.node("node2").host
    bound = "".join(
        f", {{name: p{port}, containerPort: 8080, hostPort: {port}, hostIP: {address}}}"
        for port, address in ((BOUND_PORT, third.address), (INNER_PORT, "127.0.0.1"))
    )
    await cluster.apply(pod("published", "node3", app="own", host_port=HOST_PORT, more_ports=bound))
    await cluster.apply(pod("joined", "node2", app="own", port=OWN_PORT, host=True))
    await ready_pods(cluster, 2, selector="app=own")
    answer = await eventually(
        lambda: ask(third.address, HOST_PORT), within=60, what="the host port answers", ignore=(OSError,)
    )
    assert answer == "published"
    # On one address alone, where the pod says so.
    bound_port = partial(ask, third.address, BOUND_PORT)
    assert await eventually(bound_port, within=60, what="the port of one address answers") == "published"
    inner = partial(third.run, ["curl", "-sS", "-m", "15", f"http://127.0.0.1:{INNER_PORT}/"])
    assert (await eventually(inner, within=60, what="the port on loopback answers")).strip() == "published"
    with pytest.raises(OSError):
        await ask(third.address, INNER_PORT)
    with pytest.raises(CommandFailed):
        await third.run(["curl", "-sS", "-m", "15", f"http://127.0.0.1:{BOUND_PORT}/"])
    with pytest.raises(OSError):
        await ask(second.address, HOST_PORT)
    (joined,) = await cluster.get("pods", "joined")
    assert joined["status"]["podIP"] == joined["status"]["hostIP"] == second.address
    assert joined["spec"]["containers"][0]["ports"][0]["hostPort"] == OWN_PORT
    own_port = partial(ask, second.address, OWN_PORT)
    assert await eventually(own_port, within=60, what="it listens") == "node2", "it has the node's name"
    # Both are taken: a second pod of the kind finds no room there, and is told why.
    await cluster.apply(pod("late", "node2", app="late", port=OWN_PORT, host=True))
    told = await eventually(lambda: described(cluster, "late"), within=60, what="the pod that does not fit is told why")
    assert str(OWN_PORT) in told
    await cluster.sampan("delete", "pods", "late", "published")

    async def closed() -> bool:
        try:
            await ask(third.address, HOST_PORT)
        except OSError:
            return True
        return False

    await eventually(closed, within=60, what="the host port is closed with its pod")


async def described(cluster: Cluster, name: str) -> str:
    told = await cluster.sampan("describe", "pod", name)
    return told if "port" in told and "FailedScheduling" in told else ""


async def test_an_agent_without_a_master_repairs_its_routes(cluster: Cluster, once: None) -> None:
    node = cluster.node("node1")
    before = await node.host.run(["ip", "route", "show", "proto", "83"])
    await cluster.master.kill()
    try:
        node.kill_agent()
        for line in before.splitlines():
            if "via" in line:
                await node.host.run(["ip", "route", "del", line.split()[0]])
        await node.host.run(["iptables", "-t", "nat", "-F", "SAMPAN-POSTROUTING"])

        async def repaired() -> bool:
            rules = await node.host.run(["iptables", "-t", "nat", "-S"])
            return "MASQUERADE" in rules and await node.host.run(["ip", "route", "show", "proto", "83"]) == before

        await eventually(repaired, within=60, what="routes and chains are back, from what the agent kept on disk")
    finally:
        await cluster.master.start()
    await cluster.wait_ready()


async def test_the_link_is_cut_and_comes_back(cluster: Cluster, request: pytest.FixtureRequest) -> None:
    fabric = cluster.hosts.fabric
    first, third = cluster.node("node1").host, cluster.node("node3").host
    url = f"http://{await pod_ip(cluster, 'web-node3')}:8080/"
    await fabric.cut(fabric.router_ports[2], keep_carrier=True)
    try:
        with pytest.raises(CommandFailed):
            await fetch(first, "web-node1", url)

        async def away() -> bool:
            return not (await cluster.ready())["node3"]

        await eventually(away, within=60, what="node3 is not Ready", every=0.2)

        async def two_left() -> bool:
            return {await ask(first.address, NODE_PORT) for _ in range(9)} == {"web-node1", "web-node2"}

        # The node hears of it a moment later; until then the kernel's data plane asks the one that is away, too.
        await eventually(two_left, within=120, what="the pod that is away is asked no more")
        async with stream(first) as seen:
            for _ in range(5):
                assert await ask(first.address, NODE_PORT) in ("web-node1", "web-node2")
        assert seen.failed == []
        # The far node serves on by itself. In the kernel nobody tries the next endpoint: one of three is its own.
        one = "curl -sS -m 10 http://10.96.7.7/"
        asked = f"{one} & {one} & {one} & wait" if "nftables" in request.node.name else one
        assert "web-node3" in await third.run(["sh", "-c", asked], check=False)
    finally:
        await fabric.restore(fabric.router_ports[2])
    assert await sees(first, "web-node1", url, within=60) == "web-node3"
    await cluster.wait_ready("node3")

    async def all_serve() -> bool:
        return {await ask(first.address, NODE_PORT) for _ in range(12)} == {f"web-{name}" for name in NODES}

    await eventually(all_serve, within=60, what="all three serve again", ignore=(OSError, TimeoutError))


async def test_a_node_gets_another_address(cluster: Cluster) -> None:
    node, first = cluster.node("node2"), cluster.node("node1").host
    old = node.host.address
    urls = {name: f"http://{await pod_ip(cluster, f'web-{name}')}:8080/" for name in NODES}
    ids = await container(node.host, "web-node2")
    await node.host.readdress(120)
    assert node.host.address != old

    async def known() -> bool:
        (found,) = await cluster.get("nodes", "node2")
        addresses = {a["type"]: a["address"] for a in found["status"]["addresses"]}
        return bool(addresses["InternalIP"] == node.host.address)

    await eventually(known, within=90, what="the master knows the new address", every=0.2)
    for source in ("node1", "node3"):
        assert await sees(cluster.node(source).host, f"web-{source}", urls["node2"]) == "web-node2"
    assert await sees(node.host, "web-node2", urls["node3"]) == "web-node3"
    await cluster.wait_ready("node2")

    async def answers() -> bool:
        return (await ask(node.host.address, NODE_PORT)).startswith("web-")

    await eventually(
        answers, within=60, what="the node port is open on the new address", ignore=(OSError, TimeoutError)
    )
    assert await container(node.host, "web-node2") == ids, "no pod was touched"
    assert "node2" in ways(await network_of(cluster, "node1"))
    route = await first.run(["ip", "route", "show", "proto", "83"])
    assert f"via {node.host.address} " in route and f"via {old} " not in route

    async def moved() -> bool:
        (joined,) = await cluster.get("pods", "joined")
        return bool(joined["status"]["podIP"] == joined["status"]["hostIP"] == node.host.address)

    await eventually(moved, within=60, what="a pod in the node's network has the node's new address")


async def test_a_way_can_be_asked_for(cluster: Cluster, once: None) -> None:
    await cluster.sampan("annotate", "node", "node2", "sampan.dev/network=vxlan")

    async def changed() -> bool:
        found = [ways(await network_of(cluster, name)) for name in ("node1", "node2")]
        return found == [{"node2": "vxlan", "node3": "vxlan"}, {"node1": "vxlan", "node3": "vxlan"}]

    await eventually(changed, within=60, what="both sides use the tunnel")
    url = f"http://{await pod_ip(cluster, 'web-node2')}:8080/cgi-bin/who"
    own = await pod_ip(cluster, "web-node1")
    assert await sees(cluster.node("node1").host, "web-node1", url) == own
    with pytest.raises(CommandFailed, match="direct, vxlan"):
        await cluster.sampan("annotate", "--overwrite", "node", "node2", "sampan.dev/network=carrier-pigeon")
    await cluster.sampan("annotate", "node", "node2", "sampan.dev/network-")


async def left_of(node: Node) -> list[str]:
    """Links, addresses, routes, rules and filters of a host, and its engine's networks."""
    host = node.host
    lines = [f"link {link['ifname']} {link['mtu']}" for link in json.loads(await host.run(["ip", "-j", "link"]))]
    for command in (["ip", "-4", "route", "show", "table", "all"], ["ip", "rule"], ["ip", "neigh", "show", "nud", "permanent"]):  # fmt: skip  # noqa: E501
        lines += [line.strip() for line in (await host.run(command)).splitlines()]
    for table in ("filter", "nat", "mangle"):
        lines += [f"{table} {line}" for line in (await host.run(["iptables", "-t", table, "-S"])).splitlines()]
    tables = (await host.run(["nft", "list", "tables"], check=False)).splitlines()
    # Those of iptables come with its first use and stay, empty.
    lines += [table for table in tables if table.split()[-1] not in ("filter", "nat", "mangle")]
    lines += [f"network {name}" for name in (await host.docker("network", "ls", "--format", "{{.Name}}")).splitlines()]
    return sorted(lines)


async def test_leaving_leaves_nothing() -> None:
    """Apart from the other tests' cluster: before any agent ran, and after the last one left."""
    options = ("--proxy-mode", "nftables")
    async with Cluster(hosts=2, links=(1, 2), node_options=options, start_nodes=False) as cluster:
        node, far = cluster.nodes
        before = await left_of(node)
        for one in cluster.nodes:
            one.start()
        await cluster.wait_ready()
        await cluster.apply(pod("web-node1", "node1", host_port=HOST_PORT) + SERVICE)
        await ready_pods(cluster, 1)

        async def tunnelled() -> bool:
            return ways(await network_of(cluster, "node1")) == {far.name: "vxlan"}

        await eventually(tunnelled, within=60, what="the tunnel stands")
        answer = partial(ask, node.host.address, NODE_PORT)
        assert await eventually(answer, within=60, what="the service answers", ignore=(OSError,)) == "web-node1"
        assert "table ip sampan_node1" in await left_of(node)
        await node.stop()
        command = [str(BIN / "sampan-node"), "leave", "--name", node.name, "--master", cluster.master.address]
        command += ["--data", str(node.data), "--docker", node.host.docker_url]
        await run(
            ["nsenter", f"--net=/var/run/netns/{node.host.netns}", "--", *command], env=clean_environment(), timeout=60
        )
        assert await left_of(node) == before
