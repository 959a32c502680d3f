"""What a node's network shall be, what it is, and the steps between the two: plain data.

Only routes with our protocol number, the tunnel that bears our name and addresses we name ourselves are ever removed:
everything else on the machine is somebody else's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from node_agent.network.tunnel import Forward, Neighbor, Tunnel

# rtm_protocol of every route the agent makes: 128-255 are taken by routing daemons (rt_protos), 83 (0x53) by nobody.
PROTOCOL = 83
# Worse than any route a person would set for the same prefix.
LAST_METRIC = 0x53000000
LOOPBACK = "lo"


@dataclass(frozen=True)
class Peer:
    """Another node: how it is reached and the range of its pods ("10.244.2.0/24").

    `network` is what was asked for this pair of nodes: "direct", "vxlan", or empty for what is found.
    """

    name: str
    address: str
    pod_cidr: str
    network: str = ""


@dataclass(frozen=True, order=True)
class Route:
    """One of our routes; `kind` is "unicast" (`via` on `dev`), "local" (on `dev`) or "unreachable".

    `source` is the address the node itself speaks from there, empty for the kernel's choice; `onlink`: `via` is
    behind `dev` though no address says so.
    """

    kind: str
    destination: str
    via: str = ""
    dev: str = ""
    metric: int = 0
    source: str = ""
    onlink: bool = False

    @property
    def slot(self) -> tuple[str, str, int]:
        """The kernel holds one route per slot: table (local routes have their own), destination, metric."""
        return ("local" if self.kind == "local" else "main", self.destination, self.metric)


@dataclass(frozen=True)
class Way:
    """A route that is not ours and leads somewhere."""

    destination: str
    dev: str


@dataclass(frozen=True)
class Observed:
    """What the kernel says. `addresses` by device as "ip/prefix"; `routes` only ours, `ways` those of others.

    `mtus` by device in bytes. `tunnel`, if the node has one, with its forwarding and neighbour entries.
    """

    addresses: Mapping[str, frozenset[str]] = field(default_factory=dict)
    routes: frozenset[Route] = frozenset()
    default_via: str = ""
    sysctls: Mapping[str, str] = field(default_factory=dict)
    mtus: Mapping[str, int] = field(default_factory=dict)
    ways: tuple[Way, ...] = ()
    tunnel: Tunnel | None = None
    tunnel_up: bool = True
    forwards: frozenset[Forward] = frozenset()
    neighbors: frozenset[Neighbor] = frozenset()
    # Ports of bridges that send nothing back to where it came from, each with its bridge.
    one_way: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Wanted:
    """What shall be. `pod_device` is where the node's pods are, empty while it is not known.

    `gateway` is the address that `pod_device` must hold beside its own (in a container), or empty. `outside` is the
    gateway to use when the engine pointed the default route at `gateway`, which is ourselves. `peers` is None until
    they are known: an agent that starts without a master keeps the routes its predecessor made. `tunnel` and `vni`
    name the device that is made as soon as a peer is behind no link of ours.
    """

    node: str
    pod_cidr: str
    cluster_cidr: str
    service_cidr: str
    pod_device: str
    gateway: str = ""
    outside: str = ""
    peers: tuple[Peer, ...] | None = ()
    tunnel: str = ""
    vni: int = 1


@dataclass(frozen=True)
class SetSysctl:
    """Write `value` to the kernel setting `name` ("net.ipv4.ip_forward"); not `needed`: failing is only a problem."""

    name: str
    value: str
    needed: bool = True


@dataclass(frozen=True)
class AddAddress:
    device: str
    address: str


@dataclass(frozen=True)
class TurnBack:
    """Let this port of a bridge send back what came from it: a pod may meet itself at a service's address."""

    device: str


@dataclass(frozen=True)
class PutRoute:
    """Make the route, in place of ours with the same slot."""

    route: Route


@dataclass(frozen=True)
class RemoveRoute:
    route: Route


@dataclass(frozen=True)
class SetDefault:
    """Point the default route at this gateway."""

    via: str


@dataclass(frozen=True)
class PutTunnel:
    """Make the device, or give the one of that name the hardware address and MTU; and switch it on."""

    tunnel: Tunnel


@dataclass(frozen=True)
class RemoveTunnel:
    """With it go its routes, forwarding and neighbour entries."""

    name: str


@dataclass(frozen=True)
class PutForward:
    """In place of the one for the same hardware address."""

    device: str
    forward: Forward


@dataclass(frozen=True)
class RemoveForward:
    device: str
    forward: Forward


@dataclass(frozen=True)
class PutNeighbor:
    """In place of the one for the same address."""

    device: str
    neighbor: Neighbor


@dataclass(frozen=True)
class RemoveNeighbor:
    device: str
    neighbor: Neighbor


Step = (
    SetSysctl
    | AddAddress
    | TurnBack
    | PutRoute
    | RemoveRoute
    | SetDefault
    | PutTunnel
    | RemoveTunnel
    | PutForward
    | RemoveForward
    | PutNeighbor
    | RemoveNeighbor
)


@dataclass(frozen=True)
class Plan:
    """Steps in order; `problems` are sentences about what cannot be reached and why."""

    steps: tuple[Step, ...]
    problems: tuple[str, ...] = ()

    def summary(self) -> str:
        """For the log: how many steps of which sort."""
        counts: dict[str, int] = {}
        for step in self.steps:
            counts[type(step).__name__] = counts.get(type(step).__name__, 0) + 1
        return ", ".join(f"{count} {name}" for name, count in counts.items()) or "nothing"
