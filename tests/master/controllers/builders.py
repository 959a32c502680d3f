"""Small objects for the tests of the controllers and the scheduler."""

from __future__ import annotations

from collections.abc import Mapping

from protos import core_pb2, meta_pb2

NOW = 1_700_000_000.0


def pod(
    name: str,
    *,
    labels: Mapping[str, str] | None = None,
    node: str = "",
    ip: str = "",
    ready: bool = False,
    phase: str = "",
    owner: core_pb2.ReplicationController | None = None,
    terminating: bool = False,
    ports: Mapping[str, int] | None = None,
    created: float = NOW - 100,
    ready_at: float = NOW - 50,
    namespace: str = "default",
    cpu: str = "",
    memory: str = "",
) -> core_pb2.Pod:
    made = core_pb2.Pod()
    made.metadata.name, made.metadata.namespace, made.metadata.uid = name, namespace, f"uid-{name}"
    made.metadata.labels.update(labels or {})
    made.metadata.creationTimestamp.FromSeconds(int(created))
    made.spec.nodeName = node
    container = made.spec.containers.add(name="main", image="image:1")
    for port_name, number in (ports or {}).items():
        container.ports.add(name=port_name, containerPort=number, protocol="TCP")
    for resource, text in (("cpu", cpu), ("memory", memory)):
        if text:
            container.resources.requests[resource].value = text
    made.status.phase = phase or ("Running" if node else "Pending")
    made.status.podIP = ip
    condition = made.status.conditions.add(type="Ready", status="True" if ready else "False")
    condition.lastTransitionTime.FromSeconds(int(ready_at))
    if owner is not None:
        made.metadata.ownerReferences.append(reference(owner))
    if terminating:
        made.metadata.deletionTimestamp.FromSeconds(int(NOW))
        made.metadata.deletionGracePeriodSeconds = 30
    return made


def reference(owner: core_pb2.ReplicationController) -> meta_pb2.OwnerReference:
    return meta_pb2.OwnerReference(
        apiVersion="v1",
        kind="ReplicationController",
        name=owner.metadata.name,
        uid=owner.metadata.uid,
        controller=True,
        blockOwnerDeletion=True,
    )


def rc(name: str, replicas: int, labels: Mapping[str, str] | None = None) -> core_pb2.ReplicationController:
    made = core_pb2.ReplicationController()
    made.metadata.name, made.metadata.namespace, made.metadata.uid = name, "default", f"uid-rc-{name}"
    made.metadata.generation = 1
    chosen = labels or {"app": name}
    made.spec.replicas = replicas
    made.spec.selector.update(chosen)
    made.spec.template.metadata.labels.update(chosen)
    made.spec.template.spec.containers.add(name="main", image="image:1")
    return made


def node(
    name: str,
    *,
    ready: str = "True",
    cpu: str = "4",
    memory: str = "8Gi",
    pods: int = 110,
    labels: Mapping[str, str] | None = None,
    reason: str = "KubeletReady",
) -> core_pb2.Node:
    made = core_pb2.Node()
    made.metadata.name, made.metadata.uid = name, f"uid-{name}"
    made.metadata.labels.update(labels or {})
    for resource, text in (("cpu", cpu), ("memory", memory), ("pods", str(pods))):
        made.status.allocatable[resource].value = text
        made.status.capacity[resource].value = text
    if ready:
        made.status.conditions.add(type="Ready", status=ready, reason=reason)
    return made


def service(name: str, selector: Mapping[str, str], ports: Mapping[str, int | str]) -> core_pb2.Service:
    """`ports`: name -> target port, a number or a name; the service's own ports are 80, 81, ..."""
    made = core_pb2.Service()
    made.metadata.name, made.metadata.namespace, made.metadata.uid = name, "default", f"uid-svc-{name}"
    made.spec.selector.update(selector)
    for number, (port_name, target) in enumerate(ports.items()):
        port = made.spec.ports.add(name=port_name, port=80 + number, protocol="TCP")
        if isinstance(target, int):
            port.targetPort.intVal = target
        else:
            port.targetPort.type, port.targetPort.strVal = 1, target
    return made
