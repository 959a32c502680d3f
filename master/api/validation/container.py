"""Rules about one container: image, ports, environment, mounts; its probes and hooks are in health.py."""

from __future__ import annotations

from collections.abc import Iterable

from common import names
from master.api.validation.faults import Faults, present
from master.api.validation.health import validate_health
from master.api.validation.resources import validate_requirements
from master.api.validation.volume import ENV_FIELDS, field_reference, resource_reference
from protos import core_pb2

PULL_POLICIES = ("Always", "IfNotPresent", "Never")
PROTOCOLS = ("TCP", "UDP", "SCTP")


def validate_container(
    path: str, container: core_pb2.Container, volumes: set[str], faults: Faults, *, init: bool, grace: int
) -> None:
    """`volumes` are the names mounts may refer to, `grace` is the pod's terminationGracePeriodSeconds."""
    faults.required(f"{path}.name", container.name, "like web", names.label_fault)
    if container.image != container.image.strip():
        faults.add(f"{path}.image", f"must not start or end with a space, got {container.image!r}")
    elif any(char.isspace() for char in container.image):
        faults.add(f"{path}.image", f"must not contain spaces, got {container.image!r}")
    else:
        faults.required(f"{path}.image", container.image, "like nginx:1.27")
    faults.one_of(f"{path}.imagePullPolicy", container.imagePullPolicy, PULL_POLICIES)
    _ports(path, container.ports, faults)
    _env(path, container, faults)
    validate_requirements(f"{path}.resources", container.resources, faults)
    _mounts(path, container.volumeMounts, volumes, faults)
    message_path = container.terminationMessagePath
    if message_path and (not message_path.startswith("/") or ":" in message_path):
        faults.add(f"{path}.terminationMessagePath", f"must be absolute and without ':', got {message_path!r}")
    faults.one_of(
        f"{path}.terminationMessagePolicy",
        container.terminationMessagePolicy,
        ("File", "FallbackToLogsOnError"),
    )
    security = container.securityContext
    for name in ("runAsUser", "runAsGroup"):
        if security.HasField(name):
            faults.at_least(f"{path}.securityContext.{name}", getattr(security, name), 0)
    validate_health(path, container, grace, faults, init=init)


def _ports(path: str, ports: Iterable[core_pb2.ContainerPort], faults: Faults) -> None:
    listed = list(ports)
    for index, port in enumerate(listed):
        here = f"{path}.ports[{index}]"
        faults.port(f"{here}.containerPort", port.containerPort)
        if port.hostPort:
            faults.port(f"{here}.hostPort", port.hostPort)
        faults.one_of(f"{here}.protocol", port.protocol, PROTOCOLS)
        if port.name:
            faults.check(f"{here}.name", port.name, names.port_name_fault)
        if port.hostIP:
            faults.address(f"{here}.hostIP", port.hostIP)
    faults.unique(lambda index: f"{path}.ports[{index}].name", (port.name for port in listed))


def _env(path: str, container: core_pb2.Container, faults: Faults) -> None:
    for index, variable in enumerate(container.env):
        here = f"{path}.env[{index}]"
        faults.required(f"{here}.name", variable.name, "like MY_VAR", names.env_name_fault)
        if variable.HasField("valueFrom"):
            if variable.value:
                faults.add(f"{here}.valueFrom", "must not be set beside value")
            _env_source(f"{here}.valueFrom", variable.valueFrom, faults)
    faults.unique(lambda index: f"{path}.env[{index}].name", (variable.name for variable in container.env))
    for index, source in enumerate(container.envFrom):
        here = f"{path}.envFrom[{index}]"
        if source.prefix:
            faults.check(f"{here}.prefix", source.prefix, names.env_name_fault)
        given = present(source, ("configMapRef", "secretRef"))
        faults.exactly_one(here, given, ("configMapRef", "secretRef"))
        for name in given:
            reference = getattr(source, name).localObjectReference
            faults.required(f"{here}.{name}.name", reference.name, "its name", names.subdomain_fault)


def _env_source(path: str, source: core_pb2.EnvVarSource, faults: Faults) -> None:
    allowed = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef")
    given = present(source, allowed)
    faults.exactly_one(path, given, allowed)
    if source.HasField("fieldRef"):
        field_reference(f"{path}.fieldRef", source.fieldRef, ENV_FIELDS, faults)
    if source.HasField("resourceFieldRef"):
        resource_reference(f"{path}.resourceFieldRef", source.resourceFieldRef, faults)
    for name in present(source, ("configMapKeyRef", "secretKeyRef")):
        reference = getattr(source, name)
        faults.required(f"{path}.{name}.name", reference.localObjectReference.name, "its name", names.subdomain_fault)
        faults.required(f"{path}.{name}.key", reference.key, "the key to take", names.config_key_fault)


def _mounts(path: str, mounts: Iterable[core_pb2.VolumeMount], volumes: set[str], faults: Faults) -> None:
    listed = list(mounts)
    for index, mount in enumerate(listed):
        here = f"{path}.volumeMounts[{index}]"
        faults.required(f"{here}.name", mount.name, "a volume of this pod")
        if mount.name and mount.name not in volumes:
            known = f"it has {', '.join(sorted(volumes))}" if volumes else "it has none"
            faults.add(f"{here}.name", f"no volume of this pod is called {mount.name!r} ({known})")
        faults.required(f"{here}.mountPath", mount.mountPath, "like /data")
        if mount.mountPath and not mount.mountPath.startswith("/"):
            faults.add(f"{here}.mountPath", f"must be absolute (start with /), got {mount.mountPath!r}")
        if ":" in mount.mountPath:
            faults.add(f"{here}.mountPath", f"must not contain ':', got {mount.mountPath!r}")
        if mount.subPath.startswith("/") or ".." in mount.subPath.split("/"):
            faults.add(f"{here}.subPath", f"must be relative and without '..', got {mount.subPath!r}")
    faults.unique(lambda index: f"{path}.volumeMounts[{index}].mountPath", (mount.mountPath for mount in listed))
