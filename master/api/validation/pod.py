"""Rules about pods and pod templates, and what of a pod may change."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable

from common import names
from master import traffic
from master.api.validation.container import validate_container
from master.api.validation.dns import validate_dns
from master.api.validation.faults import Faults, present
from master.api.validation.scheduling import validate_scheduling
from master.api.validation.volume import validate_volume
from protos import core_pb2

RESTART_POLICIES = ("Always", "OnFailure", "Never")
DNS_POLICIES = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")


def validate_pod(pod: core_pb2.Pod, faults: Faults) -> None:
    validate_pod_spec("spec", pod.spec, faults)
    fault = traffic.drain_fault(pod.metadata.annotations)
    if fault is not None:
        faults.add(fault.path, fault.message)


def validate_pod_spec(path: str, spec: core_pb2.PodSpec, faults: Faults) -> None:
    if not spec.containers:
        faults.add(f"{path}.containers", "is required (at least one container)")
    _containers(path, spec, faults)
    faults.one_of(f"{path}.restartPolicy", spec.restartPolicy, RESTART_POLICIES)
    faults.one_of(f"{path}.dnsPolicy", spec.dnsPolicy, DNS_POLICIES)
    validate_dns(path, spec, faults)
    faults.at_least(f"{path}.terminationGracePeriodSeconds", spec.terminationGracePeriodSeconds, 0)
    if spec.HasField("activeDeadlineSeconds"):
        faults.at_least(f"{path}.activeDeadlineSeconds", spec.activeDeadlineSeconds, 1)
    _names(path, spec, faults)
    validate_scheduling(path, spec, faults)
    for index, alias in enumerate(spec.hostAliases):
        here = f"{path}.hostAliases[{index}]"
        try:
            ipaddress.ip_address(alias.ip)
        except ValueError:
            faults.add(f"{here}.ip", f"must be an IP address (like 10.0.0.1), got {alias.ip!r}")
        for number, hostname in enumerate(alias.hostnames):
            faults.check(f"{here}.hostnames[{number}]", hostname, names.subdomain_fault)
    for name in ("runAsUser", "runAsGroup", "fsGroup"):
        if spec.securityContext.HasField(name):
            faults.at_least(f"{path}.securityContext.{name}", getattr(spec.securityContext, name), 0)


def _containers(path: str, spec: core_pb2.PodSpec, faults: Faults) -> None:
    volumes = {volume.name for volume in spec.volumes}
    everyone = [*spec.initContainers, *spec.containers]
    inits = len(spec.initContainers)

    def where(index: int) -> str:
        if index < inits:
            return f"{path}.initContainers[{index}]"
        return f"{path}.containers[{index - inits}]"

    container_names = {container.name for container in everyone}
    grace = spec.terminationGracePeriodSeconds
    for index, volume in enumerate(spec.volumes):
        validate_volume(f"{path}.volumes[{index}]", volume, container_names, faults)
    faults.unique(lambda index: f"{path}.volumes[{index}].name", (volume.name for volume in spec.volumes))
    for index, container in enumerate(everyone):
        validate_container(where(index), container, volumes, faults, init=index < inits, grace=grace)
    faults.unique(lambda index: f"{where(index)}.name", (container.name for container in everyone))
    _host_ports(path, spec.containers, faults)
    if spec.hostNetwork:
        _own_ports(where, everyone, faults)


def _own_ports(where: Callable[[int], str], containers: Iterable[core_pb2.Container], faults: Faults) -> None:
    for number, container in enumerate(containers):
        for index, port in enumerate(container.ports):
            if port.hostPort and port.hostPort != port.containerPort:
                faults.add(
                    f"{where(number)}.ports[{index}].hostPort",
                    f"must be the containerPort {port.containerPort} in a pod with hostNetwork, got {port.hostPort}",
                )


def _host_ports(path: str, containers: Iterable[core_pb2.Container], faults: Faults) -> None:
    held: dict[tuple[int, str], dict[str, str]] = {}
    for number, container in enumerate(containers):
        for index, port in enumerate(container.ports):
            if not port.hostPort:
                continue
            here = f"{path}.containers[{number}].ports[{index}].hostPort"
            # Each address of a node gives a port once; none, or 0.0.0.0, is all of them.
            address = "" if port.hostIP == "0.0.0.0" else port.hostIP
            there = held.setdefault((port.hostPort, port.protocol), {})
            first = there.get(address) or there.get("") or (next(iter(there.values()), None) if not address else None)
            if first is not None:
                faults.add(here, f"{port.hostPort} is already used at {first}")
            there.setdefault(address, here)


def _names(path: str, spec: core_pb2.PodSpec, faults: Faults) -> None:
    for key in sorted(spec.nodeSelector):
        fault = names.label_key_fault(key)
        if fault:
            faults.add(f"{path}.nodeSelector", f"key {fault}")
        faults.check(f"{path}.nodeSelector[{key}]", spec.nodeSelector[key], names.label_value_fault)
    for name, rule in (
        ("hostname", names.label_fault),
        ("subdomain", names.label_fault),
        ("nodeName", names.subdomain_fault),
        ("serviceAccountName", names.subdomain_fault),
        ("schedulerName", names.subdomain_fault),
        ("priorityClassName", names.subdomain_fault),
    ):
        value = getattr(spec, name)
        if value:
            faults.check(f"{path}.{name}", value, rule)
    for index, reference in enumerate(spec.imagePullSecrets):
        here = f"{path}.imagePullSecrets[{index}].name"
        faults.required(here, reference.name, "the Secret's name", names.subdomain_fault)


def validate_pod_update(new: core_pb2.Pod, old: core_pb2.Pod, faults: Faults) -> None:
    """A pod's spec is fixed, but for images, a shorter deadline, added tolerations and the scheduler's placement."""
    allowed = core_pb2.PodSpec()
    allowed.CopyFrom(new.spec)
    for mine, theirs in (
        (allowed.containers, old.spec.containers),
        (allowed.initContainers, old.spec.initContainers),
    ):
        for container, before in zip(mine, theirs):
            container.image = before.image
    _deadline(new, old, allowed, faults)
    _tolerations(new, old, allowed, faults)
    if allowed.nodeName != old.spec.nodeName and not old.spec.nodeName:
        allowed.nodeName = ""
    if allowed == old.spec:
        return
    fields = core_pb2.PodSpec.DESCRIPTOR.fields
    optional = [field.name for field in fields if field.has_presence]
    changed = set(present(allowed, optional)) ^ set(present(old.spec, optional))
    changed |= {field.name for field in fields if getattr(allowed, field.name) != getattr(old.spec, field.name)}
    for name in sorted(changed):
        faults.add(
            f"spec.{name}",
            "must not change: of a pod's spec only containers[*].image, initContainers[*].image, "
            "activeDeadlineSeconds and tolerations (added ones) may; delete the pod and create it anew",
        )


def _deadline(new: core_pb2.Pod, old: core_pb2.Pod, allowed: core_pb2.PodSpec, faults: Faults) -> None:
    path = "spec.activeDeadlineSeconds"
    if old.spec.HasField("activeDeadlineSeconds"):
        before = old.spec.activeDeadlineSeconds
        if not new.spec.HasField("activeDeadlineSeconds"):
            faults.add(path, f"must not be removed once set (it is {before})")
        elif new.spec.activeDeadlineSeconds > before:
            faults.add(path, f"must not grow beyond {before}, got {new.spec.activeDeadlineSeconds}")
        allowed.activeDeadlineSeconds = before
    else:
        allowed.ClearField("activeDeadlineSeconds")


def _tolerations(new: core_pb2.Pod, old: core_pb2.Pod, allowed: core_pb2.PodSpec, faults: Faults) -> None:
    if any(toleration not in new.spec.tolerations for toleration in old.spec.tolerations):
        faults.add("spec.tolerations", "must keep what is there: tolerations may only be added")
    del allowed.tolerations[:]
    allowed.tolerations.extend(old.spec.tolerations)
