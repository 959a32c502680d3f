"""What a pod asks of a node: read once from its spec, shared by all pods that ask the same; pure.

Rules: Kubernetes' effective requests (the sum of the containers and sidecars, or the largest init container with the
sidecars before it if that is more).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple
from weakref import WeakValueDictionary

from common.quantity import QuantityError, milli, value
from master.controllers.pods import controller_of
from master.scheduler.hostports import Port, host_ports
from master.scheduler.rules import NOBODY, Crowd, Rules, read_rules, speaks_of_pods
from protos import core_pb2

DEFAULT_CPU = 100
DEFAULT_MEMORY = 200 * 1024 * 1024
"""What a container without requests counts for in scores (never in filters), as in Kubernetes: 100m and 200 MB."""

Toleration = tuple[str, str, str, str]
"""Key, operator, value, effect."""


@dataclass(frozen=True, eq=False)
class Request:
    """Equal requests are one object (see Requests), so identity is equality and hashing is cheap.

    `cpu` in milli-cores, `memory` in bytes, `extra` other resources in whole units; `score_cpu` and `score_memory`
    count containers that ask for nothing, too.
    """

    cpu: int = 0
    memory: int = 0
    extra: tuple[tuple[str, int], ...] = ()
    score_cpu: int = 0
    score_memory: int = 0
    ports: tuple[Port, ...] = ()
    selector: tuple[tuple[str, str], ...] = ()
    tolerations: tuple[Toleration, ...] = ()
    images: tuple[str, ...] = ()
    rules: Rules | None = None
    priority: int = 0
    preempts: bool = True
    tied: bool = field(init=False, default=False)
    """Whether other pods' places matter to this one."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "tied", self.rules is not None and self.rules.ties)


class Wanted(NamedTuple):
    """A pod that waits for a node. `group` names its siblings, which should not share a node; "" for none.
    `nominated` is the node on which room is being made for it."""

    namespace: str
    name: str
    uid: str
    request: Request
    group: str = ""
    crowd: Crowd = NOBODY
    nominated: str = ""


@dataclass
class Requests:
    """Reads pods and remembers the last specs it saw: the pods of one controller are read once."""

    limit: int = 4096
    _by_spec: OrderedDict[bytes | tuple[bytes, Crowd], Request] = field(default_factory=OrderedDict)
    # As long as a spec or a placed pod has it: what nobody asks for any more is not kept for its equals.
    _by_value: WeakValueDictionary[tuple[object, ...], Request] = field(default_factory=WeakValueDictionary)
    _crowds: OrderedDict[tuple[object, ...], Crowd] = field(default_factory=OrderedDict)

    def wanted(self, pod: core_pb2.Pod) -> Wanted:
        meta = pod.metadata
        return Wanted(
            meta.namespace,
            meta.name,
            meta.uid,
            self.of(pod),
            group_of(pod),
            self.crowd(pod),
            pod.status.nominatedNodeName,
        )

    def of(self, pod: core_pb2.Pod) -> Request:
        """The pod's request; a quantity that cannot be read counts as nothing (validation refuses it)."""
        # Bytes of one spec may differ by the order of its maps: that costs a second look, not a wrong answer.
        spec = pod.spec.SerializeToString()
        found = self._by_spec.get(spec)
        if found is not None:
            self._by_spec.move_to_end(spec)
            return found
        # What a spec says of other pods depends on whose it is.
        crowd = self.crowd(pod) if speaks_of_pods(pod.spec) else NOBODY
        key = spec if crowd is NOBODY else (spec, crowd)
        found = self._by_spec.get(key)
        if found is not None:
            self._by_spec.move_to_end(key)
            return found
        read = _read(pod.spec, crowd)
        known = self._by_value.setdefault(_value(read), read)
        self._by_spec[key] = known
        if len(self._by_spec) > self.limit:
            self._by_spec.popitem(last=False)
        return known

    def crowd(self, pod: core_pb2.Pod) -> Crowd:
        """The pods of its namespace that have its labels; equal ones are one object while they are remembered."""
        meta = pod.metadata
        labels = meta.labels
        # Labels in another order make another object: that costs a second count, not a wrong one.
        key = (meta.namespace, *labels.items())
        found = self._crowds.get(key)
        if found is None:
            found = self._crowds[key] = Crowd(meta.namespace, dict(labels))
            if len(self._crowds) > 4 * self.limit:
                self._crowds.popitem(last=False)
        return found


def _value(request: Request) -> tuple[object, ...]:
    return tuple(vars(request).values())


def group_of(pod: core_pb2.Pod) -> str:
    """Pods of one controller are siblings; without a controller, pods of a namespace with the same labels."""
    owner = controller_of(pod)
    if owner is not None:
        return owner.uid
    labels = pod.metadata.labels
    if not labels:
        return ""
    return f"{pod.metadata.namespace}:{','.join(f'{name}={labels[name]}' for name in sorted(labels))}"


def _read(spec: core_pb2.PodSpec, crowd: Crowd) -> Request:
    totals: dict[str, int] = {}
    score_cpu = score_memory = 0
    sidecars = [container for container in spec.initContainers if container.restartPolicy == "Always"]
    lasting = [*spec.containers, *sidecars]
    for container in lasting:
        asked = _requests(container)
        for resource, amount in asked.items():
            totals[resource] = totals.get(resource, 0) + amount
        score_cpu += asked.get("cpu", DEFAULT_CPU)
        score_memory += asked.get("memory", DEFAULT_MEMORY)
    # An init container has the sidecars before it beside it.
    beside: dict[str, int] = {}
    for container in spec.initContainers:
        asked = _requests(container)
        together = {name: asked.get(name, 0) + beside.get(name, 0) for name in (*asked, *beside)}
        if container.restartPolicy == "Always":
            beside = together
            continue
        for resource, amount in together.items():
            totals[resource] = max(totals.get(resource, 0), amount)
        score_cpu = max(score_cpu, together.get("cpu", 0))
        score_memory = max(score_memory, together.get("memory", 0))
    return Request(
        cpu=totals.pop("cpu", 0),
        memory=totals.pop("memory", 0),
        extra=tuple(sorted((name, amount) for name, amount in totals.items() if amount)),
        score_cpu=score_cpu,
        score_memory=score_memory,
        ports=tuple(sorted(set(host_ports(lasting)))),
        selector=tuple(sorted(spec.nodeSelector.items())),
        tolerations=tuple((t.key, t.operator, t.value, t.effect) for t in spec.tolerations),
        images=tuple(sorted({container.image for container in lasting if container.image})),
        rules=read_rules(spec, crowd),
        priority=spec.priority,
        preempts=spec.preemptionPolicy != "Never",
    )


def _requests(container: core_pb2.Container) -> dict[str, int]:
    """Requests of one container; what has only a limit asks for that."""
    found = {**container.resources.limits, **container.resources.requests}
    amounts = {}
    for resource, quantity in found.items():
        try:
            amounts[resource] = amount(resource, quantity.value)
        except QuantityError:
            continue
    return amounts


def amount(resource: str, quantity: str) -> int:
    """cpu in milli-cores, everything else in whole units, rounded up. Raises QuantityError."""
    return milli(quantity) if resource == "cpu" else value(quantity)
