"""The pod template inside any object that runs pods, and its containers by name; pure."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from typing import Any

from common.errors import BadRequest
from common.kinds import POD, Kind
from protos.core_pb2 import Container, ContainerPort, PodSpec


def pod_spec(kind: Kind, obj: Any) -> PodSpec:
    """The spec of the pods an object makes, or of the pod itself: part of `obj`, change it in place.

    Raises BadRequest for a kind that runs no pods.
    """
    fields = obj.DESCRIPTOR.fields_by_name
    spec: Any = None
    if kind is POD:
        spec = obj.spec
    elif "spec" in fields and "template" in obj.spec.DESCRIPTOR.fields_by_name:
        spec = obj.spec.template.spec
    if not isinstance(spec, PodSpec):
        raise BadRequest(f"{kind.plural} run no pods: name a workload such as deployment/web, rc/web or pod/web")
    return spec


def chosen(spec: PodSpec, pattern: str, *, init: bool = False) -> list[Container]:
    """The containers whose name fits `pattern` (`*` for all). Raises BadRequest when none does."""
    everyone = [*spec.containers, *(spec.initContainers if init or pattern != "*" else ())]
    found = [container for container in everyone if fnmatch.fnmatchcase(container.name, pattern)]
    if not found:
        names = ", ".join(container.name for container in everyone)
        raise BadRequest(f'no container "{pattern}": there are {names}')
    return found


def pod_labels(kind: Kind, obj: Any) -> Mapping[str, str]:
    """The labels by which the pods of an object are found. Raises BadRequest when there are none."""
    if kind is POD:
        labels = dict(obj.metadata.labels)
    else:
        selector = getattr(obj.spec, "selector", None) if "spec" in obj.DESCRIPTOR.fields_by_name else None
        if selector is None:
            raise BadRequest(f"{kind.plural} have no selector: give one with --selector")
        if hasattr(selector, "matchExpressions"):
            if len(selector.matchExpressions):
                raise BadRequest("a selector with matchExpressions fits no service: give labels with --selector")
            labels = dict(selector.matchLabels)
        else:
            labels = dict(selector)
    if not labels:
        raise BadRequest(f"{obj.metadata.name} has no labels to select pods by: give some with --selector")
    return labels


def ports(spec: PodSpec) -> Iterable[ContainerPort]:
    """Every port the containers name, in order."""
    return [port for container in spec.containers for port in container.ports]
