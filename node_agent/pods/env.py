"""A container's environment: services, envFrom, env, the downward API, and $(NAME) expansion; pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from node_agent.pods.fields import field_text, resource_text
from node_agent.pods.model import Assignments, ConfigError
from protos.agent_pb2 import ServiceRoute
from protos.core_pb2 import Container, EnvVar, Pod

_REFERENCE = re.compile(r"\$(?:\$|\(([^()$]+)\)|)")
_NAME = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")


@dataclass(frozen=True)
class Surroundings:
    """What a container may ask about itself."""

    node: str
    node_ip: str
    pod_ip: str
    allocatable: Mapping[str, str] = field(default_factory=dict)


def expand(text: str, values: Mapping[str, str]) -> str:
    """Kubernetes' expansion: $(NAME) of a known name becomes its value, $$ a dollar, all else stays as it is."""

    def one(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        if match[1] is None:
            return match[0]
        return values.get(match[1], match[0])

    return _REFERENCE.sub(one, text)


def environment(pod: Pod, container: Container, known: Assignments, around: Surroundings) -> dict[str, str]:
    """All variables of a container, in the order of their definition; later ones may use earlier ones.

    Raises ConfigError naming the ConfigMap, Secret or key that is missing and not optional.
    """
    namespace = pod.metadata.namespace
    values: dict[str, str] = {}
    if not pod.spec.HasField("enableServiceLinks") or pod.spec.enableServiceLinks:
        values |= service_environment(route for (ns, _), route in sorted(known.services.items()) if ns == namespace)
    for number, source in enumerate(container.envFrom):
        for key, value in _from_source(namespace, container, number, known):
            name = source.prefix + key
            # As in Kubernetes: keys that can't be names are left out.
            if _NAME.fullmatch(name):
                values[name] = value
    for variable in container.env:
        found = _value(pod, container, variable, known, around, values)
        if found is not None:
            values[variable.name] = found
    return values


def _from_source(namespace: str, container: Container, number: int, known: Assignments) -> Iterable[tuple[str, str]]:
    source = container.envFrom[number]
    where = f"container {container.name}, envFrom[{number}]"
    if source.HasField("secretRef"):
        secret_ref = source.secretRef
        name = secret_ref.localObjectReference.name
        secret = known.secrets.get((namespace, name))
        if secret is None:
            if not secret_ref.optional:
                raise ConfigError(f'{where}: secret "{name}" not found in namespace {namespace}')
            return []
        return [(key, secret.data[key].decode("utf-8", "replace")) for key in sorted(secret.data)]
    config_ref = source.configMapRef
    name = config_ref.localObjectReference.name
    config = known.configmaps.get((namespace, name))
    if config is None:
        if not config_ref.optional:
            raise ConfigError(f'{where}: configmap "{name}" not found in namespace {namespace}')
        return []
    return sorted(config.data.items())


def _value(
    pod: Pod,
    container: Container,
    variable: EnvVar,
    known: Assignments,
    around: Surroundings,
    before: Mapping[str, str],
) -> str | None:
    """None leaves the variable out."""
    if not variable.HasField("valueFrom"):
        return expand(variable.value, before)
    namespace, source = pod.metadata.namespace, variable.valueFrom
    where = f"container {container.name}, env {variable.name}"
    if source.HasField("fieldRef"):
        return field_text(pod, source.fieldRef, node=around.node, node_ip=around.node_ip, pod_ip=around.pod_ip)
    if source.HasField("resourceFieldRef"):
        of = _named(pod, source.resourceFieldRef.containerName, container)
        return resource_text(of, source.resourceFieldRef, around.allocatable)
    if source.HasField("configMapKeyRef"):
        config_ref = source.configMapKeyRef
        name, key = config_ref.localObjectReference.name, config_ref.key
        config = known.configmaps.get((namespace, name))
        if config is not None and key in config.data:
            return config.data[key]
        if config_ref.optional:
            return None
        raise _missing(where, "configmap", name, namespace, None if config is None else key)
    if source.HasField("secretKeyRef"):
        secret_ref = source.secretKeyRef
        name, key = secret_ref.localObjectReference.name, secret_ref.key
        secret = known.secrets.get((namespace, name))
        if secret is not None and key in secret.data:
            return secret.data[key].decode("utf-8", "replace")
        if secret_ref.optional:
            return None
        raise _missing(where, "secret", name, namespace, None if secret is None else key)
    return ""


def _missing(where: str, kind: str, name: str, namespace: str, key: str | None) -> ConfigError:
    if key is None:
        return ConfigError(f'{where}: {kind} "{name}" not found in namespace {namespace}')
    return ConfigError(f'{where}: couldn\'t find key "{key}" in {kind} {namespace}/{name}')


def _named(pod: Pod, name: str, own: Container) -> Container:
    if not name or name == own.name:
        return own
    for container in (*pod.spec.containers, *pod.spec.initContainers):
        if container.name == name:
            return container
    raise ConfigError(f'container {own.name}: resourceFieldRef.containerName: no container "{name}" in the pod')


def service_environment(services: Iterable[ServiceRoute]) -> dict[str, str]:
    """The variables of each service with an address: {NAME}_SERVICE_HOST and the older Docker-link names."""
    values: dict[str, str] = {}
    for service in services:
        if not service.cluster_ip or service.cluster_ip == "None" or not service.ports:
            continue
        host, first = service.cluster_ip, service.ports[0]
        prefix = service.name.upper().replace("-", "_")
        values[f"{prefix}_SERVICE_HOST"] = host
        values[f"{prefix}_SERVICE_PORT"] = str(first.port)
        for port in service.ports:
            if port.name:
                values[f"{prefix}_SERVICE_PORT_{port.name.upper().replace('-', '_')}"] = str(port.port)
        values[f"{prefix}_PORT"] = f"{(first.protocol or 'TCP').lower()}://{host}:{first.port}"
        for port in service.ports:
            protocol = port.protocol or "TCP"
            link = f"{prefix}_PORT_{port.port}_{protocol}"
            values[link] = f"{protocol.lower()}://{host}:{port.port}"
            values[f"{link}_PROTO"] = protocol.lower()
            values[f"{link}_PORT"] = str(port.port)
            values[f"{link}_ADDR"] = host
    return values


def expand_all(words: Sequence[str], values: Mapping[str, str]) -> tuple[str, ...]:
    """A command line with its references expanded."""
    return tuple(expand(word, values) for word in words)
