"""One node's agent: joins the session with the master, the pods, the network and the proxy; decides nothing itself."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any

import structlog

from common.backoff import Backoff
from common.clusterdns import CLUSTER_DOMAIN, dns_address
from common.errors import BadRequest, SampanError, Unavailable
from common.routing import NodeInfo, Route
from node_agent import machine
from node_agent.assignments import ASSIGNMENTS, REGISTRATION, ROUTES, FrameState, Items, Keeper
from node_agent.config import AgentConfig
from node_agent.hostports import host_port_routes
from node_agent.metrics import AgentMetrics, Figures
from node_agent.network import NodeNetworkConfig, Peer
from node_agent.network_keeper import AddressChanged, NetworkKeeper, PeerTable
from node_agent.pods.manager import PodManager
from node_agent.pods.model import Assignments, NodeContext
from node_agent.ports import Network, NetworkFactory, RuntimeFactory
from node_agent.probes.kept import KeptStatuses
from node_agent.proxy_link import ProxyLink
from node_agent.proxy_status import proxy_status
from node_agent.reporter import Reporter
from node_agent.runtime.metered import metered
from node_agent.runtime.seam import Runtime
from node_agent.session import MasterLink, first_failure
from node_agent.storage import Storage
from node_agent.streams.line import Line
from node_agent.streams.serve import serve
from node_agent.usage import UsageMeter
from protos import agent_pb2, core_pb2

log = structlog.get_logger()

MEASURE_SECONDS = 10.0
# A node that is not Ready is looked at again soon: it should serve as soon as its engine does.
NOT_READY_SECONDS = 1.0
MACHINE_SECONDS = 5.0
# The proxy's node ports wait so long for the network to be looked at; an engine that hangs must not keep it for ever.
ADDRESSES_SECONDS = 3.0


class Restart(Exception):
    """The node is another one now (pod CIDR, cluster, address); the process must begin anew with what is on disk."""


class NodeAgent:
    """Runs one node on real or simulated `runtimes` and `networks`. `token` gets whether the node is known already.

    Ending it leaves pods, network and proxy as they are: the data plane outlives the control plane.
    """

    def __init__(
        self,
        config: AgentConfig,
        *,
        runtimes: RuntimeFactory,
        networks: NetworkFactory,
        storage: Storage,
        token: Callable[[bool], Awaitable[str]],
        with_proxy: bool = True,
    ) -> None:
        self._config = config
        self._runtimes = runtimes
        self._networks = networks
        self._storage = storage
        self._token = token
        self._with_proxy = with_proxy
        self._keeper = Keeper(storage)
        self._assignments = FrameState(ASSIGNMENTS, self._keeper, lazily=False)
        self._kept = KeptStatuses(self._keeper)
        self._assignments_changed = asyncio.Event()
        # What the pod set was last told.
        self._assigned = ("", 0)
        self._routes = FrameState(ROUTES, self._keeper, lazily=True)
        self._services: dict[tuple[str, str], agent_pb2.ServiceRoute] = {}
        self._facts: agent_pb2.RegisterResponse | None = None
        self._facts_known = asyncio.Event()
        self._restart = asyncio.Event()
        self._machine: agent_pb2.MachineFacts | None = None
        self._node_ip = ""
        self._runtime: Runtime | None = None
        self._pods: PodManager | None = None
        self._usage: UsageMeter | None = None
        self._proxy: ProxyLink | None = None
        self._network: Network | None = None
        self._peers: NetworkKeeper | None = None
        self._peer_table = PeerTable(config.name)
        self._host_ports: dict[str, tuple[Route, ...]] = {}
        self.reporter = Reporter()
        self.link = MasterLink(config.master, self)
        self.metrics = AgentMetrics()
        self.link.on_report = self.metrics.report_seconds.observe

    async def run(self) -> None:
        """Until cancelled. Raises JoinRefused, or Restart when the node got another identity."""
        structlog.contextvars.bind_contextvars(node=self._config.name)
        self._node_ip = self._config.node_ip or await asyncio.to_thread(machine.local_address, self._config.master)
        self._restore()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keeper.run(), name="keeper")
                group.create_task(self.link.run(), name="master")
                group.create_task(self._watch_identity(), name="identity")
                group.create_task(self._run_node(group), name="node")
                if self._config.metrics_listen:
                    serving = self.metrics.serve(self._config.metrics_listen, self._figures)
                    group.create_task(serving, name="metrics")
        except ExceptionGroup as failures:
            raise first_failure(failures) from None
        finally:
            if self._runtime is not None:
                await self._runtime.close()

    def _restore(self) -> None:
        data = self._keeper.load(REGISTRATION)
        if data is None:
            return
        self._facts = agent_pb2.RegisterResponse.FromString(data)
        self._facts_known.set()
        pods, routes = self._assignments.restore(), self._routes.restore()
        if routes:
            self._take_services(self._routes.items, whole=True)
            self._take_peers(self._routes.items, (), whole=True)
        log.info(
            "state.restored", pods=pods and len(self._assignments.items), routes=routes and len(self._routes.items)
        )

    # -- the node -----------------------------------------------------------------------------

    async def _run_node(self, group: asyncio.TaskGroup) -> None:
        await self._facts_known.wait()
        facts = self._facts
        assert facts is not None
        if self._with_proxy:
            # The proxy first: traffic flows while the rest is still being set up.
            self._proxy = ProxyLink(
                self._config.proxy_socket,
                self._node_info(facts),
                self.reporter.event,
                self.link.routes_news,
                patience=ADDRESSES_SECONDS,
            )
            if self._routes.complete:
                self._proxy.update(self._routes.items, self._routes.epoch, self._routes.revision)
            group.create_task(self._proxy.run(), name="proxy-link")
        runtime = self._runtime = metered(self._runtimes(facts.cluster), self.metrics.runtime_call)
        self._usage = UsageMeter(runtime, self._config.name)
        network = await self._set_up_network(runtime, facts)
        context = NodeContext(
            cluster=facts.cluster,
            node=self._config.name,
            data_dir=str(self._config.data),
            node_ip=self._node_ip,
            pod_network=network.pod_network(),
            cluster_domain=CLUSTER_DOMAIN,
            cluster_dns=dns_address(facts.service_cidr) if self._with_proxy else "",
            care=self._config.care,
        )
        pods = self._pods = PodManager(runtime, context, self._pod_changed, self.reporter.event, self._storage)
        if self._assignments.complete:
            # From the disk, at once: the master may be away.
            assigned = self._read_assignments()
            assigned = dataclasses.replace(assigned, pods=self._kept.restore(assigned.pods))
            for pod in assigned.pods.values():
                self._open_host_ports(pod, pod.status)
            pods.assign(assigned)
        group.create_task(pods.run(), name="pods")
        group.create_task(self._follow_assignments(pods), name="assignments")
        self._network = network
        keeper = self._peers = NetworkKeeper(
            network, self._config.name, self._known_peers, self._use_addresses, self.reporter.event
        )
        group.create_task(keeper.run(), name="network")
        group.create_task(network.watch(), name="pod-ports")
        if not self._config.node_ip:
            group.create_task(self._watch_address(keeper), name="address")
        group.create_task(self._measure(pods), name="measure")

    def _node_info(self, facts: agent_pb2.RegisterResponse) -> NodeInfo:
        return NodeInfo(
            name=self._config.name,
            addresses=tuple(dict.fromkeys(["127.0.0.1", self._node_ip])),
            pod_cidr=facts.pod_cidr,
            cluster_cidr=facts.cluster_cidr,
            service_cidr=facts.service_cidr,
            dns=dns_address(facts.service_cidr),
            domain=CLUSTER_DOMAIN,
            mode=self._config.proxy_mode,
        )

    async def _follow_assignments(self, pods: PodManager) -> None:
        """First to disk, then to the pods: an agent that comes back from an older state would end pods it began."""
        while True:
            await self._assignments_changed.wait()
            self._assignments_changed.clear()
            epoch, revision = self._assignments.epoch, self._assignments.revision
            assignments, data = self._read_assignments(), self._assignments.serialized()
            try:
                await self._keeper.save_now(ASSIGNMENTS, data)
            except OSError as error:
                log.error("state.not_written", file=ASSIGNMENTS, cause=str(error))
            pods.assign(assignments)
            if epoch:
                self._assigned = (epoch, revision)
                self.reporter.changed()

    def _read_assignments(self) -> Assignments:
        items: Sequence[agent_pb2.Item] = list(self._assignments.items.values())
        return Assignments(
            pods={i.pod.metadata.uid: i.pod for i in items if i.HasField("pod")},
            configmaps={_name(i.configmap): i.configmap for i in items if i.HasField("configmap")},
            secrets={_name(i.secret): i.secret for i in items if i.HasField("secret")},
            # Live: read when a container is made, so that a change of routes moves no pod.
            services=self._services,
            held=frozenset(i.pod.metadata.uid for i in items if held(i)),
        )

    async def _set_up_network(self, runtime: Runtime, facts: agent_pb2.RegisterResponse) -> Network:
        backoff = Backoff(0.5, 10.0, jitter=0.2)
        while True:
            try:
                config = NodeNetworkConfig(
                    cluster=facts.cluster,
                    node=self._config.name,
                    node_ip=self._node_ip,
                    pod_cidr=facts.pod_cidr,
                    cluster_cidr=facts.cluster_cidr,
                    service_cidr=facts.service_cidr,
                    in_container=await runtime.self_container() is not None,
                    settings=self._config.network_settings,
                )
                network = self._networks(runtime, config)
                await network.setup()
                return network
            except (SampanError, OSError) as error:
                log.error("network.not_ready", cause=str(error))
                self.reporter.node(_not_ready("NetworkNotReady", f"the pod network is not set up: {error}"))
                await asyncio.sleep(next(backoff))

    def _known_peers(self) -> list[Peer] | None:
        return self._peer_table.peers() if self._routes.complete else None

    def _take_peers(self, items: Items, removed: Iterable[str], *, whole: bool) -> bool:
        """Whether any node was among them."""
        if whole:
            self._peer_table.replace(item.node for item in items.values() if item.HasField("node"))
            return True
        nodes = [item.node for item in items.values() if item.HasField("node")]
        gone = [key.removeprefix("node/") for key in removed if key.startswith("node/")]
        for node in nodes:
            self._peer_table.put(node)
        for name in gone:
            self._peer_table.remove(name)
        return bool(nodes or gone)

    def _use_addresses(self, addresses: list[str]) -> None:
        if self._proxy is not None:
            self._proxy.use_addresses(addresses)

    async def _watch_address(self, keeper: NetworkKeeper) -> None:
        """With another address everything that named the old one begins anew; pods, routes and proxy stay."""
        try:
            await keeper.watch_address(self._node_ip, lambda: machine.local_address(self._config.master))
        except AddressChanged as now:
            raise Restart(f"the node's address is {now} now, no longer {self._node_ip}") from None

    def _pod_changed(self, report: agent_pb2.PodReport) -> None:
        item = self._assignments.items.get(f"pod/{report.uid}")
        gone = report.gone or item is None
        self._kept.put(item.pod if item is not None else None, report)
        self._open_host_ports(item.pod if item is not None else core_pb2.Pod(), report.status, report.uid, gone=gone)
        self.reporter.put(report)

    def _open_host_ports(
        self, pod: core_pb2.Pod, status: core_pb2.PodStatus, uid: str = "", *, gone: bool = False
    ) -> None:
        """A pod's host ports are routes of this node's proxy for as long as it has its address."""
        uid = uid or pod.metadata.uid
        routes = () if gone else host_port_routes(pod, status)
        if self._proxy is None or self._host_ports.get(uid, ()) == routes:
            return
        before = self._host_ports.pop(uid, ())
        if routes:
            self._host_ports[uid] = routes
        for key in {route.key for route in before} - {route.key for route in routes}:
            self._proxy.close_here(key)
        for route in routes:
            self._proxy.open_here(route)

    async def _measure(self, pods: PodManager) -> None:
        """The node's own status; a runtime that does not answer makes it NotReady, never silent."""
        while True:
            try:
                async with asyncio.timeout(MEASURE_SECONDS):
                    status = (await pods.measure()).report()
            except (SampanError, TimeoutError) as error:
                cause = str(error) or "it does not answer"
                status = _not_ready("ContainerRuntimeNotReady", f"the container runtime is down: {cause}")
            self.reporter.node(status)
            ready = all(one.status == "True" for one in status.conditions if one.type == "Ready")
            await asyncio.sleep(MEASURE_SECONDS if ready else NOT_READY_SECONDS)

    async def _watch_identity(self) -> None:
        await self._restart.wait()
        raise Restart("the master gave this node another pod CIDR or cluster name")

    # -- what the session needs (SessionNode) -------------------------------------------------

    async def hello(self) -> agent_pb2.RegisterRequest:
        credential = self._facts.credential if self._facts is not None else ""
        token = await self._token(bool(credential))
        return machine.registration(self._config, await self._machine_facts(), token=token, credential=credential)

    async def _machine_facts(self) -> agent_pb2.MachineFacts:
        runtime = self._runtime or self._runtimes("")
        try:
            async with asyncio.timeout(MACHINE_SECONDS):
                seen = await runtime.machine()
        except (SampanError, TimeoutError) as error:
            if self._machine is not None:
                return self._machine
            if self._facts is None:
                raise Unavailable(f"the container runtime does not answer: {error}") from error
            # A hung engine must not make a known node look dead: the master keeps what it knows of the rest.
            return agent_pb2.MachineFacts(
                boot_id=machine.boot_id(),
                machine_id=await asyncio.to_thread(machine.machine_id, self._storage),
                address=self._node_ip,
                hostname=self._config.name,
            )
        finally:
            if runtime is not self._runtime:
                await runtime.close()
        identity = await asyncio.to_thread(machine.machine_id, self._storage)
        self._machine = machine.facts(seen, identity=identity, address=self._node_ip, hostname=self._config.name)
        return self._machine

    async def registered(self, answer: agent_pb2.RegisterResponse) -> None:
        old, self._facts = self._facts, answer
        kept = agent_pb2.RegisterResponse()
        kept.CopyFrom(answer)
        kept.session_id = ""
        await self._keeper.save_now(REGISTRATION, kept.SerializeToString())
        if old is not None and (old.pod_cidr, old.cluster) != (answer.pod_cidr, answer.cluster):
            self._restart.set()
        self._facts_known.set()

    def reopen(self, stream: str) -> None:
        (self._assignments if stream == "assignments" else self._routes).reopen()

    def frame(self, stream: str, frame: agent_pb2.Frame) -> None:
        if stream == "assignments":
            if self._assignments.apply(frame) is not None:
                self._assignments_changed.set()
            return
        applied = self._routes.apply(frame)
        if applied is None:
            return
        self._take_services(applied.upserts, whole=applied.whole)
        for key in applied.removed:
            kind, _, name = key.partition("/")
            if kind == "service":
                namespace, _, service = name.partition("/")
                self._services.pop((namespace, service), None)
        if self._proxy is not None:
            if applied.whole:
                self._proxy.update(self._routes.items, self._routes.epoch, self._routes.revision)
            else:
                changed, removed = applied.upserts.values(), applied.removed
                self._proxy.change(changed, removed, self._routes.epoch, self._routes.revision)
        touched = [*applied.upserts, *applied.removed]
        if not self._with_proxy and (applied.whole or any(key.startswith("service/") for key in touched)):
            self.link.routes_news()
        nodes_changed = self._take_peers(applied.upserts, applied.removed, whole=applied.whole)
        if nodes_changed and self._peers is not None:
            self._peers.peers_changed.set()

    def _take_services(self, items: Items, *, whole: bool) -> None:
        if whole:
            self._services.clear()
        for item in items.values():
            if item.HasField("service"):
                self._services[item.service.namespace, item.service.name] = item.service

    def statuses(self) -> list[agent_pb2.PodReport]:
        return self._pods.statuses() if self._pods is not None else []

    def acknowledge(self, report: agent_pb2.NodeReport) -> None:
        report.assignments_epoch, report.assignments_revision = self._assigned
        applied = self.routes_applied()
        report.routes_epoch, report.routes_revision = applied.epoch, applied.revision
        report.draining.extend(applied.draining)

    def routes_applied(self) -> agent_pb2.RoutesRequest:
        applied = agent_pb2.RoutesRequest()
        if self._proxy is not None:
            applied.epoch, applied.revision = self._proxy.applied
            for (ip, port), connections in self._proxy.draining.items():
                applied.draining.add(ip=ip, port=port, connections=connections)
        elif not self._with_proxy:
            applied.epoch, applied.revision = self._routes.epoch, self._routes.revision
        return applied

    async def logs(self, command: agent_pb2.LogsCommand) -> AsyncIterator[bytes]:
        if self._pods is None:
            raise Unavailable("the node is starting: its pods can't be read yet")
        async for chunk in self._pods.logs(command):
            yield chunk

    async def converse(self, command: agent_pb2.Command, line: Line) -> int | None:
        if self._runtime is None or self._pods is None:
            raise Unavailable("the node is starting: its pods can't be reached yet")
        return await serve(self._runtime, self._config.name, self._node_ip, command, line)

    async def query(self, command: agent_pb2.QueryCommand) -> AsyncIterator[bytes]:
        """One JSON document. Raises BadRequest for what is not known, Unavailable while the node starts."""
        if command.what == "network":
            if self._network is None:
                raise Unavailable("the node is starting: its network is not set up yet")
            answer = await self._network.describe()
        elif command.what == "proxy":
            answer = await self._ask_proxy()
        elif command.what == "usage":
            if self._usage is None:
                raise Unavailable("the node is starting: it can't be measured yet")
            answer = await self._usage.measure()
        else:
            raise BadRequest(f'what: must be "network", "proxy" or "usage", got "{command.what}"')
        yield json.dumps(answer, separators=(",", ":")).encode()

    async def _ask_proxy(self) -> dict[str, Any]:
        if not self._with_proxy:
            raise Unavailable("this node is simulated: it runs no proxy")
        status = await proxy_status(self._config.proxy_socket)
        # The master's numbers; the proxy counts for itself.
        applied = self._proxy.applied[1] if self._proxy is not None else 0
        routes = {"revision": self._routes.revision, "applied": applied}
        return {**status, "node": self._config.name, "routes": routes}

    def _figures(self) -> Figures:
        proxy = self._proxy
        return Figures(
            session_up=self.link.connected,
            sessions=self.link.sessions,
            pods=self.statuses(),
            assignments_revision=self._assignments.revision,
            assignments_applied=self._assigned[1],
            routes_revision=self._routes.revision,
            routes_applied=proxy.applied[1] if proxy is not None else 0 if self._with_proxy else self._routes.revision,
            proxy_connected=proxy is not None and proxy.connected,
        )


def held(item: agent_pb2.Item) -> bool:
    """Whether a pod is to go and may not be stopped yet: some proxy may still send it traffic."""
    return item.pod.metadata.HasField("deletionTimestamp") and not item.released


def _name(obj: core_pb2.ConfigMap | core_pb2.Secret) -> tuple[str, str]:
    return obj.metadata.namespace, obj.metadata.name


def _not_ready(reason: str, message: str) -> agent_pb2.NodeStatusReport:
    condition = core_pb2.NodeCondition(type="Ready", status="False", reason=reason, message=message)
    return agent_pb2.NodeStatusReport(conditions=[condition])
