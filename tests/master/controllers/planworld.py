"""A cluster of plain objects that carries out plans as the resource layer would, for property tests of controllers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from common.errors import SampanError
from master.controllers.nodefit import pinned_to
from master.controllers.plan import Action, Change, Create, Delete, Note, Plan, Release
from master.controllers.pods import FINISHED, is_terminating
from master.store.store import Key, clone, key_of
from protos import core_pb2
from tests.master.controllers.builders import NOW


class PlanWorld:
    """Objects by key; `now` in Unix seconds passes only when told."""

    def __init__(self, *objects: Any) -> None:
        self.now = NOW
        self.objects: dict[Key, Any] = {key_of(obj): obj for obj in objects}
        self.made = 0
        self.notes: list[str] = []

    def put(self, obj: Any) -> None:
        self.objects[key_of(obj)] = obj

    def pods(self) -> list[core_pb2.Pod]:
        return [obj for key, obj in sorted(self.objects.items()) if key[0] == "Pod"]

    def live(self, pods: Iterable[core_pb2.Pod] | None = None) -> list[core_pb2.Pod]:
        """Pods that neither ended nor go."""
        chosen = self.pods() if pods is None else pods
        return [pod for pod in chosen if pod.status.phase not in FINISHED and not is_terminating(pod)]

    def apply(self, plan: Plan, *, only: int | None = None) -> None:
        """Does everything, or the first `only` actions and then "crashes"."""
        for action in (*plan.actions, *plan.after)[:only]:
            self.do(action)

    def do(self, action: Action) -> None:
        match action:
            case Create():
                self._create(clone(action.obj))
            case Delete():
                found = self.objects.get(action.key)
                if found is not None and found.metadata.uid == action.uid:
                    self.delete(found)
            case Change():
                found = self.objects.get(action.key)
                if found is None or found.metadata.uid != action.uid:
                    return
                copy = clone(found)
                try:
                    action.change(copy)
                except SampanError:
                    return
                self.put(copy)
            case Release():
                found = self.objects.get(action.key)
                if found is None or found.metadata.uid != action.uid:
                    return
                copy = clone(found)
                if action.finalizer in copy.metadata.finalizers:
                    copy.metadata.finalizers.remove(action.finalizer)
                self.put(copy)
                self._go(copy)
            case Note():
                self.notes.append(action.reason)

    def _create(self, pod: core_pb2.Pod) -> None:
        self.made += 1
        pod.metadata.name = f"{pod.metadata.generateName}{self.made:05}"
        pod.metadata.uid = f"uid-{self.made}"
        pod.metadata.creationTimestamp.FromMicroseconds(int(self.now * 1e6))
        pod.status.phase = "Pending"
        self.put(pod)

    def delete(self, obj: Any) -> None:
        """As the resource layer: a pod that runs on a node gets its grace, finalizers are waited for."""
        copy = clone(obj)
        grace = isinstance(copy, core_pb2.Pod) and bool(copy.spec.nodeName) and copy.status.phase not in FINISHED
        copy.metadata.deletionTimestamp.FromSeconds(int(self.now))
        copy.metadata.deletionGracePeriodSeconds = 30 if grace else 0
        self.put(copy)
        self._go(copy)

    def _go(self, obj: Any) -> None:
        meta = obj.metadata
        if is_terminating(obj) and not meta.finalizers and meta.deletionGracePeriodSeconds == 0:
            self.objects.pop(key_of(obj), None)

    # -- what nodes do ------------------------------------------------------------------------

    def run(self, pod: core_pb2.Pod, *, ready: bool = True) -> None:
        """Places the pod where it belongs, and it runs."""
        copy = clone(pod)
        copy.spec.nodeName = copy.spec.nodeName or pinned_to(copy.spec) or "somewhere"
        copy.status.phase = "Running"
        del copy.status.conditions[:]
        found = copy.status.conditions.add(type="Ready", status="True" if ready else "False")
        found.lastTransitionTime.FromMicroseconds(int(self.now * 1e6))
        self.put(copy)

    def end(self, pod: core_pb2.Pod, phase: str) -> None:
        """The pod's containers have ended."""
        copy = clone(pod)
        copy.spec.nodeName = copy.spec.nodeName or pinned_to(copy.spec) or "somewhere"
        copy.status.phase = phase
        del copy.status.conditions[:]
        state = copy.status.containerStatuses.add(name="main").state.terminated
        state.finishedAt.FromMicroseconds(int(self.now * 1e6))
        state.exitCode = 0 if phase == "Succeeded" else 1
        if is_terminating(copy):
            copy.metadata.deletionGracePeriodSeconds = 0
        self.put(copy)
        self._go(copy)

    def stopped(self, pod: core_pb2.Pod) -> None:
        """The node says that a Terminating pod is gone."""
        copy = clone(pod)
        copy.metadata.deletionGracePeriodSeconds = 0
        self.put(copy)
        self._go(copy)
