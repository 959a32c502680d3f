"""Lets a machine in, or says why not: checks who it is and makes its Node."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from google.protobuf.timestamp_pb2 import Timestamp

from common.errors import AlreadyExists, Conflict, Invalid, Unauthenticated, Unavailable
from master.controllers.nodes import allocate_pod_cidr
from master.dispatcher.nodes import NodeTable
from master.dispatcher.statuses import merged_conditions, set_quantities
from protos import agent_pb2, core_pb2

if TYPE_CHECKING:
    from master.api.resources import Resources
    from master.store.store import Store

log = structlog.get_logger()

# The hash of a 256-bit random secret tells nothing about it; it lives and goes with the Node.
CREDENTIAL_ANNOTATION = "sampan.dev/credential-sha256"
# A node that was heard within so many heartbeat periods is alive: its name is taken.
ALIVE_PERIODS = 10


@dataclass(frozen=True)
class ClusterFacts:
    """What every node is told; CIDRs are IPv4."""

    name: str
    cluster_cidr: str
    service_cidr: str


class Registrar:
    """Registers nodes. `verify_join_token` raises Unauthenticated with the reason when a token is not good."""

    def __init__(
        self,
        store: Store,
        resources: Resources,
        nodes: NodeTable,
        cluster: ClusterFacts,
        verify_join_token: Callable[[str], Awaitable[object]],
    ) -> None:
        self._store = store
        self._resources = resources
        self._nodes = nodes
        self._cluster = cluster
        self._verify = verify_join_token
        # Handed out, but not yet seen in the store. A registration that was given up (the agent's patience ended) may
        # still be written, so its range stays reserved until the node is there or the store has refused it.
        self._reserved: dict[str, str] = {}

    async def register(self, request: agent_pb2.RegisterRequest) -> tuple[core_pb2.Node, str]:
        """The machine's Node and its credential.

        Raises Unauthenticated (token or credential), AlreadyExists (name of a live node of another machine),
        Invalid (name, labels), Unavailable (no pod CIDR left, store).
        """
        name = request.node_name
        old: core_pb2.Node | None = self._store.get("Node", "", name)
        credential = request.credential
        if old is None or not _holds(old, credential):
            await self._admit(request, old)
            credential = secrets.token_urlsafe(32)
        old = self._store.get("Node", "", name)
        if old is None:
            node = await self._create(request, credential)
        else:
            node = await self._refresh(request, credential, old)
        return node, credential

    async def _admit(self, request: agent_pb2.RegisterRequest, old: core_pb2.Node | None) -> None:
        name = request.node_name
        if not request.token:
            if request.credential:
                raise Unauthenticated(
                    f'the credential of node "{name}" is not valid (any more): the node was removed from the '
                    "cluster or its name was given to another machine; join again with a token"
                )
            raise Unauthenticated(f'node "{name}" needs a join token: make one with `sampan token create`')
        await self._verify(request.token)
        if old is None:
            return
        silent = self._nodes.silent_for(name)
        other = old.status.nodeInfo.machineID != request.machine.machine_id
        if other and silent < ALIVE_PERIODS * self._nodes.heartbeat_period():
            raise AlreadyExists(
                f'there is a live node "{name}" already, on another machine '
                f"({old.status.nodeInfo.machineID[:12]}, heard {silent:.0f} s ago): give this one another --name"
            )

    async def _create(self, request: agent_pb2.RegisterRequest, credential: str) -> core_pb2.Node:
        name = request.node_name
        node = core_pb2.Node()
        node.metadata.name = name
        _set_identity(node, request, credential)
        cidr = self._reserve(name)
        try:
            node.spec.podCIDR = cidr
            node.spec.podCIDRs.append(cidr)
            set_machine(node.status, request)
            created: core_pb2.Node = await self._resources.create(node)
        except AlreadyExists as error:
            raise Unavailable(f'node "{name}" is being registered by someone else right now; retrying') from error
        except Invalid:
            self._reserved.pop(name, None)
            raise
        # Not left to the next registration: the node may be gone by then, and its range would stay taken.
        self._reserved.pop(name, None)
        return created

    async def _refresh(self, request: agent_pb2.RegisterRequest, credential: str, old: core_pb2.Node) -> core_pb2.Node:
        name = request.node_name
        cidr = old.spec.podCIDR or self._reserve(name)

        def change(node: core_pb2.Node) -> None:
            _set_identity(node, request, credential)
            if not node.spec.podCIDR:
                node.spec.podCIDR = cidr
                node.spec.podCIDRs.append(cidr)

        await self._resources.mutate("Node", "", name, change)
        self._reserved.pop(name, None)
        return await self._set_status(request)

    async def _set_status(self, request: agent_pb2.RegisterRequest) -> core_pb2.Node:
        def change(node: core_pb2.Node) -> None:
            set_machine(node.status, request)

        node: core_pb2.Node | None = await self._resources.mutate("Node", "", request.node_name, change, status=True)
        if node is None:
            raise Conflict(f'node "{request.node_name}" was removed while it registered')
        return node

    def _reserve(self, name: str) -> str:
        stored = {node.metadata.name: node.spec.podCIDR for node in self._store.list("Node") if node.spec.podCIDR}
        self._reserved = {other: cidr for other, cidr in self._reserved.items() if other not in stored}
        if name in self._reserved:
            return self._reserved[name]
        cidr = allocate_pod_cidr(self._cluster.cluster_cidr, {*stored.values(), *self._reserved.values()})
        self._reserved[name] = cidr
        return cidr


def _digest(credential: str) -> str:
    return hashlib.sha256(credential.encode()).hexdigest()


def _holds(node: core_pb2.Node, credential: str) -> bool:
    stored = node.metadata.annotations.get(CREDENTIAL_ANNOTATION, "")
    return bool(credential and stored) and hmac.compare_digest(stored, _digest(credential))


def _set_identity(node: core_pb2.Node, request: agent_pb2.RegisterRequest, credential: str) -> None:
    node.metadata.annotations[CREDENTIAL_ANNOTATION] = _digest(credential)
    labels = {
        **request.labels,
        "kubernetes.io/hostname": request.machine.hostname or request.node_name,
        "kubernetes.io/arch": request.machine.architecture,
        "kubernetes.io/os": "linux",
    }
    for key, value in labels.items():
        if value:
            node.metadata.labels[key] = value


def set_machine(status: core_pb2.NodeStatus, request: agent_pb2.RegisterRequest) -> None:
    """Writes the machine's facts into a node's status.

    A node that never reported is not Ready; one that did stays what it is until its next report.
    """
    machine = request.machine
    set_quantities(status.capacity, machine.capacity)
    set_quantities(status.allocatable, machine.allocatable or machine.capacity)
    addresses = [("InternalIP", machine.address), ("Hostname", machine.hostname or request.node_name)]
    del status.addresses[:]
    status.addresses.extend(core_pb2.NodeAddress(type=t, address=a) for t, a in addresses if a)
    told = {
        "machineID": machine.machine_id,
        "bootID": machine.boot_id,
        "kernelVersion": machine.kernel,
        "osImage": machine.os_image,
        "containerRuntimeVersion": machine.runtime_version,
        "kubeletVersion": request.agent_version,
        "kubeProxyVersion": request.agent_version,
        "operatingSystem": "linux",
        "architecture": machine.architecture,
    }
    # An agent whose engine hangs tells less than it told before.
    status.nodeInfo.MergeFrom(core_pb2.NodeSystemInfo(**{name: text for name, text in told.items() if text}))
    if not any(condition.type == "Ready" for condition in status.conditions):
        now = Timestamp()
        now.GetCurrentTime()
        now.nanos = 0
        waiting = core_pb2.NodeCondition(
            type="Ready",
            status="False",
            reason="NodeRegistered",
            message="the agent has registered and not reported yet",
            lastTransitionTime=now,
        )
        conditions = merged_conditions(status.conditions, [waiting])
        del status.conditions[:]
        status.conditions.extend(conditions)
