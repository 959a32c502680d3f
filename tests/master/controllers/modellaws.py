"""What must hold at every instant of a model cluster, looked at with each single write of a pod or a budget.

Bounds are those of what was asked for while any write made from an older plan is still to come; pods that users, nodes
or evictions took are counted apart, so that only what controllers do of their own accord is judged.
"""

from __future__ import annotations

from typing import Any

from master.controllers.amounts import scaled
from master.controllers.daemonset import fits, pod_spec
from master.controllers.deployment.strategy import bounds
from master.controllers.disruption import KIND as BUDGET
from master.controllers.index import selector_of
from master.controllers.job_counts import index_of
from master.controllers.nodefit import pinned_to
from master.controllers.pods import FINISHED, controller_of, is_active, is_available, is_ready, is_terminating
from master.store.store import Change, key_of
from protos import core_pb2
from tests.master.controllers.modelworld import Model

WORKLOADS = ("Deployment", "ReplicaSet", "ReplicationController", "DaemonSet", "Job")


class Window:
    """The widest bounds of a Deployment since it was last settled, and the available pods it lost to others since.

    `low`: the fewest that were available meanwhile. A pod that was doomed then, as unhealthy, may have come to serve.
    """

    def __init__(self, most: int, least: int) -> None:
        self.most, self.least, self.cost, self.low = most, least, 0, 0


class Laws:
    """Watches every write; raises AssertionError with what was broken by whom."""

    def __init__(self, model: Model) -> None:
        self._model = model
        # Of ReplicaSets, also of those that are gone: the uid of their Deployment.
        self._above: dict[str, str] = {}
        self._windows: dict[str, Window] = {}
        # Available pods that others took, that came to serve after a pass had doomed them as serving nobody, and nodes
        # that came: (step, uid of the DaemonSet, or "" for all).
        self._losses: list[tuple[int, str]] = []
        # By a daemon pod's uid: the step at which it came to serve last.
        self._came: dict[str, int] = {}
        # Ready pods that went other than by an eviction: (step, labels).
        self._gone_ready: list[tuple[int, dict[str, str]]] = []
        # By a budget's uid: the step at which its status was planned.
        self._assessed: dict[str, int] = {}
        self.evicting = False
        self._revision = 0
        model.watchers.append(self._look)

    def _look(self, change: Change) -> None:
        match change.kind:
            case "Pod":
                self._pod(change)
            case "ReplicaSet" if change.type == "ADDED":
                owner = controller_of(change.obj)
                self._above[change.obj.metadata.uid] = owner.uid if owner is not None else ""
            case "Deployment":
                self._deployment(change.obj)
            case "Node":
                self._losses.append((self._model.steps, ""))
            case "PodDisruptionBudget" if self._by("budgets"):
                assert self._model.doing is not None
                self._assessed[change.obj.metadata.uid] = self._model.doing.began

    def _by(self, *rows: str) -> bool:
        return self._model.doing is not None and self._model.doing.row.name in rows

    # -- pods ---------------------------------------------------------------------------------

    def _pod(self, change: Change) -> None:
        pod, old = change.obj, change.old
        if change.type == "ADDED":
            self._added(pod)
        was, now = _serves(old), change.type != "DELETED" and _serves(pod)
        if was and not now:
            self._went(old)
        elif now and not was and (owner := controller_of(pod)) is not None and owner.kind == "DaemonSet":
            self._losses.append((self._model.steps, owner.uid))
            self._came[pod.metadata.uid] = self._model.steps

    def _added(self, pod: core_pb2.Pod) -> None:
        owner = controller_of(pod)
        assert owner is not None
        if owner.kind == "DaemonSet":
            self._one_daemon(pod, owner.uid)
        elif owner.kind == "Job":
            self._job(pod, owner)
        elif owner.kind == "ReplicaSet" and self._above.get(owner.uid):
            self._surge(self._above[owner.uid])

    def _of(self, uid: str) -> list[core_pb2.Pod]:
        return [pod for pod in self._model.pods() if (owner := controller_of(pod)) and owner.uid == uid]

    def _under(self, uid: str) -> list[core_pb2.Pod]:
        """The pods of a Deployment's ReplicaSets."""
        return [pod for pod in self._model.pods() if (o := controller_of(pod)) and self._above.get(o.uid) == uid]

    def _one_daemon(self, pod: core_pb2.Pod, uid: str) -> None:
        where = pinned_to(pod.spec)
        there = [other for other in self._of(uid) if pinned_to(other.spec) == where]
        running = [other.metadata.name for other in there if other.status.phase not in FINISHED]
        assert len(running) == 1, f"two daemon pods on {where}: {running}"

    def _job(self, pod: core_pb2.Pod, owner: Any) -> None:
        active = [other for other in self._of(owner.uid) if is_active(other)]
        index = index_of(pod)
        if index is not None:
            same = [other.metadata.name for other in active if index_of(other) == index]
            assert len(same) == 1, f"two pods work on index {index}: {same}"

    def _surge(self, uid: str) -> None:
        pods, window = self._under(uid), self._windows.get(uid)
        found = self._found(uid)
        if found is None or window is None:
            return
        self._widen(found)
        active = sum(map(is_active, pods))
        assert active <= window.most, f"{found.metadata.name}: {active} pods, at most {window.most} are allowed"
        live = {owner.uid for pod in pods if pod.status.phase not in FINISHED and (owner := controller_of(pod))}
        if found.spec.strategy.type == "Recreate" or bounds(found).stop_first:
            assert len(live) == 1, f"{found.metadata.name}: pods of {len(live)} templates at a time"

    def _found(self, uid: str) -> Any | None:
        for found in self._model.store.list("Deployment"):
            if found.metadata.uid == uid:
                return None if is_terminating(found) else found
        return None

    # -- who took what ------------------------------------------------------------------------

    def _went(self, pod: core_pb2.Pod) -> None:
        """A pod that served serves no more."""
        owner = controller_of(pod)
        if not self.evicting:
            self._gone_ready.append((self._model.steps, dict(pod.metadata.labels)))
        if owner is None:
            return
        above = self._above.get(owner.uid, "")
        if owner.kind == "ReplicaSet" and above:
            self._left(above)
        elif owner.kind == "DaemonSet":
            self._daemon_left(owner, pod)

    def _left(self, uid: str) -> None:
        found, window = self._found(uid), self._windows.get(uid)
        if found is None or window is None or found.spec.strategy.type == "Recreate":
            return
        if not self._by("replicasets", "deployments"):
            window.cost += 1
            window.low = min(window.low, self._available(found))
            return
        self._widen(found, taken=1)
        left = self._available(found)
        least = min(window.least - window.cost, window.low)
        assert left >= least, f"{found.metadata.name}: {left} pods are available, at least {least} must be"

    def _available(self, found: Any) -> int:
        pods = self._under(found.metadata.uid)
        return sum(is_active(pod) and is_available(pod, found.spec.minReadySeconds, self._model.now) for pod in pods)

    def _daemon_left(self, owner: Any, pod: core_pb2.Pod) -> None:
        where = pinned_to(pod.spec)
        if not self._by("daemonsets"):
            self._losses.append((self._model.steps, owner.uid))
            return
        ds = self._model.store.get("DaemonSet", "default", owner.name)
        if ds is None or is_terminating(ds) or ds.metadata.uid != owner.uid:
            return
        spec = pod_spec(ds)
        wanted = [found.metadata.name for found in self._model.store.list("Node") if fits(spec, found)[0]]
        if where not in wanted:
            return
        serving = {pinned_to(pod.spec) for pod in self._of(owner.uid) if _serves(pod)}
        missing = sum(name not in serving for name in wanted)
        assert self._model.doing is not None
        if self._came.get(pod.metadata.uid, -1) >= self._model.doing.began:
            # It served nobody when the pass doomed it, and cost nothing then.
            return
        lost = sum(at >= self._model.doing.began and who in ("", owner.uid) for at, who in self._losses)
        most = scaled(ds.spec.updateStrategy.rollingUpdate.maxUnavailable, len(wanted), up=True)
        before = missing - 1
        assert missing <= max(most + lost, before), f"{ds.metadata.name}: {missing} nodes without a pod, {most} may be"

    # -- bounds of Deployments ----------------------------------------------------------------

    def _deployment(self, found: Any) -> None:
        limits, replicas = bounds(found), found.spec.replicas
        window = self._windows.setdefault(found.metadata.uid, Window(0, replicas))
        window.most = max(window.most, replicas + limits.surge)
        window.least = min(window.least, replicas - limits.unavailable)

    def _widen(self, found: Any, taken: int = 0) -> None:
        """Begins a new window where nothing of the last one is still to come."""
        uid = found.metadata.uid
        limits, replicas = bounds(found), found.spec.replicas
        sets = [rs for rs in self._model.store.list("ReplicaSet") if self._above.get(rs.metadata.uid) == uid]
        keys = {key_of(found), *map(key_of, sets)}
        if any(flight.key in keys for flight in self._model.flights):
            return
        if sum(rs.spec.replicas for rs in sets) > replicas + limits.surge:
            return
        if any(sum(map(is_active, self._of(rs.metadata.uid))) > rs.spec.replicas for rs in sets):
            return
        window = self._windows[uid]
        window.most, window.least, window.cost = replicas + limits.surge, replicas - limits.unavailable, 0
        # The write that is looked at now has taken one already.
        window.low = self._available(found) + taken

    def between(self) -> None:
        """Between two steps: windows that may be closed are."""
        revision = self._model.store.revision
        if revision == self._revision:
            return
        self._revision = revision
        for found in self._model.store.list("Deployment"):
            self._widen(found)
        first = min((flight.began for flight in self._model.flights), default=self._model.steps)
        self._losses = [loss for loss in self._losses if loss[0] >= first]

    # -- budgets ------------------------------------------------------------------------------

    def evicted(self, pod: core_pb2.Pod) -> None:
        """The API has just let this pod be evicted."""
        for pdb in self._model.store.list(BUDGET):
            selector = selector_of(pdb)
            if selector is None or not selector.matches(pod.metadata.labels) or not _serves(pod):
                continue
            there = [other for other in self._model.pods() if selector.matches(other.metadata.labels)]
            healthy = sum(_serves(other) for other in there)
            since = self._assessed.get(pdb.metadata.uid, 0)
            others = sum(at >= since and selector.matches(labels) for at, labels in self._gone_ready)
            least = pdb.status.desiredHealthy - others
            assert healthy >= least, f"budget {pdb.metadata.name}: {healthy} healthy pods, {least} must be"


def _serves(pod: core_pb2.Pod | None) -> bool:
    return pod is not None and is_active(pod) and is_ready(pod)
