"""A node, its pods and a client outside as network namespaces on one wire each; real sockets in all of them.

               pods 10.201.1.10, .11  (bridge pods, .1 is the node)
  client ───── node ───── other (pods 10.201.2.10, .11)
192.0.2.2   .1      198.51.100.1   .2
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from common.routing import NodeInfo
from proxy.nft.kernel import Kernel, open_socket

T = TypeVar("T")
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)

NODE = NodeInfo("n1", ("192.0.2.1", "198.51.100.1"), "10.201.1.0/24", "10.201.0.0/16", "10.96.0.0/16", mode="nftables")
HERE = ("10.201.1.10", "10.201.1.11")
THERE = ("10.201.2.10", "10.201.2.11")


class Place:
    """A network namespace, and a thread that lives in it and does what it is told."""

    def __init__(self, name: str) -> None:
        self.name = name
        run("ip", "netns", "add", name)
        self._thread = ThreadPoolExecutor(1, initializer=self._enter)

    def _enter(self) -> None:
        with open(Path("/run/netns") / self.name) as file:
            if _libc.setns(file.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")

    def do(self, work: Callable[[], T]) -> T:
        return self._thread.submit(work).result(30)

    def ip(self, *arguments: str) -> None:
        run("ip", "-n", self.name, *arguments)

    def sysctl(self, name: str, value: str) -> None:
        self.do(lambda: Path("/proc/sys", name).write_text(value) and None)

    def nft(self, *arguments: str) -> str:
        return run("ip", "netns", "exec", self.name, "nft", *arguments)

    def close(self) -> None:
        self._thread.shutdown()
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True)


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


class Server:
    """Answers every connection and datagram with its own address, a space and the client's address."""

    def __init__(self, place: Place, address: str, port: int) -> None:
        self.name = address
        self._tcp = place.do(lambda: socket.create_server((address, port), backlog=512))
        self._udp = place.do(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._udp.bind((address, port))
        self._end, self._ended = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        kept: list[socket.socket] = []
        while True:
            ready, _, _ = select.select([self._tcp, self._udp, self._ended, *kept], [], [])
            for sock in ready:
                if sock is self._ended:
                    for one in kept:
                        one.close()
                    return
                if sock is self._tcp:
                    client, peer = sock.accept()
                    client.sendall(f"{self.name} {peer[0]}\n".encode())
                    kept.append(client)
                elif sock is self._udp:
                    _, peer = sock.recvfrom(2048)
                    sock.sendto(f"{self.name} {peer[0]}\n".encode(), peer)
                else:  # an echo, until the client ends it
                    try:
                        data = sock.recv(4096)
                    except ConnectionError:
                        data = b""
                    if data:
                        sock.sendall(data)
                    else:
                        kept.remove(sock)
                        sock.close()

    def close(self) -> None:
        self._end.close()
        self._thread.join(10)
        for sock in (self._tcp, self._udp, self._ended):
            sock.close()


class World:
    """`node`, `client`, `pods` (here) and `far` (on another node), with servers on port 8080 of every pod."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        tag = f"nft{os.getpid()}"
        made: dict[str, Place] = {}
        for name in ("node", "client", "pod0", "pod1", "far"):
            made[name] = Place(f"{tag}-{name}")
            stack.callback(made[name].close)
            made[name].ip("link", "set", "lo", "up")
        self.node, self.client, self.far = made["node"], made["client"], made["far"]
        self.pods = (made["pod0"], made["pod1"])
        self.node.sysctl("net/ipv4/ip_forward", "1")
        self.node.ip("link", "add", "pods", "type", "bridge")
        self.node.ip("addr", "add", "10.201.1.1/24", "dev", "pods")
        self.node.ip("link", "set", "pods", "up")
        self._wire("out", self.client, "192.0.2.1/24", "192.0.2.2/24")
        self._wire("far", self.far, "198.51.100.1/24", "198.51.100.2/24")
        for index, pod in enumerate(self.pods):
            self._wire(f"pod{index}", pod, "", f"{HERE[index]}/24")
            self.node.ip("link", "set", f"pod{index}", "master", "pods")
            # As the agent does for its pods: a pod may reach itself through a service.
            self.node.ip("link", "set", f"pod{index}", "type", "bridge_slave", "hairpin", "on")
            pod.ip("route", "add", "default", "via", "10.201.1.1")
        self.client.ip("route", "add", "default", "via", "192.0.2.1")
        self.far.ip("route", "add", "10.201.1.0/24", "via", "198.51.100.1")
        for address in THERE:
            self.far.ip("addr", "add", f"{address}/32", "dev", "lo")
        self.node.ip("route", "add", "10.201.2.0/24", "via", "198.51.100.2")
        self.node.ip("route", "add", "local", "10.96.0.0/16", "dev", "lo")
        self.node.ip("route", "add", "default", "via", "192.0.2.2")
        self.servers = [
            *(Server(pod, address, 8080) for pod, address in zip(self.pods, HERE)),
            *(Server(self.far, address, 8080) for address in THERE),
        ]
        for server in self.servers:
            stack.callback(server.close)
        self.kernel = Kernel(lambda: self.node.do(open_socket))

    def _wire(self, device: str, place: Place, here: str, there: str) -> None:
        self.node.ip("link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", place.name)
        if here:
            self.node.ip("addr", "add", here, "dev", device)
        self.node.ip("link", "set", device, "up")
        place.ip("addr", "add", there, "dev", "eth0")
        place.ip("link", "set", "eth0", "up")


@contextlib.contextmanager
def world() -> Iterator[World]:
    with contextlib.ExitStack() as stack:
        yield World(stack)


def connect(place: Place, address: str, port: int, *, source: tuple[str, int] | None = None) -> socket.socket:
    """A connection from a namespace. OSError as connect gives it; a silent loss is a TimeoutError after 0.9 s, before
    the kernel would send the first packet again."""

    def work() -> socket.socket:
        return socket.create_connection((address, port), timeout=0.9, source_address=source)

    return place.do(work)


def ask(place: Place, address: str, port: int, protocol: str = "TCP") -> tuple[str, str]:
    """Who answers, and whom it takes for the client. OSError when refused."""

    def datagram() -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(0.9)
            sock.connect((address, port))
            sock.send(b"who?")
            return sock.recv(2048)

    if protocol == "UDP":
        data = place.do(datagram)
    else:
        with connect(place, address, port) as sock:
            data = sock.recv(2048)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server, client = data.decode().split()
    return server, client
