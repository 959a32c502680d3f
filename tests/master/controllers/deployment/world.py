"""A Deployment with ReplicaSets and pods in memory: plans are carried out as the API would."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from master.api.defaults import apply_defaults
from master.controllers import replicaset
from master.controllers.deployment.reconcile import reconcile
from master.controllers.deployment.strategy import bounds
from master.controllers.plan import Change, Create, Delete, Note, Plan
from master.controllers.pods import FINISHED, controller_of, is_active, is_available, is_terminating
from protos import apps_pb2, core_pb2
from tests.master.controllers.builders import NOW


def deployment(name: str = "web", replicas: int = 3, image: str = "web:1", **spec: Any) -> apps_pb2.Deployment:
    """With Kubernetes' defaults; `surge` and `unavailable` are numbers, `recreate` and `host_port` as they say."""
    made = apps_pb2.Deployment()
    meta = made.metadata
    meta.name, meta.namespace, meta.uid, meta.generation = name, "default", f"uid-{name}", 1
    made.spec.replicas = replicas
    made.spec.selector.matchLabels["app"] = name
    made.spec.template.metadata.labels["app"] = name
    container = made.spec.template.spec.containers.add(name="app", image=image)
    if spec.get("host_port"):
        container.ports.add(containerPort=80, hostPort=spec["host_port"])
    made.spec.minReadySeconds = spec.get("min_ready", 0)
    if spec.get("recreate"):
        made.spec.strategy.type = "Recreate"
    else:
        made.spec.strategy.rollingUpdate.maxSurge.intVal = spec.get("surge", 1)
        made.spec.strategy.rollingUpdate.maxUnavailable.intVal = spec.get("unavailable", 0)
    apply_defaults(made)
    return made


class World:
    """`now` in Unix seconds; every write of the spec of the Deployment counts its generation up."""

    def __init__(self, found: apps_pb2.Deployment) -> None:
        self.deployment = found
        self.sets: dict[str, apps_pb2.ReplicaSet] = {}
        self.pods: dict[str, core_pb2.Pod] = {}
        self.configs: dict[tuple[str, str, str], Any] = {}
        self.notes: list[Note] = []
        self.now = NOW
        self.made = 0

    # -- what controllers do ------------------------------------------------------------------

    def plan(self) -> Plan:
        return reconcile(
            self.deployment,
            list(self.sets.values()),
            self.pods_of,
            self.now,
            read=self.configs.get,
            taken=lambda name: name in self.sets,
        )

    def deploy(self) -> Plan:
        plan = self.plan()
        self.apply(plan)
        return plan

    def keep(self, name: str) -> None:
        """One ReplicaSet's pass."""
        self.apply(replicaset.reconcile(self.sets[name], list(self.pods.values()), self.now))

    def keep_all(self) -> None:
        for name in list(self.sets):
            self.keep(name)

    def apply(self, plan: Plan) -> None:
        for action in (*plan.actions, *plan.after):
            match action:
                case Create():
                    self._create(action.obj)
                case Delete():
                    self._delete(action.key)
                case Change():
                    self._change(action)
                case Note():
                    self.notes.append(action)

    def _create(self, obj: Any) -> None:
        made = type(obj)()
        made.CopyFrom(obj)
        self.made += 1
        if not made.metadata.name:
            made.metadata.name = f"{made.metadata.generateName}{self.made:03}"
        made.metadata.uid = f"uid-{self.made}"
        made.metadata.generation = 1
        made.metadata.creationTimestamp.FromSeconds(int(self.now))
        apply_defaults(made)
        (self.pods if isinstance(made, core_pb2.Pod) else self.sets)[made.metadata.name] = made

    def _delete(self, key: tuple[str, str, str]) -> None:
        kind, _, name = key
        if kind == "ReplicaSet":
            del self.sets[name]
            return
        pod = self.pods.get(name)
        if pod is not None and pod.spec.nodeName:
            pod.metadata.deletionTimestamp.FromSeconds(int(self.now))
        else:
            self.pods.pop(name, None)

    def _change(self, action: Change) -> None:
        kind, _, name = action.key
        place: dict[str, Any] = {"Deployment": {self.deployment.metadata.name: self.deployment}, "Pod": self.pods}
        old = place.get(kind, self.sets).get(name)
        if old is None:
            return
        new = type(old)()
        new.CopyFrom(old)
        action.change(new)
        if action.status:
            old.status.CopyFrom(new.status)
            return
        if kind != "Pod":
            new.status.CopyFrom(old.status)
            if new.spec != old.spec:
                new.metadata.generation += 1
        old.CopyFrom(new)

    # -- what users and nodes do --------------------------------------------------------------

    def template(self, image: str) -> None:
        self.deployment.spec.template.spec.containers[0].image = image
        self.deployment.metadata.generation += 1

    def scale(self, replicas: int) -> None:
        self.deployment.spec.replicas = replicas
        self.deployment.metadata.generation += 1

    def pause(self, paused: bool = True) -> None:
        self.deployment.spec.paused = paused
        self.deployment.metadata.generation += 1

    def ready(self, pod: core_pb2.Pod, ready: bool = True) -> None:
        pod.spec.nodeName, pod.status.phase = pod.spec.nodeName or "n1", "Running"
        del pod.status.conditions[:]
        condition = pod.status.conditions.add(type="Ready", status="True" if ready else "False")
        condition.lastTransitionTime.FromSeconds(int(self.now))

    def leave(self) -> None:
        """Terminating pods are gone."""
        self.pods = {name: pod for name, pod in self.pods.items() if not is_terminating(pod)}

    def settle(self, rounds: int = 40, good: Any = lambda pod: True) -> None:
        """Everything runs round; pods that are `good` become ready."""
        for _ in range(rounds):
            plan = self.deploy()
            self.keep_all()
            if not plan and plan.again is None and all(is_available(pod, 0, self.now) for pod in self.pods.values()):
                return
            for pod in self.pods.values():
                if is_active(pod) and good(pod) and not is_available(pod, 0, self.now):
                    self.ready(pod)
            self.leave()
            self.now += 1

    # -- looking ------------------------------------------------------------------------------

    def pods_of(self, rs: apps_pb2.ReplicaSet) -> list[core_pb2.Pod]:
        found: Iterable[core_pb2.Pod] = self.pods.values()
        return [pod for pod in found if (owner := controller_of(pod)) and owner.uid == rs.metadata.uid]

    def active(self) -> list[core_pb2.Pod]:
        return [pod for pod in self.pods.values() if is_active(pod)]

    def available(self) -> int:
        return sum(is_available(pod, self.deployment.spec.minReadySeconds, self.now) for pod in self.active())

    def images(self) -> list[str]:
        return sorted(pod.spec.containers[0].image for pod in self.active())

    def live_templates(self) -> int:
        """Of how many ReplicaSets pods run or may."""
        return sum(any(pod.status.phase not in FINISHED for pod in self.pods_of(rs)) for rs in self.sets.values())

    def limits(self) -> tuple[int, int]:
        """The most pods and the fewest available ones."""
        found, replicas = bounds(self.deployment), self.deployment.spec.replicas
        return replicas + found.surge, replicas - found.unavailable

    def unsettled(self) -> bool:
        """Whether some ReplicaSet has still to let pods go."""
        return any(sum(map(is_active, self.pods_of(rs))) > rs.spec.replicas for rs in self.sets.values())

    def condition(self, kind: str) -> tuple[str, str]:
        found = next((one for one in self.deployment.status.conditions if one.type == kind), None)
        return (found.status, found.reason) if found is not None else ("", "")

    def reasons(self) -> list[str]:
        return [note.reason for note in self.notes]
