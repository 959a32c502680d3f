"""NodeNetwork in real network namespaces: two nodes on one link, pods behind them, in both forms of node."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.node_agent.network.namespaces import ASK, PROBE, ROOT, SERVICES, Node, inside, serving, sh

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]


@pytest.fixture(params=[False, True], ids=["host", "container"])
def nodes(request: pytest.FixtureRequest) -> Iterator[tuple[Node, Node]]:
    """Two nodes whose namespaces hang on one bridge of a third, set up and known to each other."""
    with contextlib.ExitStack() as stack:
        prefix = f"s{secrets.token_hex(2)}"
        link = f"{prefix}l"
        sh("ip", "netns", "add", link)
        stack.callback(subprocess.run, ["ip", "netns", "delete", link], capture_output=True)
        sh("ip", "-n", link, "link", "add", "br0", "type", "bridge")
        sh("ip", "-n", link, "link", "set", "br0", "up")
        made = []
        for number in (1, 2):
            node = Node(stack, prefix, number, in_container=request.param)
            port = f"e{number}"
            sh("ip", "-n", link, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", node.namespace)
            sh("ip", "-n", link, "link", "set", port, "master", "br0", "up")
            node.ip("addr", "add", f"{node.address}/24", "dev", "eth0")
            node.ip("link", "set", "eth0", "up")
            node.start()
            made.append(node)
        for node in made:
            node.do("setup")
            node.do("peers", peers=[other.peer() for other in made])
        yield made[0], made[1]


def test_pods_and_services_are_reached(nodes: tuple[Node, Node]) -> None:
    first, second = nodes
    here, there = first.pod(1, "10.144.1.10"), second.pod(1, "10.144.2.10")
    with serving(there, "10.144.2.10", 8080):
        assert inside(here, ASK, "10.144.2.10", "8080") == "10.144.1.10", "a pod must see the other pod's own address"
        assert inside(first.namespace, ASK, "10.144.2.10", "8080") == first.address
    # The service range is local: a listener binds any of it, and pods reach it through their gateway.
    with serving(first.namespace, "10.196.3.7", 80):
        assert inside(here, ASK, "10.196.3.7", "80") == "10.144.1.10"
        assert inside(first.namespace, ASK, "10.196.3.7", "80").startswith("10.196.")
    # A pod speaks to the outside with its node's address.
    with serving(second.namespace, second.address, 9000):
        assert inside(here, ASK, second.address, "9000") == first.address


def test_what_nobody_holds_is_refused_at_once(nodes: tuple[Node, Node]) -> None:
    import errno

    first, _ = nodes
    pod = first.pod(1, "10.144.1.10")
    # One that hangs says so by its own time-out, which is another error.
    assert int(inside(first.namespace, PROBE, "10.196.9.9", "80")) == errno.ECONNREFUSED
    assert int(inside(pod, PROBE, "10.196.9.9", "80")) == errno.ECONNREFUSED
    assert int(inside(first.namespace, PROBE, "10.144.99.1", "80")) == errno.EHOSTUNREACH
    assert int(inside(pod, PROBE, "10.144.99.1", "80")) in (errno.EHOSTUNREACH, errno.ENETUNREACH)


def test_setup_is_idempotent_and_survives_a_restart_of_the_agent(nodes: tuple[Node, Node]) -> None:
    first, second = nodes
    before = first.ours()
    assert len(before) == 3
    first.do("setup")
    first.do("reconcile")
    assert first.ours() == before
    first.stop()
    assert first.ours() == before
    first.start()
    first.do("setup")
    assert first.ours() == before, "a master that does not answer costs no route"
    first.do("peers", peers=[second.peer()])
    assert first.ours() == before


def test_a_pod_may_meet_itself(nodes: tuple[Node, Node]) -> None:
    """Its port on the bridge sends back what came from it: at once for a new pod, later where somebody undid it."""
    first, _ = nodes
    if first.in_container:
        return  # the bridge is in the engine's namespace, and what comes from a pod goes through the agent's

    def hairpin(port: str) -> bool:
        (link,) = json.loads(first.ip("-d", "-j", "link", "show", port))
        return bool(link["linkinfo"]["info_slave_data"]["hairpin"])

    for number in (1, 2):
        first.pod(number, f"10.144.1.1{number}")
        deadline = time.monotonic() + 30
        while not hairpin(f"{first.namespace}v{number}"):
            assert time.monotonic() < deadline, "nobody sees to the port of a new pod"
            time.sleep(0.02)
    first.ip("link", "set", f"{first.namespace}v1", "type", "bridge_slave", "hairpin", "off")
    first.ip("link", "add", "other", "type", "bridge")
    first.ip("link", "add", "port", "type", "veth", "peer", "name", "end")
    first.ip("link", "set", "port", "master", "other", "up")
    first.do("reconcile")
    assert hairpin(f"{first.namespace}v1") and not hairpin("port"), "and no port of somebody else's bridge"


def test_damage_is_repaired_and_foreign_things_are_left_alone(nodes: tuple[Node, Node]) -> None:
    first, _ = nodes
    before = first.ours()
    first.ip("route", "add", "172.30.0.0/16", "via", "192.168.77.200")
    first.ip("route", "del", "local", SERVICES, "dev", "lo", "table", "local")
    first.ip("route", "del", "10.144.2.0/24")
    sh("nsenter", f"--net=/var/run/netns/{first.namespace}", "iptables", "-t", "nat", "-F", "SAMPAN-POSTROUTING")
    if first.in_container:
        first.ip("addr", "del", "10.144.1.1/32", "dev", first.bridge())
    first.do("reconcile")
    assert sorted(first.ours()) == sorted(before)
    rules = sh("nsenter", f"--net=/var/run/netns/{first.namespace}", "iptables", "-t", "nat", "-S")
    assert "MASQUERADE" in rules
    assert "10.144.1.1" in first.ip("addr", "show", "dev", first.bridge())
    first.do("teardown")
    assert first.ours() == []
    assert "172.30.0.0/16" in first.ip("route", "show")
    for table in ("nat", "filter"):
        rules = sh("nsenter", f"--net=/var/run/netns/{first.namespace}", "iptables", "-t", table, "-S")
        assert "SAMPAN" not in rules
    assert json.loads(first.ip("-j", "link", "show", "type", "bridge")) == []


def test_peers_come_go_and_move(nodes: tuple[Node, Node]) -> None:
    first, second = nodes
    first.do("peers", peers=[])
    assert not any("10.144.2.0/24" in route for route in first.ours())
    first.do("peers", peers=[{**second.peer(), "address": "192.168.77.99"}])
    assert any("10.144.2.0/24 via 192.168.77.99" in route for route in first.ours())
    first.do("peers", peers=[second.peer()])
    assert any("10.144.2.0/24 via 192.168.77.2" in route for route in first.ours())
    far = {"name": "far", "address": "203.0.113.9", "pod_cidr": "10.144.3.0/24"}
    first.do("peers", peers=[second.peer(), far])
    (problem,) = first.do("problems")
    assert "far" in problem and "203.0.113.9" in problem and "link" in problem


def test_addresses_for_node_ports(nodes: tuple[Node, Node]) -> None:
    first, _ = nodes
    addresses = first.do("addresses")
    assert addresses[:2] == ["127.0.0.1", first.address]
    assert "10.144.1.1" in addresses
    assert not any(address.startswith("10.196.") for address in addresses)


def test_the_default_route_never_points_at_ourselves(nodes: tuple[Node, Node]) -> None:
    first, _ = nodes
    if not first.in_container:
        pytest.skip("only an engine that connects a container changes its default route")
    # As the engine leaves it on a new start: the default route through the gateway that is not there yet.
    first.ip("addr", "del", "10.144.1.1/32", "dev", first.bridge())
    first.ip("route", "add", "default", "via", "10.144.1.1", "dev", first.bridge())
    first.do("reconcile")
    assert "default via 192.168.77.254 dev eth0" in first.ip("route", "show", "default")


WITHOUT_RIGHTS = """
import asyncio
from common.errors import Forbidden
from node_agent.network import netlink
from node_agent.network.plan import AddAddress, PutRoute, Route, SetSysctl

for step in (
    PutRoute(Route("local", "10.197.0.0/16", dev="lo")),
    AddAddress("lo", "10.197.0.1/32"),
    SetSysctl("net.ipv4.no_such_setting", "1"),
):
    try:
        asyncio.run(netlink.apply(step))
    except Forbidden as error:
        print(error)
"""


def test_without_rights_the_error_says_what_is_missing(nodes: tuple[Node, Node]) -> None:
    first, _ = nodes
    command = ["nsenter", f"--net=/var/run/netns/{first.namespace}", "setpriv", "--bounding-set=-net_admin"]
    command += ["--inh-caps=-net_admin", "--", sys.executable, "-c", WITHOUT_RIGHTS]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=90)
    route, address, sysctl = done.stdout.splitlines()
    assert "NET_ADMIN" in route and "10.197.0.0/16" in route
    assert "NET_ADMIN" in address and "10.197.0.1/32" in address
    assert "net.ipv4.no_such_setting" in sysctl and "--sysctl" in sysctl
