"""How many pods each ReplicaSet of a Deployment shall keep now: surge, unavailable, Recreate, scaling; pure.

Kubernetes' formulas, on figures that hold whatever the ReplicaSets have not done yet: see docs/rollouts.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from master.controllers import proof
from master.controllers.amounts import scaled as share
from master.controllers.deployment.revisions import DESIRED, MAXIMUM, ROLLED_OUT, number_of
from master.controllers.pods import FINISHED, is_active, is_available, seconds
from protos import apps_pb2, core_pb2

RECREATE = "Recreate"
Sizes = dict[str, int]
"""Name of a ReplicaSet -> pods it shall keep."""


@dataclass(frozen=True)
class Bounds:
    """Pods beyond and below `spec.replicas` during a rollout; `stop_first` is why the old pod goes first, or ""."""

    surge: int
    unavailable: int
    stop_first: str = ""


@dataclass(frozen=True)
class Side:
    """One ReplicaSet with what its pods are now. `live`: pods that run or may, Terminating ones too.

    `available`: pods that may take the place of others; in `wait` seconds it may be more. `serving`: those and pods
    that have yet to prove themselves, which nobody calls unhealthy.
    """

    rs: apps_pb2.ReplicaSet
    active: int
    available: int
    live: int
    serving: int
    wait: float | None = None

    @property
    def name(self) -> str:
        return str(self.rs.metadata.name)

    @property
    def spec(self) -> int:
        return int(self.rs.spec.replicas)

    def used(self, stop_first: bool) -> int:
        """The most pods it can have until the next pass."""
        return max(self.spec, self.live if stop_first else self.active)


def side(rs: apps_pb2.ReplicaSet, pods: Iterable[core_pb2.Pod], min_ready: int, now: float, limits: Bounds) -> Side:
    """`pods` are those the set controls. A template that was never rolled out has to prove that its pods stay up: a
    first wave of maxSurge pods does it for all."""
    found = list(pods)
    active = [pod for pod in found if is_active(pod)]
    enough = 0 if rs.metadata.annotations.get(ROLLED_OUT) == "true" else max(1, limits.surge)
    known = proof.counted(active, min_ready, now, enough)
    live = sum(pod.status.phase not in FINISHED for pod in found)
    serving = sum(is_available(pod, min_ready, now) for pod in active)
    return Side(rs, len(active), known.available, live, serving, known.wait)


def bounds(deployment: apps_pb2.Deployment) -> Bounds:
    """maxSurge (rounded up) and maxUnavailable (down) in pods; not both are 0 (ResolveFenceposts of Kubernetes)."""
    spec = deployment.spec
    replicas = spec.replicas
    if spec.strategy.type == RECREATE:
        return Bounds(0, 0)
    held = exclusive(spec.template.spec) if replicas <= 1 else ""
    if held:
        return Bounds(0, min(1, replicas), held)
    surge = share(spec.strategy.rollingUpdate.maxSurge, replicas, up=True)
    unavailable = share(spec.strategy.rollingUpdate.maxUnavailable, replicas, up=False)
    if not surge and not unavailable:
        unavailable = 1
    return Bounds(surge, min(unavailable, replicas))


def exclusive(spec: core_pb2.PodSpec) -> str:
    """What of this template one node can give to one pod only, in words; "" for nothing."""
    for container in (*spec.initContainers, *spec.containers):
        for port in container.ports:
            if port.hostPort:
                return f"host port {port.hostPort}/{port.protocol or 'TCP'}"
    return ""


def rolling(deployment: apps_pb2.Deployment, new: Side | None, old: Sequence[Side], limits: Bounds) -> Sizes:
    """Sizes of the next step of a RollingUpdate; `new` None: the set that is about to be made, under the name ""."""
    replicas, stop_first = deployment.spec.replicas, bool(limits.stop_first)
    sides = [*old, *([new] if new is not None else [])]
    used = sum(one.used(stop_first) for one in sides)
    before = new.spec if new is not None else 0
    room = replicas + limits.surge - used
    size = replicas if before > replicas else before + max(0, min(room, replicas - before))
    sizes = {new.name if new is not None else "": size}
    ready = min(new.available, size) if new is not None else 0
    return sizes | _shrink(old, replicas - limits.unavailable, size, ready)


def _shrink(old: Sequence[Side], least: int, new_size: int, new_ready: int) -> Sizes:
    """Old sets made smaller, unhealthy pods first, oldest set first; at least `least` available pods stay."""
    sizes = {one.name: one.spec for one in old}
    healthy = {one.name: min(one.serving, one.spec) for one in old}
    most = sum(sizes.values()) + new_size - least - (new_size - new_ready)
    for one in old:
        gone = max(0, min(most, sizes[one.name] - healthy[one.name]))
        sizes[one.name] -= gone
        most -= gone
    spare = sum(min(one.available, sizes[one.name]) for one in old) + new_ready - least
    for one in old:
        gone = max(0, min(spare, sizes[one.name]))
        sizes[one.name] -= gone
        spare -= gone
    return sizes


def recreate(deployment: apps_pb2.Deployment, new: Side | None, old: Sequence[Side]) -> Sizes:
    """Old sets to nothing; the new one to its full size once no pod of theirs is left, Terminating ones included."""
    sizes = {one.name: 0 for one in old}
    if not any(one.live or one.spec for one in old):
        sizes[new.name if new is not None else ""] = deployment.spec.replicas
    elif new is not None:
        sizes[new.name] = new.spec
    return sizes


def is_scaling(deployment: apps_pb2.Deployment, sides: Iterable[Side]) -> bool:
    """Whether `spec.replicas` changed since the sets that keep pods were last sized."""
    return any(
        number_of(one.rs.metadata.annotations, DESIRED) not in (None, deployment.spec.replicas)
        for one in sides
        if one.spec
    )


def scaled(deployment: apps_pb2.Deployment, new: Side | None, old: Sequence[Side], limits: Bounds) -> Sizes:
    """Sizes after `spec.replicas` changed: one set takes it all, several in proportion (Kubernetes' rules)."""
    replicas = deployment.spec.replicas
    sides = [*old, *([new] if new is not None else [])]
    active = [one for one in sides if one.spec]
    if len(active) <= 1:
        latest = active[0] if active else new or (old[-1] if old else None)
        if latest is None:
            return {}
        others = sum(one.used(False) for one in sides if one is not latest)
        if _one_template_at_a_time(deployment, limits) and any(one.live for one in sides if one is not latest):
            return {}
        # Others that are still to go leave no room yet: the next pass looks again.
        return {latest.name: replicas} if others <= limits.surge or latest.spec >= replicas else {}
    if new is not None and _saturated(deployment, new):
        return {one.name: 0 for one in old if one.spec}
    if deployment.spec.strategy.type == RECREATE:
        return {}
    return _proportional(deployment, active, sides, limits)


def trimmed(deployment: apps_pb2.Deployment, sizes: Sizes, sides: Sequence[Side], limits: Bounds) -> Sizes:
    """The sizes without pods that are not made yet and for which others, still to go, leave no room."""
    found = dict(sizes)
    excess = sum(max(found.get(one.name, one.spec), one.active) for one in sides)
    excess -= deployment.spec.replicas + limits.surge
    for one in reversed(sides):
        size = found.get(one.name, one.spec)
        cut = min(max(0, excess), max(0, size - one.active))
        if cut:
            found[one.name] = size - cut
            excess -= cut
    return found


def _one_template_at_a_time(deployment: apps_pb2.Deployment, limits: Bounds) -> bool:
    return deployment.spec.strategy.type == RECREATE or bool(limits.stop_first)


def _saturated(deployment: apps_pb2.Deployment, new: Side) -> bool:
    replicas = deployment.spec.replicas
    desired = number_of(new.rs.metadata.annotations, DESIRED)
    return new.spec == replicas and desired == replicas and new.available == replicas


def _proportional(
    deployment: apps_pb2.Deployment, active: Sequence[Side], sides: Sequence[Side], limits: Bounds
) -> Sizes:
    replicas = deployment.spec.replicas
    allowed = replicas + limits.surge if replicas > 0 else 0
    change = allowed - sum(one.spec for one in active)
    if change > 0 and sum(one.used(False) for one in sides) > allowed - change:
        # The same.
        return {}
    # Large sets first; of equals the newer grows and the older shrinks.
    order = sorted(active, key=lambda one: seconds(one.rs.metadata.creationTimestamp), reverse=change > 0)
    order.sort(key=lambda one: -one.spec)
    sizes: Sizes = {}
    added = 0
    for one in order:
        share = _share(deployment, one, limits) if change and change != added else 0
        share = min(share, change - added) if change > 0 else max(share, change - added)
        share = max(share, 0) if change > 0 else min(share, 0)
        sizes[one.name] = one.spec + share
        added += share
    if order:
        sizes[order[0].name] = max(0, sizes[order[0].name] + change - added)
    return sizes


def _share(deployment: apps_pb2.Deployment, one: Side, limits: Bounds) -> int:
    replicas = deployment.spec.replicas
    if replicas == 0:
        return -one.spec
    before = number_of(one.rs.metadata.annotations, MAXIMUM) or deployment.status.replicas
    # Half away from zero, as Kubernetes rounds.
    return math.floor(one.spec * (replicas + limits.surge) / before + 0.5) - one.spec if before else 0


def size_annotations(deployment: apps_pb2.Deployment, limits: Bounds) -> Mapping[str, str]:
    """What a set that was sized says about the size it was meant for."""
    replicas = deployment.spec.replicas
    return {DESIRED: str(replicas), MAXIMUM: str(replicas + limits.surge)}
