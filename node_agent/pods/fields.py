"""The downward API: fields and resource figures of a pod as text; pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from fractions import Fraction

from common.quantity import parse_quantity
from node_agent.pods.model import ConfigError
from protos.core_pb2 import Container, ObjectFieldSelector, Pod, ResourceFieldSelector

_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")
_ONE_CORE = Fraction(1)


def field_text(pod: Pod, selector: ObjectFieldSelector, *, node: str, node_ip: str, pod_ip: str) -> str:
    """The value of a fieldRef. Raises ConfigError for a path there is no field for."""
    path, meta = selector.fieldPath, pod.metadata
    subscript = _SUBSCRIPT.fullmatch(path)
    if subscript is not None:
        return dict(meta.labels if subscript[1] == "labels" else meta.annotations).get(subscript[2], "")
    values = {
        "metadata.name": meta.name,
        "metadata.namespace": meta.namespace,
        "metadata.uid": meta.uid,
        "spec.nodeName": pod.spec.nodeName or node,
        "spec.serviceAccountName": pod.spec.serviceAccountName,
        "status.hostIP": node_ip,
        "status.hostIPs": node_ip,
        "status.podIP": pod_ip,
        "status.podIPs": pod_ip,
    }
    if path == "metadata.labels":
        return map_text(meta.labels)
    if path == "metadata.annotations":
        return map_text(meta.annotations)
    if path not in values:
        raise ConfigError(
            f'fieldRef.fieldPath: "{path}" is not known; use one of {", ".join(sorted(values))}, '
            "metadata.labels['KEY'], metadata.annotations['KEY']"
        )
    return values[path]


def map_text(values: Mapping[str, str]) -> str:
    """Labels or annotations as lines key="value" with Go's quoting, as Kubernetes writes them into volumes."""
    return "\n".join(f"{key}={json.dumps(values[key], ensure_ascii=False)}" for key in sorted(values))


def resource_text(container: Container, selector: ResourceFieldSelector, allocatable: Mapping[str, str]) -> str:
    """The value of a resourceFieldRef, counted in `divisor`, rounded up.

    A limit that is not set is the node's allocatable amount, a request that is not set is the limit or 0.
    """
    kind, _, resource = selector.resource.partition(".")
    limits, requests = container.resources.limits, container.resources.requests
    text = ""
    if kind == "limits":
        text = limits[resource].value if resource in limits else allocatable.get(resource, "0")
    elif kind == "requests":
        text = requests[resource].value if resource in requests else ""
        if not text:
            text = limits[resource].value if resource in limits else "0"
    if not resource or not text:
        raise ConfigError(
            f"resourceFieldRef.resource: must be limits.cpu, limits.memory, requests.cpu or requests.memory, "
            f'got "{selector.resource}"'
        )
    divisor = parse_quantity(selector.divisor.value) if selector.divisor.value else Fraction(0)
    return str(math.ceil(parse_quantity(text) / (divisor or _ONE_CORE)))
