"""PortForward: one TCP connection to a pod's port, over a stream of its node; a service is one of its ready pods."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

from common.errors import BadRequest, NotFound, Unavailable
from common.kinds import POD, SERVICE
from common.kinds import by_resource as kind_of
from master.api.conversation import conversation
from master.api.exec import first
from master.api.podlogs import LogSource, on_a_node
from master.api.resources import Resources
from protos import agent_pb2, control_pb2, core_pb2


@dataclass(frozen=True)
class Goal:
    """Where a connection goes."""

    pod: core_pb2.Pod
    port: int


async def forward_call(
    resources: Resources, source: LogSource, requests: AsyncIterator[control_pb2.PortForwardRequest]
) -> AsyncGenerator[control_pb2.PortForwardResponse, None]:
    """One connection. Raises SampanError."""
    start = (await first(requests)).start
    goal = find(resources, start.namespace or "default", start.target, start.port)
    command = agent_pb2.PortForwardCommand(pod_uid=goal.pod.metadata.uid, port=goal.port)
    talk = conversation(
        source,
        on_a_node(goal.pod),
        agent_pb2.Command(port_forward=command),
        "its pods can't be reached now",
        _input(requests),
    )
    async with aclosing(talk) as chunks:
        async for chunk in chunks:
            if chunk.begun:
                yield control_pb2.PortForwardResponse(connected=True, pod=goal.pod.metadata.name)
            if chunk.data:
                yield control_pb2.PortForwardResponse(data=chunk.data)
            if chunk.eof:
                yield control_pb2.PortForwardResponse(eof=True)


async def _input(requests: AsyncIterator[control_pb2.PortForwardRequest]) -> AsyncIterator[agent_pb2.StreamChunk]:
    async for request in requests:
        if request.data:
            yield agent_pb2.StreamChunk(data=request.data)
    yield agent_pb2.StreamChunk(eof=True)


def find(resources: Resources, namespace: str, target: str, port: str) -> Goal:
    """The pod and its port. Raises BadRequest, NotFound; Unavailable when no pod of a service is ready."""
    resource, slash, name = target.partition("/")
    if not slash:
        resource, name = "pod", target
    if not name:
        raise BadRequest(f'start.target: must be a pod\'s name or service/NAME, got "{target}"')
    kind = kind_of(resource)
    if kind is POD:
        pod: core_pb2.Pod = resources.get(POD.kind, namespace, name)
        if pod.status.phase in ("Succeeded", "Failed"):
            raise BadRequest(f'pod "{name}" has ended (it is {pod.status.phase})')
        return Goal(pod, _pod_port(pod, port))
    if kind is not SERVICE:
        raise BadRequest(f"start.target: must be a pod or a service, not one of {kind.plural}")
    return _service_goal(resources, namespace, name, port)


def _pod_port(pod: core_pb2.Pod, port: str) -> int:
    if port.isascii() and port.isdigit():
        return _checked(int(port))
    named = [one for container in pod.spec.containers for one in container.ports if one.name]
    for one in named:
        if one.name == port:
            return one.containerPort
    known = ", ".join(one.name for one in named) or "none that has a name"
    raise BadRequest(f'start.port: pod "{pod.metadata.name}" has no port "{port}": it has {known}')


def _service_goal(resources: Resources, namespace: str, name: str, port: str) -> Goal:
    service: core_pb2.Service = resources.get(SERVICE.kind, namespace, name)
    ports = service.spec.ports
    found = [one for one in ports if port and port in (str(one.port), one.name)]
    if not found:
        known = ", ".join(f"{one.port}{f' ({one.name})' if one.name else ''}" for one in ports) or "none"
        raise BadRequest(f'start.port: service "{name}" has no port "{port}": it has {known}')
    try:
        endpoints: core_pb2.Endpoints = resources.get("Endpoints", namespace, name)
    except NotFound:
        endpoints = core_pb2.Endpoints()
    goals = [
        (address.targetRef.name, one.port)
        for subset in endpoints.subsets
        for one in subset.ports
        if one.name == found[0].name
        for address in subset.addresses
        if address.targetRef.kind == POD.kind
    ]
    if not goals:
        raise Unavailable(f'service "{name}" has no ready pod on port {port}')
    pod_name, number = random.choice(goals)
    return Goal(resources.get(POD.kind, namespace, pod_name), number)


def _checked(port: int) -> int:
    if not 0 < port < 65536:
        raise BadRequest(f"start.port: must be 1-65535, got {port}")
    return port
