"""One pass of a Deployment: from it, its ReplicaSets, their pods and its config to a Plan; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from common.errors import SampanError
from master.controllers import confighash
from master.controllers.claiming import Claimer
from master.controllers.confighash import Reading
from master.controllers.deployment import revisions, rollback, status, strategy
from master.controllers.deployment.strategy import Side, Sizes
from master.controllers.index import selector_of
from master.controllers.plan import Action, Change, Create, Delete, Note, Plan
from master.controllers.pods import is_active, is_terminating
from master.store.store import key_of
from protos import apps_pb2, core_pb2

KIND = "Deployment"
PodsOf = Callable[[apps_pb2.ReplicaSet], list[core_pb2.Pod]]


def reconcile(
    deployment: apps_pb2.Deployment,
    sets: Iterable[apps_pb2.ReplicaSet],
    pods_of: PodsOf,
    now: float,
    *,
    read: Reading = lambda key: None,
    taken: Callable[[str], bool] = lambda name: False,
) -> Plan:
    """Sizes the ReplicaSets one step further towards the template, and tells how far it is.

    `sets`: at least all of the namespace that match the selector or that the Deployment controls; `pods_of`: the pods a
    set controls; `read`: a ConfigMap or Secret by its key; `taken`: whether a ReplicaSet of this name exists; `now` in
    Unix seconds.
    """
    claimer = Claimer(deployment, selector_of(deployment))
    mine, adopt, release = claimer.claim(sets)
    if adopt or release:
        # Sized in the next pass: by then it is known which sets are ours.
        return Plan(tuple(claimer.actions(adopt, release)))
    hashed = None if is_terminating(deployment) else _config(deployment, read)
    if hashed is not None:
        return Plan((hashed,))
    return _Pass(deployment, claimer, mine, pods_of, taken, now).plan()


def _config(deployment: apps_pb2.Deployment, read: Reading) -> Change | None:
    """Puts the hash of the config into the template, where that is asked for and it is another one now."""
    if not confighash.asked(deployment):
        return None
    template = deployment.spec.template
    found = confighash.config_hash(template.spec, deployment.metadata.namespace, read)
    held = template.metadata.annotations.get(confighash.HASH, "")
    refused = deployment.metadata.annotations.get(revisions.FAILED_CONFIG)
    if found is None or found in (held, refused):
        return None
    told: str = found

    def change(newest: Any) -> None:
        if confighash.asked(newest) and newest.spec.template == template:
            if told:
                newest.spec.template.metadata.annotations[confighash.HASH] = told
            else:
                newest.spec.template.metadata.annotations.pop(confighash.HASH, None)

    return Change(key_of(deployment), deployment.metadata.uid, "hash the config of", change)


class _Pass:
    """The figures of one pass, and what follows from them."""

    def __init__(
        self,
        deployment: apps_pb2.Deployment,
        claimer: Claimer,
        mine: Sequence[apps_pb2.ReplicaSet],
        pods_of: PodsOf,
        taken: Callable[[str], bool],
        now: float,
    ) -> None:
        self.deployment, self.claimer, self.taken, self.now = deployment, claimer, taken, now
        new, old = revisions.split(deployment.spec.template, mine)
        self.pods = {rs.metadata.uid: pods_of(rs) for rs in mine}
        self.limits = strategy.bounds(deployment)
        self.new = self._side(new) if new is not None else None
        self.old = [self._side(rs) for rs in old]
        self.sides = [*self.old, *([self.new] if self.new is not None else [])]
        self.revision = revisions.next_revision(new, old)
        self.actions: list[Action] = []
        self.begun = self.begun_name = ""
        self.colliding = self.partial = False

    def _side(self, rs: apps_pb2.ReplicaSet) -> Side:
        least = self.deployment.spec.minReadySeconds
        return strategy.side(rs, self.pods[rs.metadata.uid], least, self.now, self.limits)

    def plan(self) -> Plan:
        if not is_terminating(self.deployment):
            self._size()
        ready = status.count_ready([pod for pods in self.pods.values() for pod in pods if is_active(pod)])
        step = status.Step(
            self.deployment, self.new, self.old, ready, self.limits, self.begun, self.begun_name
        )  # fmt: skip
        found, deadline = status.make(step, self.now)
        if self.colliding:
            found.collisionCount += 1
        if not is_terminating(self.deployment):
            self._conclude(found)
        after: tuple[Action, ...] = ()
        if found != self.deployment.status:
            after = (_write_status(self.deployment, found),)
        return Plan(tuple(self.actions), after, self._again(deadline), self._refused)

    def _refused(self, errors: Sequence[tuple[Action, SampanError]]) -> tuple[Action, ...]:
        """A ReplicaSet that could not be made is told in the status."""
        error = next((error for action, error in errors if isinstance(action, Create)), None)
        if error is None:
            return ()
        told = apps_pb2.DeploymentStatus()
        told.CopyFrom(self.deployment.status)
        message = f'Failed to create new replica set "{self.begun_name}": {error}'
        status.put(told, status.PROGRESSING, "False", status.NOT_CREATED, message, self.now)
        return () if told == self.deployment.status else (_write_status(self.deployment, told),)

    def _size(self) -> None:
        deployment = self.deployment
        recreating = deployment.spec.strategy.type == strategy.RECREATE
        pending = not deployment.spec.paused and (self.new is None or any(one.spec or one.live for one in self.old))
        # Recreate: pods that are about to go are not multiplied first.
        scaling = strategy.is_scaling(deployment, self.sides) and not (recreating and pending)
        if scaling or (deployment.spec.paused and sum(one.spec > 0 for one in self.sides) <= 1):
            wanted = strategy.scaled(deployment, self.new, self.old, self.limits)
            sizes = strategy.trimmed(deployment, wanted, self.sides, self.limits)
            # What was trimmed follows: until then the sets do not say that they were sized for this number.
            self.partial = sizes != wanted
        elif deployment.spec.paused:
            sizes = {}
        elif recreating:
            sizes = strategy.recreate(deployment, self.new, self.old)
        else:
            sizes = strategy.rolling(deployment, self.new, self.old, self.limits)
        if not deployment.spec.paused and not scaling:
            if self.new is not None:
                self._promote()
            elif not recreating or "" in sizes:
                self._make(sizes.get("", 0))
        if not self.colliding:
            for one in self.sides:
                self._resize(one, sizes)

    def _make(self, size: int) -> None:
        """The ReplicaSet of a new template."""
        made = revisions.new_set(self.deployment, self.claimer, self.revision)
        made.spec.replicas = size
        if self.taken(made.metadata.name):
            # Another template has this name: the next pass takes another one.
            self.colliding = True
            return
        for name, text in strategy.size_annotations(self.deployment, self.limits).items():
            made.metadata.annotations[name] = text
        self.actions.append(Create(made))
        self.begun, self.begun_name = status.CREATED, made.metadata.name
        self._tell_begin()
        if size:
            self._tell_scaled(made.metadata.name, 0, size)

    def _promote(self) -> None:
        """An old template that is wanted again becomes the newest revision."""
        assert self.new is not None
        own = revisions.revision_of(self.new.rs)
        if own < self.revision:
            self.begun = status.FOUND
            self._tell_begin()

    def _tell_begin(self) -> None:
        if self.limits.stop_first and any(one.live or one.spec for one in self.old):
            message = f"The old pod stops before the new one starts: both need {self.limits.stop_first}"
            self._note("StopFirst", message)

    def _resize(self, one: Side, sizes: Sizes) -> None:
        """One write for all that a ReplicaSet shall have: size, annotations, minReadySeconds."""
        deployment, rs = self.deployment, one.rs
        size = sizes.get(one.name, one.spec)
        annotations = dict(rs.metadata.annotations)
        if one is self.new and not deployment.spec.paused:
            annotations = revisions.set_annotations(deployment, rs, self.revision)
        sized = size != one.spec or (one.spec and strategy.is_scaling(deployment, [one]) and one.name in sizes)
        if sized and not self.partial:
            annotations |= strategy.size_annotations(deployment, self.limits)
        waits = deployment.spec.minReadySeconds if one is self.new else rs.spec.minReadySeconds
        if is_terminating(rs):
            return
        if (size, annotations, waits) == (one.spec, dict(rs.metadata.annotations), rs.spec.minReadySeconds):
            return
        before = one.spec
        changed = {name: text for name, text in annotations.items() if rs.metadata.annotations.get(name) != text}

        def change(newest: apps_pb2.ReplicaSet) -> None:
            if newest.spec.replicas != before:
                # Somebody else sized it meanwhile: the figures this plan was made of are gone.
                return
            newest.spec.replicas, newest.spec.minReadySeconds = size, waits
            for name, text in changed.items():
                newest.metadata.annotations[name] = text

        self.actions.append(Change(key_of(rs), rs.metadata.uid, "scale" if size != before else "annotate", change))
        if size != before:
            self._tell_scaled(one.name, before, size)

    def _conclude(self, found: apps_pb2.DeploymentStatus) -> None:
        """What a pass does besides sizing: the way back, the revision, the marks, old history."""
        deployment, new = self.deployment, self.new
        complete = status.is_complete(deployment, found)
        if new is not None and not deployment.spec.paused:
            marked = new.rs.metadata.annotations.get(revisions.ROLLED_OUT) == "true"
            # A rollout of no pods is complete at once and shows nothing.
            if complete and not marked and deployment.spec.replicas:
                self.actions.append(_mark_rolled_out(new.rs))
            elif not complete and not self.begun and not (marked and status.was_complete(deployment, found, new.name)):
                self._roll_back(found, new)
        if new is not None or self.begun:
            forget = rollback.forget(deployment, new.rs if new is not None else None)
            if forget is not None:
                self.actions.append(forget)
            if deployment.metadata.annotations.get(revisions.REVISION) != str(self.revision) and (
                not deployment.spec.paused
            ):
                self.actions.append(_set_revision(deployment, self.revision))
        # Kubernetes cuts the history only after a rollout; sets would pile up where none ever ends. The way back stays.
        back = None if complete or deployment.spec.paused else rollback.target(self.old)
        live = {one.rs.metadata.uid: one.live for one in self.sides}
        for rs in revisions.surplus_history(deployment, [one.rs for one in self.old if one.rs is not back], live):
            self.actions.append(Delete(key_of(rs), rs.metadata.uid))

    def _roll_back(self, found: apps_pb2.DeploymentStatus, new: Side) -> None:
        marks = self.deployment.metadata.annotations
        here = new.rs.metadata.labels.get(revisions.HASH_LABEL)
        if marks.get(rollback.ASK) != "true" or (here and marks.get(revisions.ROLLED_BACK_TO) == here):
            # Not asked for, or back already: from there it goes no further by itself.
            return
        why = rollback.failure(found, [pod for pod in self.pods[new.rs.metadata.uid] if is_active(pod)], self.now)
        back = rollback.target(self.old)
        if why is not None and back is not None:
            self.actions += rollback.actions(self.deployment, new.rs, back, why)

    def _tell_scaled(self, name: str, before: int, size: int) -> None:
        word = "up" if size > before else "down"
        self._note("ScalingReplicaSet", f"Scaled {word} replica set {name} from {before} to {size}")

    def _note(self, reason: str, message: str) -> None:
        self.actions.append(Note(self.deployment, "Normal", reason, message))

    def _again(self, deadline: float | None) -> float | None:
        """Seconds until a pod becomes available or the deadline passes."""
        waits = (deadline, *(one.wait for one in self.sides))
        return min((wait for wait in waits if wait is not None), default=None)


def _write_status(deployment: apps_pb2.Deployment, found: apps_pb2.DeploymentStatus) -> Change:
    def change(newest: apps_pb2.Deployment) -> None:
        newest.status.CopyFrom(found)

    return Change(key_of(deployment), deployment.metadata.uid, "status", change, status=True)


def _set_revision(deployment: apps_pb2.Deployment, revision: int) -> Change:
    def change(newest: apps_pb2.Deployment) -> None:
        newest.metadata.annotations[revisions.REVISION] = str(revision)

    return Change(key_of(deployment), deployment.metadata.uid, "number", change)


def _mark_rolled_out(rs: apps_pb2.ReplicaSet) -> Change:
    def change(newest: apps_pb2.ReplicaSet) -> None:
        newest.metadata.annotations[revisions.ROLLED_OUT] = "true"

    return Change(key_of(rs), rs.metadata.uid, "mark", change)
