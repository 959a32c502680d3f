"""The rolling update of a DaemonSet: which old pods go and where new ones come beside them; pure.

Rules: Kubernetes' daemon controller; but a node whose pod is on its way out, or missing, counts as unavailable from
the start, so that no more than maxUnavailable nodes are ever without an available pod because of an update.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from master.controllers.amounts import scaled
from master.controllers.plan import Action, Create, Delete
from master.controllers.pods import FINISHED, is_available, is_terminating
from master.store.store import key_of
from protos import apps_pb2, core_pb2

HASH_LABEL = "controller-revision-hash"


@dataclass(frozen=True)
class Limits:
    """How many nodes may be without an available pod, and how many may have two."""

    unavailable: int
    surge: int


@dataclass(frozen=True)
class Here:
    """One node and its pods, oldest first: whether it should run one, and whether one that is there may stay."""

    name: str
    wanted: bool
    stays: bool
    pods: tuple[core_pb2.Pod, ...]
    revision: str
    least: int
    now: float

    def is_new(self, pod: core_pb2.Pod) -> bool:
        return bool(pod.metadata.labels.get(HASH_LABEL) == self.revision)

    def living(self) -> tuple[core_pb2.Pod | None, core_pb2.Pod | None]:
        """The pod of the old and the one of the new template that neither ended nor go."""
        live = [pod for pod in self.pods if not is_terminating(pod) and pod.status.phase not in FINISHED]
        old = next((pod for pod in live if not self.is_new(pod)), None)
        return old, next((pod for pod in live if self.is_new(pod)), None)

    def available(self, pod: core_pb2.Pod | None) -> bool:
        return pod is not None and is_available(pod, self.least, self.now)


def limits(ds: apps_pb2.DaemonSet, nodes: int) -> Limits:
    """maxUnavailable and maxSurge for so many nodes; one of them is at least 1."""
    strategy = ds.spec.updateStrategy
    if strategy.type == "OnDelete":
        return Limits(0, 0)
    rolling = strategy.rollingUpdate
    surge = scaled(rolling.maxSurge, nodes, up=True) if rolling.HasField("maxSurge") else 0
    unavailable = scaled(rolling.maxUnavailable, nodes, up=True) if rolling.HasField("maxUnavailable") else 1
    if surge:
        return Limits(0, surge)
    return Limits(max(1, unavailable), 0)


def actions(
    ds: apps_pb2.DaemonSet, where: Sequence[Here], revision: str, make: Callable[[str], core_pb2.Pod]
) -> list[Action]:
    """The next steps of the update; none for OnDelete. `make` gives the new pod of a node."""
    if ds.spec.updateStrategy.type == "OnDelete":
        return []
    allowed = limits(ds, sum(here.wanted for here in where))
    if allowed.surge:
        return _surge(ds, [here for here in where if here.stays], allowed.surge, make)
    return _replace(ds, [here for here in where if here.stays], allowed.unavailable)


def _replace(ds: apps_pb2.DaemonSet, where: Sequence[Here], most: int) -> list[Action]:
    """Old pods go first, those that serve nobody at once, others while few enough nodes are without one."""
    unavailable = 0
    broken: list[core_pb2.Pod] = []
    serving: list[core_pb2.Pod] = []
    for here in where:
        old, new = here.living()
        if here.available(new) or (old is not None and here.available(old)):
            if old is not None and new is None:
                serving.append(old)
            continue
        unavailable += here.wanted
        if old is not None and new is None:
            broken.append(old)
    going = broken + serving[: max(0, most - unavailable)]
    return [Delete(key_of(pod), pod.metadata.uid, owner=ds) for pod in going]


def _surge(
    ds: apps_pb2.DaemonSet, where: Sequence[Here], most: int, make: Callable[[str], core_pb2.Pod]
) -> list[Action]:
    """New pods come first; the old one of a node goes when its new one is available."""
    found: list[Action] = []
    surging = 0
    broken: list[str] = []
    serving: list[str] = []
    for here in where:
        old, new = here.living()
        if old is None:
            continue
        if new is not None:
            surging += 1
            if here.available(new):
                found.append(Delete(key_of(old), old.metadata.uid, owner=ds))
        elif not here.wanted:
            continue
        else:
            (serving if here.available(old) else broken).append(here.name)
    room = max(0, most - surging)
    return found + [Create(make(name), owner=ds) for name in broken + serving[:room]]
