"""A node's network: its pods' bridge, routes and tunnel to other nodes, the service range made local, masquerading.

A node is a network namespace that is the gateway of its pods. On a plain host the engine's bridge holds the gateway
address. In a container the engine's bridge takes another one, the agent's container joins the network and adds the
gateway address to its own interface. After that both are the same.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import structlog

from common.errors import Forbidden, SampanError, Unavailable
from node_agent.network import iptables, netlink
from node_agent.network.plan import link_mtu, plan, removal
from node_agent.network.report import report
from node_agent.network.seam import (
    GATEWAY_MODE,
    MTU,
    NetworkRuntime,
    NetworkSpec,
    SelfContainer,
    SelfEndpoint,
)
from node_agent.network.settings import Settings
from node_agent.network.steps import Observed, Peer, Plan, SetSysctl, TurnBack, Wanted
from node_agent.network.tunnel import USUAL_MTU, agreed, pod_mtu, tunnel_name, vni_of

__all__ = [
    "NetworkRuntime",
    "NetworkSpec",
    "NodeNetwork",
    "NodeNetworkConfig",
    "Peer",
    "PodNetwork",
    "SelfContainer",
    "SelfEndpoint",
    "agreed",
]

log = structlog.get_logger()

LABEL_CLUSTER = "sampan.dev/cluster"
LABEL_NODE = "sampan.dev/node"
# Seconds until new ports are looked for again after that failed.
WATCH_PAUSE = 5.0


@dataclass(frozen=True)
class NodeNetworkConfig:
    """What a node's network is made from; ranges like "10.244.1.0/24", `node_ip` the address other nodes use.

    `settings` is the file in which changed kernel settings are remembered until the node leaves; None: not kept.
    ValueError when a range is no IPv4 network, is too small for pods (smaller than /29), or service and pods overlap.
    """

    cluster: str
    node: str
    pod_cidr: str
    cluster_cidr: str
    service_cidr: str
    node_ip: str
    in_container: bool = False
    settings: Path | None = None

    def __post_init__(self) -> None:
        for name in ("pod_cidr", "cluster_cidr", "service_cidr"):
            try:
                IPv4Network(getattr(self, name))
            except ValueError as error:
                raise ValueError(f"{name}: must be an IPv4 network: {error}") from error
        if IPv4Network(self.pod_cidr).prefixlen > 29:
            raise ValueError(f"pod_cidr: must be /29 or larger, got {self.pod_cidr}")
        if IPv4Network(self.pod_cidr).overlaps(IPv4Network(self.service_cidr)):
            raise ValueError(f"pod_cidr {self.pod_cidr} and service_cidr {self.service_cidr}: must not overlap")


@dataclass(frozen=True)
class PodNetwork:
    """The engine's network for pods; a pod's address is one of `first` to `last`, both included."""

    name: str
    subnet: str
    gateway: str
    first: str
    last: str


def network_spec(config: NodeNetworkConfig, mtu: int) -> NetworkSpec:
    """The engine's network for a node whose pods send at most `mtu` bytes at once.

    The engine must not masquerade: it would hide pods' addresses from pods on other nodes; our own rules do it for
    the outside. The underscore sorts after compose's names: engines before 28 take a container's default route from
    the network whose name comes first, and that must not be this one.
    """
    hosts = IPv4Network(config.pod_cidr)
    gateway = str(hosts[1])
    digest = hashlib.sha256(f"{config.cluster}/{config.node}".encode()).hexdigest()
    return NetworkSpec(
        name=f"sampan_pods_{config.cluster}_{config.node}",
        subnet=config.pod_cidr,
        gateway=str(hosts[2]) if config.in_container else gateway,
        aux_gateway=gateway if config.in_container else None,
        labels={LABEL_CLUSTER: config.cluster, LABEL_NODE: config.node},
        options={
            "com.docker.network.bridge.name": f"sampan{digest[:8]}",  # a device's name has at most 15 characters
            "com.docker.network.bridge.enable_ip_masquerade": "false",
            "com.docker.network.bridge.enable_icc": "true",
            GATEWAY_MODE: "nat-unprotected",
            MTU: str(mtu),
        },
    )


class NodeNetwork:
    """Keeps one node's network as it shall be; every method may be called again, also by a restarted agent."""

    def __init__(self, runtime: NetworkRuntime, config: NodeNetworkConfig) -> None:
        self._runtime = runtime
        self._config = config
        self._tunnel = tunnel_name(config.cluster, config.node)
        self._spec = network_spec(config, pod_mtu(USUAL_MTU))
        self._settings = Settings(config.settings)
        hosts = IPv4Network(config.pod_cidr)
        # In a container .2 is the engine's and .3 the agent's.
        self._own_ip = str(hosts[3]) if config.in_container else ""
        self._pods = PodNetwork(
            name=self._spec.name,
            subnet=config.pod_cidr,
            gateway=str(hosts[1]),
            first=str(hosts[4 if config.in_container else 2]),
            last=str(hosts[-2]),
        )
        self._peers: tuple[Peer, ...] | None = None
        self._addresses: list[str] = []
        self._problems: tuple[str, ...] = ()
        self._lock = asyncio.Lock()
        self._bridge = ""

    async def setup(self) -> PodNetwork:
        """Makes the pods' network and everything round it. Raises Forbidden, Conflict, Unavailable."""
        async with self._lock:
            mtu = link_mtu(self._config.node_ip, await netlink.observe(self._tunnel))
            self._spec = network_spec(self._config, pod_mtu(mtu))
            await self._runtime.ensure_network(self._spec)
            await self._reconcile()
        return self._pods

    def pod_network(self) -> PodNetwork:
        """What `setup` returned; known before it."""
        return self._pods

    async def set_peers(self, peers: Iterable[Peer]) -> None:
        """Routes to exactly these nodes' pods from now on; what cannot be routed is in `problems()`."""
        async with self._lock:
            self._peers = tuple(sorted(peers, key=lambda peer: peer.name))
            await self._reconcile()

    async def reconcile(self) -> None:
        """Repairs what differs; call it every few seconds. Raises Forbidden, Conflict, Unavailable."""
        async with self._lock:
            await self._reconcile()

    async def watch(self) -> None:
        """Until cancelled: does at once what a new pod's port needs and the next repair would do. In a container the

        bridge is elsewhere: there is nothing to do.
        """
        while not self._config.in_container:
            try:
                async for device in netlink.new_ports(lambda: self._bridge):
                    await netlink.apply(TurnBack(device))
            except (SampanError, OSError) as error:
                log.warning("network.port_not_set", node=self._config.node, error=str(error))
                await asyncio.sleep(WATCH_PAUSE)

    def problems(self) -> tuple[str, ...]:
        """Sentences about what does not work though the rest does: peers on no common link, missing iptables."""
        return self._problems

    def addresses(self) -> list[str]:
        """The node's IPv4 addresses for node ports, as of the last repair: loopback, the node's, others, gateway.

        None of the service range, which is local to the node without being its address.
        """
        return list(self._addresses)

    def holds(self, address: str) -> bool:
        """Whether this network namespace has the address now: only then a socket can be bound to it."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((address, 0))
            except OSError as error:
                return error.errno != errno.EADDRNOTAVAIL
        return True

    async def describe(self) -> dict[str, Any]:
        """Everything that was set up, as one JSON document. Raises Forbidden, Conflict, Unavailable."""
        async with self._lock:
            observed = await netlink.observe(self._tunnel)
            chains = await iptables.present(self._chains()) if iptables.available() else []
            return report(
                await self._wanted(observed, ""),
                observed,
                self._spec,
                node_ip=self._config.node_ip,
                addresses=self._addresses,
                chains=chains,
                settings=self._settings.before,
                problems=self._problems,
            )

    async def teardown(self) -> None:
        """Removes routes, tunnel, chains and the pods' network, puts settings back; pods must be gone.

        Raises Forbidden, Conflict, Unavailable.
        """
        async with self._lock:
            observed = await netlink.observe(self._tunnel)
            faults, _ = await self._carry_out(removal(observed), observed)
            if iptables.available():
                await iptables.remove(self._chains())
            await self._runtime.remove_network(self._spec.name)
            self._settings.put_back(netlink.read_sysctl, netlink.write_sysctl)
            self._peers = None
            self._addresses = []
            if faults:
                raise faults[0]

    async def _reconcile(self) -> None:
        outside = await self._join() if self._config.in_container else ""
        observed = await netlink.observe(self._tunnel)
        steps = plan(await self._wanted(observed, outside), observed)
        faults, problems = await self._carry_out(steps, observed)
        if iptables.available():
            changed, unset = await iptables.ensure(self._chains())
            problems += unset
            if changed:
                log.info("network.chains_set", node=self._config.node)
        else:
            problems.append("iptables is not installed: pods reach the cluster, but not the outside")
        self._tell(tuple(problems))
        self._addresses = self._node_addresses(await netlink.global_addresses())
        if faults:
            raise faults[0]

    async def _wanted(self, observed: Observed, outside: str) -> Wanted:
        return Wanted(
            node=self._config.node,
            pod_cidr=self._config.pod_cidr,
            cluster_cidr=self._config.cluster_cidr,
            service_cidr=self._config.service_cidr,
            pod_device=await self._pod_device(observed),
            gateway=self._pods.gateway if self._config.in_container else "",
            outside=outside,
            peers=self._peers,
            tunnel=self._tunnel,
            vni=vni_of(self._config.cluster),
        )

    async def _join(self) -> str:
        """Puts the agent's container on the pods' network; returns the gateway of its other network."""
        await self._runtime.connect_self(self._spec.name, self._own_ip)
        container = await self._runtime.self_container()
        if container is None:
            raise Unavailable("the agent was told that it runs in a container, but the engine knows none that it is")
        others = sorted((name, end) for name, end in container.networks.items() if name != self._spec.name)
        return next((end.gateway for _, end in others if end.gateway), "")

    async def _pod_device(self, observed: Observed) -> str:
        if not self._config.in_container:
            self._bridge = await self._runtime.network_bridge(self._spec.name)
            return self._bridge
        for device, held in observed.addresses.items():
            if any(entry.split("/")[0] == self._own_ip for entry in held):
                return device
        raise Unavailable(f"no network device has {self._own_ip}, though the engine says it is connected")

    async def _carry_out(self, steps: Plan, observed: Observed) -> tuple[list[SampanError], list[str]]:
        """All steps, whatever fails: one peer's route must not keep the others' away. Returns faults and problems."""
        faults: list[SampanError] = []
        problems = list(steps.problems)
        if steps.steps:
            log.info("network.repair", node=self._config.node, steps=steps.summary())
        for step in steps.steps:
            try:
                if isinstance(step, SetSysctl):
                    self._remember(step, observed)
                await netlink.apply(step)
            except SampanError as error:
                if isinstance(step, SetSysctl) and not step.needed:
                    problems.append(str(error))
                else:
                    log.warning("network.step_failed", node=self._config.node, step=repr(step), error=str(error))
                    faults.append(error)
        return faults, problems

    def _remember(self, step: SetSysctl, observed: Observed) -> None:
        """First the note, then the change: a crash between them puts back what never was changed, which is harmless."""
        before = observed.sysctls.get(step.name) or netlink.read_sysctl(step.name)
        try:
            self._settings.changed(step.name, before, step.value)
        except OSError as error:
            raise Forbidden(f"{step.name} is not changed: its value can't be kept: {error}") from error

    def _tell(self, problems: tuple[str, ...]) -> None:
        for problem in problems:
            if problem not in self._problems:
                log.warning("network.problem", node=self._config.node, problem=problem)
        self._problems = problems

    def _node_addresses(self, held: Iterable[tuple[str, str]]) -> list[str]:
        services = IPv4Network(self._config.service_cidr)
        found = {ip for _, ip in held if IPv4Address(ip) not in services}
        first = [self._config.node_ip] if self._config.node_ip in found else []
        rest = sorted(found - set(first), key=IPv4Address)
        return list(dict.fromkeys(["127.0.0.1", *first, *rest]))

    def _chains(self) -> tuple[iptables.Chain, ...]:
        return iptables.chains(self._config.pod_cidr, self._config.cluster_cidr, self._config.service_cidr)
