"""What a node's network is, as one JSON document: everything the agent has set up, by name; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from node_agent.network.iptables import Present
from node_agent.network.plan import reach
from node_agent.network.seam import NetworkSpec
from node_agent.network.steps import Observed, Wanted


def report(
    wanted: Wanted,
    observed: Observed,
    spec: NetworkSpec,
    *,
    node_ip: str,
    addresses: Iterable[str],
    chains: Iterable[Present],
    settings: Mapping[str, str],
    problems: Iterable[str],
) -> dict[str, Any]:
    """`settings` are the kernel settings that were changed, with the values they had before.

    Only what is there is listed: what is wanted and missing is among the problems, or there again a moment later.
    """
    tunnel = observed.tunnel
    device = wanted.pod_device
    held = sorted(observed.addresses.get(device, ()))
    return {
        "node": wanted.node,
        "address": node_ip,
        "addresses": list(addresses),
        "ranges": {"pods": wanted.pod_cidr, "cluster": wanted.cluster_cidr, "services": wanted.service_cidr},
        "podNetwork": {
            "name": spec.name,
            "subnet": spec.subnet,
            "gateway": spec.aux_gateway or spec.gateway,
            "device": device,
            "mtu": observed.mtus.get(device, 0),
            "options": dict(spec.options),
        },
        "links": [] if tunnel is None else [_tunnel(observed)],
        "deviceAddresses": [{"device": device, "address": address} for address in held],
        "peers": _peers(wanted, observed),
        "routes": [
            {
                "kind": route.kind,
                "destination": route.destination,
                "via": route.via,
                "device": route.dev,
                "source": route.source,
                "metric": route.metric,
            }
            for route in sorted(observed.routes)
        ],
        "forwards": [{"mac": one.mac, "address": one.address} for one in sorted(observed.forwards)],
        "neighbors": [{"address": one.ip, "mac": one.mac} for one in sorted(observed.neighbors)],
        "chains": [
            {"table": one.table, "chain": one.chain, "parents": list(one.parents), "rules": list(one.rules)}
            for one in chains
        ],
        "settings": [
            {"name": name, "before": before, "now": observed.sysctls.get(name, "")}
            for name, before in sorted(settings.items())
        ],
        "problems": list(problems),
    }


def _tunnel(observed: Observed) -> dict[str, Any]:
    tunnel = observed.tunnel
    assert tunnel is not None
    return {
        "name": tunnel.name,
        "kind": "vxlan",
        "vni": tunnel.vni,
        "port": tunnel.port,
        "mac": tunnel.mac,
        "mtu": tunnel.mtu,
        "up": observed.tunnel_up,
    }


def _peers(wanted: Wanted, observed: Observed) -> list[dict[str, str]]:
    found = {one.peer.name: one for one in reach(wanted, observed)[0]}
    rows = []
    for peer in sorted(wanted.peers or (), key=lambda peer: peer.name):
        how = found.get(peer.name)
        way = "none" if how is None else "vxlan" if how.tunnelled else "direct"
        rows.append(
            {
                "name": peer.name,
                "address": peer.address,
                "podCIDR": peer.pod_cidr,
                "way": way,
                "asked": peer.network,
                "device": how.device if how is not None else "",
            }
        )
    return rows
