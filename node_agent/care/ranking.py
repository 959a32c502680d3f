"""Which pod goes first when the node is short of something: Kubernetes' order; pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from common.quantity import bytes_quantity, value
from node_agent.care.pressure import Met
from node_agent.probes.health import is_sidecar
from protos.core_pb2 import Container, Pod

CRITICAL_PRIORITY = 2_000_000_000
"""system-cluster-critical; system-node-critical is above it."""


@dataclass(frozen=True)
class Candidate:
    """A pod that could go. `used` is what each of its containers uses of the short resource, by name."""

    pod: Pod
    used: dict[str, int]
    request: int

    @property
    def usage(self) -> int:
        return sum(self.used.values())


def ranked(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The first goes first: above its request, then low priority, then the most above its request.

    Pods of a DaemonSet come after all others, because another would take its place on this very node; critical pods
    last of all.
    """

    def key(one: Candidate) -> tuple[int, bool, int, int, str]:
        above = one.usage - one.request
        return (_shelter(one.pod), above <= 0, one.pod.spec.priority, -above, one.pod.metadata.uid)

    return sorted(candidates, key=key)


def _shelter(pod: Pod) -> int:
    if pod.spec.priority >= CRITICAL_PRIORITY:
        return 2
    return 1 if any(one.kind == "DaemonSet" and one.controller for one in pod.metadata.ownerReferences) else 0


def pod_request(pod: Pod, resource: str) -> int:
    """What a pod asks for of `resource` (memory, ephemeral-storage): Kubernetes' sum over its containers."""
    main = sum(_request(c, resource) for c in pod.spec.containers)
    sidecars, most = 0, 0
    for container in pod.spec.initContainers:
        asked = _request(container, resource)
        if is_sidecar(container):
            sidecars += asked
            most = max(most, sidecars)
        else:
            most = max(most, sidecars + asked)
    return max(main + sidecars, most)


def _request(container: Container, resource: str) -> int:
    resources = container.resources
    for amounts in (resources.requests, resources.limits):
        if resource in amounts:
            return value(amounts[resource].value)
    return 0


def eviction_message(met: Met, candidate: Candidate) -> str:
    """What the user reads on the pod: the resource, its threshold, and what the pod used."""
    words = [met.words()]
    for name, used in candidate.used.items():
        container = next((c for c in candidate.pod.spec.containers if c.name == name), None)
        asked = _request(container, met.resource) if container is not None else 0
        if used > asked:
            words.append(
                f"Container {name} was using {bytes_quantity(used)}, request is {bytes_quantity(asked)}, "
                f"has larger consumption of {met.resource}."
            )
    return " ".join(words)
