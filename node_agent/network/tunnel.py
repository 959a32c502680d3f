"""The VXLAN device between nodes that share no link, and who is behind it; pure.

Nothing is learned and nothing is asked: every peer's hardware address follows from its pod range, so that the
forwarding entry (hardware address to node) and the neighbour entry (gateway address to hardware address) are known as
soon as the peer is. The device holds no address; routes through it name the node's pod gateway as their source.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from ipaddress import IPv4Network

# The port Linux and flannel use; 4789, IANA's, is that of Docker Swarm's own overlay on the same machines.
PORT = 8472
# Outer Ethernet is not counted: IPv4 20, UDP 8, VXLAN 8 and the inner Ethernet header 14 bytes (RFC 7348).
OVERHEAD = 50
# Of Ethernet; for a node whose link does not say.
USUAL_MTU = 1500
# Every IPv4 host takes 576 bytes (RFC 791); a smaller figure would be a mistake.
LEAST_MTU = 576


@dataclass(frozen=True)
class Tunnel:
    """The node's VXLAN device; `mac` is lower case, `mtu` in bytes."""

    name: str
    vni: int
    mac: str
    mtu: int
    port: int = PORT

    def same_device(self, other: Tunnel) -> bool:
        """False when only a new device can become the other."""
        return (self.name, self.vni, self.port) == (other.name, other.vni, other.port)


@dataclass(frozen=True, order=True)
class Forward:
    """Frames for `mac` go to the node at `address`."""

    mac: str
    address: str


@dataclass(frozen=True, order=True)
class Neighbor:
    """The gateway `ip` of a peer's pods has hardware address `mac`."""

    ip: str
    mac: str


def tunnel_name(cluster: str, node: str) -> str:
    """15 characters, as many as a device's name may have."""
    return "sampan-vx" + hashlib.sha256(f"{cluster}/{node}".encode()).hexdigest()[:6]


def vni_of(cluster: str) -> int:
    """A VXLAN network identifier (1 to 2^24-1): clusters on the same machines stay apart."""
    return int.from_bytes(hashlib.sha256(cluster.encode()).digest()[:3], "big") or 1


def gateway_of(pod_cidr: str) -> str:
    """The address at which a node is its pods' gateway: the first of the range."""
    return str(IPv4Network(pod_cidr)[1])


def mac_of(pod_cidr: str) -> str:
    """A locally administered hardware address (the 02) of a node's tunnel, made of its gateway address."""
    return ":".join(f"{byte:02x}" for byte in (0x02, 0x53, *IPv4Network(pod_cidr)[1].packed))


def pod_mtu(link_mtu: int) -> int:
    """What pods may send at once on a node whose smallest link carries `link_mtu`.

    Always with room for the tunnel: any day a node may join that is only reached through it.
    """
    return max(link_mtu, LEAST_MTU + OVERHEAD) - OVERHEAD


def agreed(ours: str, theirs: str) -> str:
    """How a pair of nodes reaches each other, by what is asked of each: "direct", "vxlan" or "" (what is found).

    Both nodes come to the same answer: "vxlan" wins, because it works wherever "direct" does.
    """
    asked = {ours, theirs}
    return next((way for way in ("vxlan", "direct") if way in asked), "")
