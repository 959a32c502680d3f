"""From what a node's network shall be and what it is to the ordered steps between them; pure, touches no kernel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network

from node_agent.network.steps import (
    LAST_METRIC,
    LOOPBACK,
    AddAddress,
    Observed,
    Peer,
    Plan,
    PutForward,
    PutNeighbor,
    PutRoute,
    PutTunnel,
    RemoveForward,
    RemoveNeighbor,
    RemoveRoute,
    RemoveTunnel,
    Route,
    SetDefault,
    SetSysctl,
    Step,
    TurnBack,
    Wanted,
)
from node_agent.network.tunnel import USUAL_MTU, Forward, Neighbor, Tunnel, gateway_of, mac_of, pod_mtu


def device_to(address: str, observed: Observed) -> str:
    """The device on whose link the address is; empty when it is on none."""
    target = IPv4Address(address)
    best: tuple[int, str] = (-1, "")
    for device, held in observed.addresses.items():
        for entry in held:
            network = IPv4Network(entry, strict=False)
            if device != LOOPBACK and network.prefixlen < 32 and target in network:
                best = max(best, (network.prefixlen, device))
    return best[1]


def way_to(address: str, observed: Observed) -> str:
    """The device through which routes that are not ours lead to the address; empty when none does."""
    target = IPv4Address(address)
    best: tuple[int, str] = (-1, "")
    for way in observed.ways:
        network = IPv4Network(way.destination)
        if target in network:
            best = max(best, (network.prefixlen, way.dev))
    return best[1]


def link_mtu(node_ip: str, observed: Observed) -> int:
    """The MTU of the link that other nodes reach this one on, in bytes; Ethernet's where that is not known.

    That is the link of the node's own address, or, when no device has it, the one of the default route.
    """
    default = next((way.dev for way in observed.ways if way.destination == "0.0.0.0/0"), "")
    device = default
    for name, held in observed.addresses.items():
        if name != LOOPBACK and any(entry.split("/")[0] == node_ip for entry in held):
            device = name
    return observed.mtus.get(device, USUAL_MTU)


@dataclass(frozen=True)
class Reached:
    """How a peer's pods are reached: on the link `device`, or (`tunnelled`) in packets that leave through it."""

    peer: Peer
    device: str
    tunnelled: bool


def reach(wanted: Wanted, observed: Observed) -> tuple[tuple[Reached, ...], tuple[str, ...]]:
    """Every known peer that can be reached, and a sentence for every one that cannot."""
    found: list[Reached] = []
    problems: list[str] = []
    own = IPv4Network(wanted.pod_cidr)
    taken: dict[str, str] = {}
    for peer in sorted(wanted.peers or (), key=lambda peer: peer.name):
        if peer.name == wanted.node or not peer.pod_cidr:
            continue
        pods = str(IPv4Network(peer.pod_cidr))
        if IPv4Network(pods).overlaps(own) or pods in taken:
            holder = taken.get(pods, wanted.node)
            problems.append(f"node {peer.name}: pod CIDR {pods} is that of node {holder}; pods there are not reachable")
            continue
        how = _reached(peer, wanted, observed)
        if isinstance(how, str):
            problems.append(f"node {peer.name}: {how}; its pods {pods} are not reachable")
            continue
        taken[pods] = peer.name
        found.append(how)
    return tuple(found), tuple(problems)


def _reached(peer: Peer, wanted: Wanted, observed: Observed) -> Reached | str:
    if not peer.address:
        return "has no address"
    link = device_to(peer.address, observed)
    if link == wanted.pod_device or link == wanted.tunnel:
        link = ""
    if link and peer.network != "vxlan":
        return Reached(peer, link, tunnelled=False)
    if peer.network == "direct":
        return f"{peer.address} is on no link of this node, and sampan.dev/network asks for a direct route"
    way = link or way_to(peer.address, observed)
    if not way or not wanted.tunnel:
        return f"{peer.address} is on no link of this node, and no route leads there"
    return Reached(peer, way, tunnelled=True)


def plan(wanted: Wanted, observed: Observed) -> Plan:
    """The steps from observed to wanted; empty when nothing differs."""
    steps: list[Step] = []
    if observed.sysctls.get("net.ipv4.ip_forward") == "0":
        steps.append(SetSysctl("net.ipv4.ip_forward", "1"))
    if wanted.gateway and wanted.pod_device:
        held = observed.addresses.get(wanted.pod_device, frozenset())
        if not any(entry.split("/")[0] == wanted.gateway for entry in held):
            # /32: it must never become the device's first address, from which the agent itself speaks.
            steps.append(AddAddress(wanted.pod_device, f"{wanted.gateway}/32"))
    if wanted.outside and observed.default_via == wanted.gateway:
        steps.append(SetDefault(wanted.outside))
    steps += [TurnBack(device) for device, bridge in sorted(observed.one_way.items()) if bridge == wanted.pod_device]
    reached, problems = reach(wanted, observed)
    behind = [one for one in reached if one.tunnelled]
    tunnel = _tunnel(wanted, observed, behind) if behind else None
    tunnel_first: Sequence[Step] = ()
    tunnel_last: Sequence[Step] = ()
    if wanted.peers is None:
        routes = _kept_routes(wanted, observed)
    else:
        routes = _routes(wanted, reached)
        tunnel_first, tunnel_last = _tunnel_steps(tunnel, behind, observed)
    steps.extend(tunnel_first)
    if any(isinstance(step, RemoveTunnel) for step in tunnel_first):
        gone = frozenset(route for route in observed.routes if route.dev == wanted.tunnel)
        observed = replace(observed, routes=observed.routes - gone)
    steps.extend(_route_steps(routes, observed.routes))
    steps.extend(tunnel_last)
    steps.extend(_filter_steps(routes, wanted, observed))
    return Plan(tuple(steps), problems)


def _routes(wanted: Wanted, reached: Iterable[Reached]) -> frozenset[Route]:
    """Our routes. Longest prefix wins in the kernel: the node's own pods and its peers' are inside `cluster_cidr`,

    and what is left of that range is unreachable at once and never leaves the node.
    """
    routes = {*_guards(wanted)}
    for one in reached:
        pods = str(IPv4Network(one.peer.pod_cidr))
        if one.tunnelled:
            via, source = gateway_of(pods), gateway_of(wanted.pod_cidr)
            routes.add(Route("unicast", pods, via=via, dev=wanted.tunnel, source=source, onlink=True))
        else:
            routes.add(Route("unicast", pods, via=one.peer.address, dev=one.device))
    return frozenset(routes)


def _guards(wanted: Wanted) -> tuple[Route, Route]:
    return (
        Route("local", wanted.service_cidr, dev=LOOPBACK),
        Route("unreachable", wanted.cluster_cidr, metric=LAST_METRIC),
    )


def _kept_routes(wanted: Wanted, observed: Observed) -> frozenset[Route]:
    """While the peers are not known: those that an earlier agent made stay."""
    own, cluster = IPv4Network(wanted.pod_cidr), IPv4Network(wanted.cluster_cidr)
    routes = {*_guards(wanted)}
    for route in observed.routes:
        pods = IPv4Network(route.destination)
        if route.kind == "unicast" and pods.subnet_of(cluster) and not pods.overlaps(own):
            routes.add(route)
    return frozenset(routes)


def _tunnel(wanted: Wanted, observed: Observed, behind: Sequence[Reached]) -> Tunnel:
    mtu = min(observed.mtus.get(one.device, USUAL_MTU) for one in behind)
    return Tunnel(wanted.tunnel, wanted.vni, mac_of(wanted.pod_cidr), pod_mtu(mtu))


def _tunnel_steps(
    tunnel: Tunnel | None, behind: Sequence[Reached], observed: Observed
) -> tuple[Sequence[Step], Sequence[Step]]:
    """What comes before the routes through the tunnel, and what after the routes are gone."""
    there = observed.tunnel
    if tunnel is None:
        return (), [RemoveTunnel(there.name)] if there is not None else []
    first: list[Step] = []
    forwards, neighbors = observed.forwards, observed.neighbors
    if there is not None and not there.same_device(tunnel):
        first.append(RemoveTunnel(there.name))
        there, forwards, neighbors = None, frozenset(), frozenset()
    if there != tunnel or not observed.tunnel_up:
        first.append(PutTunnel(tunnel))
    wanted_forwards = {Forward(mac_of(one.peer.pod_cidr), one.peer.address) for one in behind}
    wanted_neighbors = {Neighbor(gateway_of(one.peer.pod_cidr), mac_of(one.peer.pod_cidr)) for one in behind}
    first += [PutForward(tunnel.name, forward) for forward in sorted(wanted_forwards - forwards)]
    first += [PutNeighbor(tunnel.name, neighbor) for neighbor in sorted(wanted_neighbors - neighbors)]
    # What was put in the place of another is gone by that.
    macs, ips = {one.mac for one in wanted_forwards}, {one.ip for one in wanted_neighbors}
    last: list[Step] = []
    last += [RemoveForward(tunnel.name, one) for one in sorted(forwards - wanted_forwards) if one.mac not in macs]
    last += [RemoveNeighbor(tunnel.name, one) for one in sorted(neighbors - wanted_neighbors) if one.ip not in ips]
    return first, last


def _route_steps(wanted: frozenset[Route], observed: frozenset[Route]) -> Iterable[Step]:
    """First what guards (unreachable), then what serves; what is gone goes last, so no packet leaves in between."""
    new = wanted - observed
    for kind in ("unreachable", "local", "unicast"):
        yield from (PutRoute(route) for route in sorted(new) if route.kind == kind)
    replaced = {route.slot for route in new}
    yield from (RemoveRoute(route) for route in sorted(observed - wanted) if route.slot not in replaced)


def _filter_steps(routes: frozenset[Route], wanted: Wanted, observed: Observed) -> Iterable[Step]:
    """Strict reverse path filtering drops pods' packets that come back another way: loose where it is strict."""
    devices = {route.dev for route in routes if route.kind == "unicast"} | {wanted.pod_device}
    general = observed.sysctls.get("net.ipv4.conf.all.rp_filter", "0")
    for_new = observed.sysctls.get("net.ipv4.conf.default.rp_filter", "0")
    for device in sorted(devices - {""}):
        name = f"net.ipv4.conf.{device}.rp_filter"
        # The kernel uses the larger of "all" and the device's own; 1 is strict, 2 is loose.
        if max(general, observed.sysctls.get(name, for_new if device == wanted.tunnel else "0")) == "1":
            yield SetSysctl(name, "2", needed=False)


def removal(observed: Observed) -> Plan:
    """Takes away our routes and the tunnel; the gateway address goes with its device."""
    # What guards goes last, so that no packet for the cluster's range leaves in between.
    routes = sorted(observed.routes, key=lambda route: (route.kind == "unreachable", route))
    tunnel = [RemoveTunnel(observed.tunnel.name)] if observed.tunnel is not None else []
    through = {observed.tunnel.name} if observed.tunnel is not None else set()
    return Plan((*tunnel, *(RemoveRoute(route) for route in routes if route.dev not in through)))
