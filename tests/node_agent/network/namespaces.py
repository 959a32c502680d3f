"""Nodes as network namespaces, for tests: a NodeNetwork process in each, pods as namespaces on their bridges."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SERVICES = "10.196.0.0/16"
CLUSTER = "10.144.0.0/16"
ROOT = Path(__file__).parents[3]


def sh(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


class Node:
    """A namespace on the test's link, a NodeNetwork process in it, and pods as namespaces on its bridge."""

    def __init__(
        self, stack: contextlib.ExitStack, prefix: str, number: int, *, in_container: bool = False, address: str = ""
    ) -> None:
        self._stack = stack
        self.namespace = f"{prefix}n{number}"
        self.name = f"n{number}"
        self.address = address or f"192.168.77.{number}"
        self.pod_cidr = f"10.144.{number}.0/24"
        self.in_container = in_container
        self._add_namespace(self.namespace)
        self.process: subprocess.Popen[str] | None = None

    def _add_namespace(self, name: str) -> None:
        sh("ip", "netns", "add", name)
        self._stack.callback(subprocess.run, ["ip", "netns", "delete", name], capture_output=True)
        sh("ip", "-n", name, "link", "set", "lo", "up")

    def ip(self, *arguments: str) -> str:
        return sh("ip", "-n", self.namespace, *arguments)

    def start(self) -> None:
        config = {
            "cluster": "test",
            "node": self.name,
            "pod_cidr": self.pod_cidr,
            "cluster_cidr": CLUSTER,
            "service_cidr": SERVICES,
            "node_ip": self.address,
            "in_container": self.in_container,
        }
        self.process = subprocess.Popen(
            [
                *("nsenter", f"--net=/var/run/netns/{self.namespace}"),
                *(sys.executable, "-m", "tests.node_agent.network.node_process"),
                *(json.dumps(config), "192.168.77.254"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
        )
        self._stack.callback(self.stop)

    def stop(self) -> None:
        if self.process is not None:
            assert self.process.stdin is not None and self.process.stdout is not None
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()
            self.process = None

    def ask(self, do: str, **fields: Any) -> dict[str, Any]:
        assert self.process is not None and self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": do, **fields}) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def do(self, do: str, **fields: Any) -> Any:
        answer = self.ask(do, **fields)
        assert "error" not in answer, answer["error"]
        return answer["answer"]

    def bridge(self) -> str:
        links = json.loads(self.ip("-j", "link", "show", "type", "bridge"))
        return next(str(link["ifname"]) for link in links if link["ifname"].startswith("sampan"))

    def pod(self, number: int, ip: str) -> str:
        """A pod as the engine makes one: an interface on the bridge and a default route to the gateway."""
        name = f"{self.namespace}p{number}"
        self._add_namespace(name)
        port = f"{self.namespace}v{number}"
        self.ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
        self.ip("link", "set", port, "master", self.bridge(), "up")
        sh("ip", "-n", name, "addr", "add", f"{ip}/24", "dev", "eth0")
        sh("ip", "-n", name, "link", "set", "eth0", "up")
        sh("ip", "-n", name, "route", "add", "default", "via", self.pod_cidr.replace(".0/24", ".1"))
        return name

    def ours(self) -> list[str]:
        return [line.strip() for line in self.ip("route", "show", "table", "all", "proto", "83").splitlines()]

    def peer(self) -> dict[str, str]:
        return {"name": self.name, "address": self.address, "pod_cidr": self.pod_cidr}


PROBE = """
import socket, sys
sock = socket.socket()
sock.settimeout(15)
print(sock.connect_ex((sys.argv[1], int(sys.argv[2]))))
"""
SERVE = """
import socket, sys
server = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("ready", flush=True)
while True:
    client, address = server.accept()
    client.sendall(address[0].encode())
    client.close()
"""
ASK = """
import socket, sys
print(socket.create_connection((sys.argv[1], int(sys.argv[2])), 60).recv(100).decode())
"""


def inside(namespace: str, code: str, *arguments: str) -> str:
    command = ["nsenter", f"--net=/var/run/netns/{namespace}", sys.executable, "-IS", "-c", code, *arguments]
    return sh(*command).strip()


@contextlib.contextmanager
def serving(namespace: str, ip: str, port: int) -> Iterator[None]:
    command = ["nsenter", f"--net=/var/run/netns/{namespace}", sys.executable, "-c", SERVE, ip, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            yield
        finally:
            process.kill()
