"""Cables and switches: bridges in a namespace of their own, named namespaces plugged into them, a router between."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from pathlib import Path

from tests.harness.commands import CommandFailed, run
from tests.harness.slots import Addresses

_numbers = itertools.count(1)


async def ip(lines: Sequence[str], *, netns: str = "", force: bool = False) -> None:
    """Runs `ip` commands in one batch, in a named namespace or the machine's own. Raises CommandFailed."""
    command = ["ip", *(["-n", netns] if netns else []), *(["-force"] if force else []), "-batch", "-"]
    await run(command, input="\n".join(lines) + "\n")


# Whoever sets up a cluster's own ranges adds better routes than these.
_GUARDS = ("route add unreachable 10.244.0.0/16 metric 65535", "route add unreachable 10.96.0.0/16 metric 65535")


class Fabric:
    """One layer-2 network or two; the machine's own iptables and bridge filters do not see their packets.

    With `links=2` there is a router between the two, which knows nothing but them. `mtu` is that of every cable.
    """

    def __init__(self, addresses: Addresses, *, links: int = 1, mtu: int = 1500) -> None:
        self.addresses = addresses
        self._links = range(1, links + 1)
        self._mtu = mtu
        # The switch and the cable of each port.
        self._bridges: dict[str, str] = {}
        # The router's ports by link.
        self.router_ports: dict[int, str] = {}

    async def up(self) -> None:
        """Makes the bridges and this machine's own plug into the first (the test's address)."""
        a = self.addresses
        await ip([f"netns add {a.fabric}"])
        await ip(["link set lo up"], netns=a.fabric)
        for link in self._links:
            bridge = _bridge(link)
            made = f"link add {bridge} mtu {self._mtu} type bridge forward_delay 0"
            await ip([made, f"link set {bridge} up"], netns=a.fabric)
        port = self._port_name(1)
        await ip(
            [
                f"link add {a.test_link} mtu {self._mtu} type veth peer name {port} mtu {self._mtu} netns {a.fabric}",
                f"addr add {a.test_address}/24 dev {a.test_link}",
                f"link set {a.test_link} up",
                *self._ways(1),
            ]
        )
        await self.restore(port)
        if len(self._links) > 1:
            await self._route()

    async def _route(self) -> None:
        """The router: a namespace with a plug in each link."""
        netns = self.addresses.router_netns
        await ip([f"netns add {netns}"])
        await ip(["link set lo up", *_GUARDS], netns=netns)
        await run(["ip", "netns", "exec", netns, "sysctl", "-qw", "net.ipv4.ip_forward=1"])
        for link in self._links:
            self.router_ports[link] = port = self._port_name(link)
            await ip(self._cable(f"eth{link - 1}", port, self.addresses.router_address(link)), netns=netns)
            await self.restore(port)

    async def plug(self, netns: str, address: str, link: int = 1) -> str:
        """Makes namespace `netns` with `address` on its eth0, plugged in; returns the name of the switch's port.

        There is no route outward: a packet that nobody here wants never leaves the machine.
        """
        port = self._port_name(link)
        await ip([f"netns add {netns}"])
        lines = ["link set lo up", *self._cable("eth0", port, address), *self._ways(link), *_GUARDS]
        await ip(lines, netns=netns)
        await self.restore(port)
        return port

    async def readdress(self, netns: str, address: str, link: int = 1) -> None:
        """Gives a plugged-in namespace another address in the place of the one it has."""
        await ip(["addr flush dev eth0", f"addr add {address}/24 dev eth0", *self._ways(link)], netns=netns)

    def _cable(self, device: str, port: str, address: str) -> list[str]:
        size = f"mtu {self._mtu}"
        return [
            f"link add {device} {size} type veth peer name {port} {size} netns {self.addresses.fabric}",
            f"addr add {address}/24 dev {device}",
            f"link set {device} up",
        ]

    def _ways(self, link: int) -> list[str]:
        """The routes of somebody on this link to the other links."""
        a = self.addresses
        return [
            f"route add {a.link_subnet(other)} via {a.router_address(link)}" for other in self._links if other != link
        ]

    async def cut(self, port: str, *, keep_carrier: bool = False) -> None:
        """Pulls the cable of a port; with `keep_carrier` the other end does not notice, its packets just vanish."""
        change = "nomaster" if keep_carrier else "down"
        await ip([f"link set {port} {change}"], netns=self.addresses.fabric)

    async def restore(self, port: str) -> None:
        """Undoes both kinds of cut."""
        await ip([f"link set {port} master {self._bridges[port]} up"], netns=self.addresses.fabric)

    async def unplug(self, netns: str, port: str = "") -> None:
        """Removes a namespace with its links, routes and packet filters, as a power cut does."""
        if port:
            # First, because the kernel takes a namespace apart in its own time.
            with contextlib.suppress(CommandFailed):
                await ip([f"link delete {port}"], netns=self.addresses.fabric)
        with contextlib.suppress(CommandFailed):
            await ip([f"netns delete {netns}"])

    async def down(self) -> None:
        """Removes the switches, the router and the test's plug; what is missing already is no error."""
        with contextlib.suppress(CommandFailed):
            await ip([f"link delete {self.addresses.test_link}"])
        if len(self._links) > 1:
            await self.unplug(self.addresses.router_netns)
        await self.unplug(self.addresses.fabric)

    def _port_name(self, link: int) -> str:
        port = f"p{next(_numbers)}"
        self._bridges[port] = _bridge(link)
        return port


def _bridge(link: int) -> str:
    return f"br{link - 1}"


def named_namespaces() -> list[str]:
    """The names of all network namespaces that iproute2 knows."""
    folder = Path("/var/run/netns")
    return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
