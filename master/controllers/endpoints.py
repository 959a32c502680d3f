"""Which pods serve a Service: from a Service, its pods and their nodes to its Endpoints; pure.

Rules: Kubernetes' endpoints controller (subsets grouped by equal ports, addresses that are not ready kept apart,
no Terminating or finished pods).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from master.controllers.plan import NOTHING, Change, Create, Delete, Plan
from master.controllers.pods import FINISHED, is_ready, is_terminating
from master.store.store import key_of
from protos import core_pb2

MANAGED_BY = "endpoints.kubernetes.io/managed-by"
MANAGER = "endpoint-controller"
HEADLESS = "service.kubernetes.io/headless"

Port = tuple[str, int, str, str]
"""Name, resolved number, protocol, appProtocol ("" for none)."""

_Subset: TypeAlias = dict[bool, list[core_pb2.Pod]]


def reconcile(
    service: core_pb2.Service | None,
    pods: Iterable[core_pb2.Pod],
    node_serves: Callable[[str], bool],
    current: core_pb2.Endpoints | None,
) -> Plan:
    """Makes `current` what the service's pods are.

    `pods` are those of the namespace that match the selector (others are left out again here). `node_serves` says of
    a node's name whether traffic may go there. A service without selector keeps its hand-written Endpoints; without
    a service, only Endpoints that this controller made are removed.
    """
    if service is None:
        return _remove(current)
    if not service.spec.selector:
        return NOTHING
    subsets = subsets_of(service, pods, node_serves)
    labels = {**service.metadata.labels, MANAGED_BY: MANAGER}
    if service.spec.clusterIP in ("", "None"):
        labels[HEADLESS] = ""
    if current is None:
        return Plan((Create(_new(service, subsets, labels)),))
    if is_terminating(current) or (list(current.subsets) == subsets and dict(current.metadata.labels) == labels):
        return NOTHING

    def change(endpoints: core_pb2.Endpoints) -> None:
        del endpoints.subsets[:]
        endpoints.subsets.extend(subsets)
        endpoints.metadata.labels.clear()
        endpoints.metadata.labels.update(labels)

    return Plan((Change(key_of(current), current.metadata.uid, "update", change),))


def subsets_of(
    service: core_pb2.Service, pods: Iterable[core_pb2.Pod], node_serves: Callable[[str], bool]
) -> list[core_pb2.EndpointSubset]:
    """The subsets of a service in one canonical order (by ports; addresses by IP, then pod)."""
    by_ports: dict[tuple[Port, ...], _Subset] = {}
    always = service.spec.publishNotReadyAddresses
    for pod in pods:
        if not _serves(service, pod):
            continue
        ports = tuple(sorted(_ports(service, pod)))
        if service.spec.ports and not ports:
            continue
        ready = always or (is_ready(pod) and node_serves(pod.spec.nodeName))
        by_ports.setdefault(ports, {True: [], False: []})[ready].append(pod)
    return [
        core_pb2.EndpointSubset(
            addresses=_addresses(service, group[True]),
            notReadyAddresses=_addresses(service, group[False]),
            ports=[_port(port) for port in ports],
        )
        for ports, group in sorted(by_ports.items())
    ]


def _serves(service: core_pb2.Service, pod: core_pb2.Pod) -> bool:
    """Whether the pod belongs in the Endpoints at all, ready or not."""
    if not pod.status.podIP or pod.status.phase in FINISHED or is_terminating(pod):
        return False
    labels = pod.metadata.labels
    return all(labels.get(name) == value for name, value in service.spec.selector.items())


def _ports(service: core_pb2.Service, pod: core_pb2.Pod) -> Iterable[Port]:
    for port in service.spec.ports:
        number = target_port(port, pod)
        if number:
            yield port.name, number, port.protocol or "TCP", port.appProtocol


def target_port(port: core_pb2.ServicePort, pod: core_pb2.Pod) -> int | None:
    """The number of a service's port on this pod; None when no container names it."""
    target = port.targetPort
    if target.type == 0:
        return target.intVal or port.port
    wanted = port.protocol or "TCP"
    sidecars = (container for container in pod.spec.initContainers if container.restartPolicy == "Always")
    for container in (*pod.spec.containers, *sidecars):
        for offered in container.ports:
            if offered.name == target.strVal and (offered.protocol or "TCP") == wanted:
                return offered.containerPort
    return None


def _port(port: Port) -> core_pb2.EndpointPort:
    name, number, protocol, app = port
    found = core_pb2.EndpointPort(name=name, port=number, protocol=protocol)
    if app:
        found.appProtocol = app
    return found


def _addresses(service: core_pb2.Service, pods: Iterable[core_pb2.Pod]) -> list[core_pb2.EndpointAddress]:
    ordered = sorted(pods, key=lambda pod: (_ip_key(pod.status.podIP), pod.metadata.name))
    return [_address(service, pod) for pod in ordered]


def _ip_key(ip: str) -> tuple[int, ...]:
    """Orders IPv4 addresses as numbers, so that a table reads as a person expects."""
    try:
        return tuple(int(part) for part in ip.split("."))
    except ValueError:
        return ()


def _address(service: core_pb2.Service, pod: core_pb2.Pod) -> core_pb2.EndpointAddress:
    found = core_pb2.EndpointAddress(
        ip=pod.status.podIP,
        # Without a resourceVersion: the pod's next status would rewrite every Endpoints it is in.
        targetRef=core_pb2.ObjectReference(
            kind="Pod", namespace=pod.metadata.namespace, name=pod.metadata.name, uid=pod.metadata.uid
        ),
        hostname=pod.spec.hostname if pod.spec.hostname and pod.spec.subdomain == service.metadata.name else "",
    )
    if pod.spec.nodeName:
        found.nodeName = pod.spec.nodeName
    return found


def _new(
    service: core_pb2.Service, subsets: list[core_pb2.EndpointSubset], labels: dict[str, str]
) -> core_pb2.Endpoints:
    endpoints = core_pb2.Endpoints(subsets=subsets)
    endpoints.metadata.name = service.metadata.name
    endpoints.metadata.namespace = service.metadata.namespace
    endpoints.metadata.labels.update(labels)
    return endpoints


def _remove(current: core_pb2.Endpoints | None) -> Plan:
    if current is None or is_terminating(current) or current.metadata.labels.get(MANAGED_BY) != MANAGER:
        return NOTHING
    return Plan((Delete(key_of(current), current.metadata.uid),))
