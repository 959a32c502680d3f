"""The tunnel in real network namespaces: three nodes on two links with a router between that knows no pods."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.node_agent.network.namespaces import ASK, Node, inside, serving, sh

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]

# On each link: its nodes have .NUMBER, the router .254.
LINKS = {1: "192.168.78", 2: "192.168.79"}


@dataclass
class Fabric:
    nodes: list[Node]
    router: str

    def peers(self) -> list[dict[str, str]]:
        return [node.peer() for node in self.nodes]

    def tell_all(self) -> None:
        for node in self.nodes:
            node.do("peers", peers=self.peers())


@contextlib.contextmanager
def fabric(mtu: int) -> Iterator[Fabric]:
    """Nodes 1 and 2 on link 1, node 3 on link 2."""
    with contextlib.ExitStack() as stack:
        prefix = f"s{secrets.token_hex(2)}"
        router = f"{prefix}r"
        sh("ip", "netns", "add", router)
        stack.callback(subprocess.run, ["ip", "netns", "delete", router], capture_output=True)
        sh("nsenter", f"--net=/var/run/netns/{router}", "sysctl", "-qw", "net.ipv4.ip_forward=1")
        for link, subnet in LINKS.items():
            sh("ip", "-n", router, "link", "add", f"br{link}", "mtu", str(mtu), "type", "bridge")
            sh("ip", "-n", router, "addr", "add", f"{subnet}.254/24", "dev", f"br{link}")
            sh("ip", "-n", router, "link", "set", f"br{link}", "up")
        nodes = []
        for number, link in ((1, 1), (2, 1), (3, 2)):
            node = Node(stack, prefix, number, address=f"{LINKS[link]}.{number}")
            plug(router, node, link, mtu)
            node.start()
            nodes.append(node)
        made = Fabric(nodes, router)
        for node in nodes:
            node.do("setup")
        made.tell_all()
        yield made


def plug(router: str, node: Node, link: int, mtu: int) -> None:
    port = f"e{node.name}"
    size = ("mtu", str(mtu))
    plug_in = ("link", "add", port, *size, "type", "veth", "peer", "name", "eth0", *size, "netns", node.namespace)
    sh("ip", "-n", router, *plug_in)
    sh("ip", "-n", router, "link", "set", port, "master", f"br{link}", "up")
    node.ip("addr", "add", f"{node.address}/24", "dev", "eth0")
    node.ip("link", "set", "eth0", "up")
    node.ip("route", "add", "default", "via", f"{LINKS[link]}.254")


RECEIVE = """
import socket, sys
server = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("ready", flush=True)
client, _ = server.accept()
total = 0
while data := client.recv(1 << 16):
    total += len(data)
client.sendall(b"%d" % total)
client.close()
"""
SEND = """
import socket, sys
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])), 60)
sock.settimeout(60)
for _ in range(int(sys.argv[3])):
    sock.sendall(b"x" * 65536)
sock.shutdown(socket.SHUT_WR)
print(sock.recv(100).decode())
"""
BULK = 64


def carry_bulk(source: str, target: str, ip: str) -> None:
    """4 MiB of TCP from one namespace to an address of another."""
    command = ["nsenter", f"--net=/var/run/netns/{target}", sys.executable, "-c", RECEIVE, ip, "9000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            assert inside(source, SEND, ip, "9000", str(BULK)) == str(BULK * 65536)
        finally:
            process.kill()


def ways(node: Node) -> dict[str, str]:
    return {peer["name"]: peer["way"] for peer in node.do("describe")["peers"] if peer["name"] != node.name}


@pytest.mark.parametrize("mtu", [1500, 1280])
def test_bulk_goes_through_tunnel_and_direct_routes(mtu: int) -> None:
    with fabric(mtu) as made:
        first, _, third = made.nodes
        assert ways(first) == {"n2": "direct", "n3": "vxlan"}
        assert ways(third) == {"n1": "vxlan", "n2": "vxlan"}
        pods = [node.pod(1, f"10.144.{number}.10") for number, node in enumerate(made.nodes, 1)]
        # Pods of links that carry 1280 begin with an Ethernet of 1500 here: what fits is found all the same.
        carry_bulk(pods[0], pods[2], "10.144.3.10")
        carry_bulk(pods[2], pods[1], "10.144.2.10")
        carry_bulk(pods[0], pods[1], "10.144.2.10")
        carry_bulk(first.namespace, pods[2], "10.144.3.10")
        (tunnel,) = first.do("describe")["links"]
        assert tunnel["mtu"] == mtu - 50 and tunnel["up"]
        assert first.do("setup") is not None
        assert first.do("describe")["podNetwork"]["options"]["com.docker.network.driver.mtu"] == str(mtu - 50)
        with serving(pods[2], "10.144.3.10", 8080):
            assert inside(pods[0], ASK, "10.144.3.10", "8080") == "10.144.1.10", "a pod sees the other pod's address"
            assert inside(first.namespace, ASK, "10.144.3.10", "8080") == "10.144.1.1", "the node speaks as the gateway"
        with serving(third.namespace, third.address, 9000):
            assert inside(pods[0], ASK, third.address, "9000") == first.address, "the outside sees the node"


def test_the_way_can_be_chosen_and_changed_per_peer() -> None:
    with fabric(1500) as made:
        first, second, third = made.nodes
        pods = [node.pod(1, f"10.144.{number}.10") for number, node in enumerate(made.nodes, 1)]
        for node in (first, second):
            others = [{**other.peer(), "network": "vxlan"} for other in (first, second)]
            node.do("peers", peers=[*others, third.peer()])
        assert ways(first) == {"n2": "vxlan", "n3": "vxlan"}
        with serving(pods[1], "10.144.2.10", 8080):
            assert inside(pods[0], ASK, "10.144.2.10", "8080") == "10.144.1.10"
        first.do("peers", peers=[second.peer(), {**third.peer(), "network": "direct"}])
        assert ways(first) == {"n2": "direct", "n3": "none"}
        (problem,) = first.do("problems")
        assert "n3" in problem and "sampan.dev/network" in problem
        assert first.do("describe")["links"] == [], "a tunnel that leads nowhere is gone"


def test_damage_to_the_tunnel_is_repaired() -> None:
    with fabric(1500) as made:
        first, _, third = made.nodes
        pods = [made.nodes[0].pod(1, "10.144.1.10"), third.pod(1, "10.144.3.10")]
        (tunnel,) = first.do("describe")["links"]
        before = first.do("describe")

        def check() -> None:
            first.do("reconcile")
            assert first.do("describe") == before
            with serving(pods[1], "10.144.3.10", 8080):
                assert inside(pods[0], ASK, "10.144.3.10", "8080") == "10.144.1.10"

        first.ip("link", "set", tunnel["name"], "down")
        check()
        first.ip("link", "delete", tunnel["name"])
        check()
        first.ip("neigh", "flush", "dev", tunnel["name"], "nud", "permanent")
        first.ip("link", "set", tunnel["name"], "mtu", "1000")
        check()
        first.ip("link", "delete", tunnel["name"])
        first.ip("link", "add", tunnel["name"], "type", "vxlan", "id", "5", "dstport", "4789")
        check()


def test_a_node_moves_to_another_address_and_link() -> None:
    with fabric(1500) as made:
        first, second, third = made.nodes
        pods = [node.pod(1, f"10.144.{number}.10") for number, node in enumerate(made.nodes, 1)]
        second.ip("link", "delete", "eth0")
        second.address = f"{LINKS[2]}.22"
        plug(made.router, second, 2, 1500)
        made.tell_all()
        assert ways(first) == {"n2": "vxlan", "n3": "vxlan"}
        assert ways(third) == {"n1": "vxlan", "n2": "direct"}
        for source in (pods[0], pods[2]):
            with serving(pods[1], "10.144.2.10", 8080):
                assert inside(source, ASK, "10.144.2.10", "8080").startswith("10.144.")


def test_an_agent_without_a_master_keeps_the_tunnel() -> None:
    with fabric(1500) as made:
        first = made.nodes[0]
        before = first.do("describe")
        first.stop()
        first.start()
        first.do("setup")
        after = first.do("describe")
        assert (after["links"], after["forwards"], after["routes"]) == (
            before["links"],
            before["forwards"],
            before["routes"],
        )


def test_everything_is_listed_and_removed() -> None:
    with fabric(1500) as made:
        first = made.nodes[0]
        # As the machine was before any agent: the fabric has set it up already.
        first.do("teardown")
        for name in ("all", "eth0"):
            path = f"/proc/sys/net/ipv4/conf/{name}/rp_filter"
            sh("nsenter", f"--net=/var/run/netns/{first.namespace}", "sh", "-c", f"echo 1 > {path}")
        clean = everything(first)
        first.do("setup")
        first.do("peers", peers=made.peers())
        told = first.do("describe")
        shown = json.dumps(told)
        for line in difference(clean, everything(first)):
            for word in names_in(line):
                assert word in shown, f"{word} of {line!r} is not listed"
        assert {setting["name"] for setting in told["settings"]} >= {"net.ipv4.conf.eth0.rp_filter"}
        first.do("teardown")
        assert everything(first) == clean


def everything(node: Node) -> list[str]:
    """What the kernel holds of links, addresses, routes, rules and settings in a node's namespace."""
    enter = ["nsenter", f"--net=/var/run/netns/{node.namespace}"]
    lines = [f"link {link['ifname']} {link['mtu']}" for link in json.loads(node.ip("-j", "link", "show"))]
    lines += [f"route {line}" for line in node.ip("-4", "route", "show", "table", "all").splitlines()]
    lines += [f"rule {line}" for line in node.ip("-4", "rule", "show").splitlines()]
    lines += [f"neigh {line}" for line in node.ip("neigh", "show", "nud", "permanent").splitlines()]
    for table in ("filter", "nat", "mangle"):
        lines += [f"{table} {line}" for line in sh(*enter, "iptables", "-t", table, "-S").splitlines()]
    for name in ("all", "eth0", "lo", "default"):
        lines += [f"rp_filter {name} " + sh(*enter, "cat", f"/proc/sys/net/ipv4/conf/{name}/rp_filter").strip()]
    lines += ["ip_forward " + sh(*enter, "cat", "/proc/sys/net/ipv4/ip_forward").strip()]
    return sorted(line.strip() for line in lines)


def difference(before: list[str], after: list[str]) -> list[str]:
    return [line for line in after if line not in before]


def names_in(line: str) -> list[str]:
    """What of a line must be in the list: devices, ranges and chains of ours."""
    if "proto kernel" in line:
        # Comes and goes with an address.
        return []
    words = line.replace("/32", "").split()
    return [word for word in words if word.startswith(("sampan", "SAMPAN", "10.144.", "10.196."))][:2]


def test_the_router_gone_and_back() -> None:
    with fabric(1500) as made:
        first, _, third = made.nodes
        here, there = first.pod(1, "10.144.1.10"), third.pod(1, "10.144.3.10")
        with serving(there, "10.144.3.10", 8080):
            sh("ip", "-n", made.router, "link", "set", "br2", "down")
            first.do("reconcile")
            assert ways(first)["n3"] == "vxlan"
            sh("ip", "-n", made.router, "link", "set", "br2", "up")
            assert inside(here, ASK, "10.144.3.10", "8080") == "10.144.1.10"
