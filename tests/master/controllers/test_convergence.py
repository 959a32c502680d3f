"""All controllers together, whatever happens in whatever order: bounds hold with every write, and in the end all is
as asked for, though three triggers of ten were lost, nodes and pods failed and masters began anew in the middle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import AlreadyExists, BudgetExhausted, NotFound
from master.api.eviction import evict
from master.controllers import confighash
from master.controllers.daemonset import fits, pod_spec, template_hash
from master.controllers.deployment import revisions, rollback
from master.controllers.disruption import assess
from master.controllers.index import selector_of
from master.controllers.job import ending_of
from master.controllers.nodefit import pinned_to
from master.controllers.pods import FINISHED, condition, controller_of, is_active, is_ready, is_terminating
from protos import apps_pb2, batch_pb2, core_pb2, policy_pb2
from tests.master.controllers.builders import service
from tests.master.controllers.modellaws import Laws
from tests.master.controllers.modelworld import BROKEN, Model, at_once

NODES = 4
MOST_NODES = 6
CONFIG = "settings"
# Of a DaemonSet's failed pod, in seconds; a Job's is shorter.
LONGEST_BACKOFF = 1000.0


def template(made: Any, app: str, image: str = "app:1") -> None:
    made.metadata.labels["app"] = app
    made.spec.containers.add(name="main", image=image)
    made.spec.terminationGracePeriodSeconds = 5


def deployment(name: str, replicas: int, surge: int, unavailable: int, *, kind: str = "") -> apps_pb2.Deployment:
    """`kind`: "recreate", "host-port" for a pod that one node can have only once, "back" for one that goes back by
    itself, "config" for one that follows its ConfigMap."""
    made = apps_pb2.Deployment()
    made.metadata.name, made.metadata.namespace = name, "default"
    made.spec.replicas = replicas
    made.spec.revisionHistoryLimit = 2
    made.spec.selector.matchLabels["app"] = name
    template(made.spec.template, name)
    if kind == "recreate":
        made.spec.strategy.type = "Recreate"
        return made
    made.spec.strategy.rollingUpdate.maxSurge.intVal = surge
    made.spec.strategy.rollingUpdate.maxUnavailable.intVal = unavailable
    if kind == "back":
        made.metadata.annotations[rollback.ASK] = "true"
    if kind == "config":
        made.metadata.annotations[confighash.ASK] = "true"
        made.spec.template.spec.containers[0].envFrom.add().configMapRef.localObjectReference.name = CONFIG
    if kind == "host-port":
        made.spec.template.spec.containers[0].ports.add(containerPort=80, hostPort=8080)
    return made


def replication(name: str, replicas: int) -> core_pb2.ReplicationController:
    made = core_pb2.ReplicationController()
    made.metadata.name, made.metadata.namespace = name, "default"
    made.metadata.annotations["sampan.dev/rolling-update"] = "true"
    made.spec.replicas = replicas
    made.spec.selector["app"] = name
    template(made.spec.template, name)
    return made


def daemons(name: str, unavailable: int) -> apps_pb2.DaemonSet:
    made = apps_pb2.DaemonSet()
    made.metadata.name, made.metadata.namespace = name, "default"
    made.spec.selector.matchLabels["app"] = name
    template(made.spec.template, name)
    made.spec.updateStrategy.rollingUpdate.maxUnavailable.intVal = unavailable
    return made


def job(name: str, completions: int, parallelism: int, indexed: bool) -> batch_pb2.Job:
    made = batch_pb2.Job()
    made.metadata.name, made.metadata.namespace = name, "default"
    made.spec.completions, made.spec.parallelism, made.spec.backoffLimit = completions, parallelism, 4
    made.spec.completionMode = "Indexed" if indexed else "NonIndexed"
    template(made.spec.template, name)
    made.spec.template.spec.restartPolicy = "Never"
    return made


def budget(app: str, unavailable: int) -> policy_pb2.PodDisruptionBudget:
    made = policy_pb2.PodDisruptionBudget()
    made.metadata.name, made.metadata.namespace = app, "default"
    made.spec.maxUnavailable.intVal = unavailable
    made.spec.selector.matchLabels["app"] = app
    return made


class Story:
    """A model cluster with its users; `run` does random steps, `end` lets everything come to rest and looks."""

    def __init__(self, seed: int) -> None:
        self.model = Model(seed, NODES)
        self.laws = Laws(self.model)
        self.dice = self.model.dice
        self._made = 0
        # Deployments that have to be rolled back when all comes to rest.
        self.failing: set[str] = set()
        for make in (self._new_deployment, self._new_daemons, self._new_replication, self._new_job, self._config):
            make()

    # -- users --------------------------------------------------------------------------------

    def _create(self, made: Any) -> None:
        try:
            at_once(self.model.resources.create(made))
        except AlreadyExists:
            return

    def _new_deployment(self) -> None:
        kind = self.dice.choice(["", "", "back", "back", "config", "recreate", "host-port"])
        name = self.dice.choice(["web", "api", "shop"]) + (f"-{kind}" if kind else "")
        replicas = 1 if kind == "host-port" else self.dice.randrange(6)
        surge, unavailable = self.dice.choice([(1, 0), (0, 1), (1, 1), (2, 1), (3, 0), (0, 2)])
        self._create(deployment(name, replicas, surge, unavailable, kind=kind))
        self._create(service(name, {"app": name}, {"http": 80}))

    def _new_daemons(self) -> None:
        self._create(daemons(self.dice.choice(["logs", "net"]), self.dice.randrange(1, 3)))

    def _new_replication(self) -> None:
        self._create(replication(self.dice.choice(["old", "seed"]), self.dice.randrange(5)))

    def _new_job(self) -> None:
        self._made += 1
        indexed, completions = self.dice.random() < 0.5, self.dice.randrange(1, 5)
        self._create(job(f"job-{self._made % 3}", completions, self.dice.randrange(1, 4), indexed))

    def _new_budget(self) -> None:
        app = self.dice.choice(["web", "api", "shop", "old", "logs"])
        self._create(budget(app, self.dice.randrange(3)))

    def _some(self, kind: str) -> Any | None:
        found = self.model.store.list(kind, "default")
        return self.dice.choice(found) if found else None

    def _change(self, kind: str, change: Callable[[Any], None]) -> None:
        found = self._some(kind)
        if found is not None:
            at_once(self.model.resources.mutate(kind, "default", found.metadata.name, change))

    def _scale(self) -> None:
        size = self.dice.randrange(7)

        def change(newest: Any) -> None:
            if "host-port" not in newest.metadata.name:
                newest.spec.replicas = size

        self._change(self.dice.choice(["Deployment", "Deployment", "ReplicationController"]), change)

    def _update(self) -> None:
        image, broken = f"app:{self.dice.randrange(4)}", self.dice.random() < 0.5

        def change(newest: Any) -> None:
            back = broken and newest.metadata.annotations.get(rollback.ASK) == "true"
            newest.spec.template.spec.containers[0].image = BROKEN if back else image

        self._change(self.dice.choice(["Deployment"] * 3 + ["ReplicationController", "DaemonSet"]), change)

    def _config(self) -> None:
        """The ConfigMap comes, changes or goes."""
        found, word = self.model.store.get("ConfigMap", "default", CONFIG), str(self.dice.randrange(3))
        made = core_pb2.ConfigMap(data={"word": word})
        made.metadata.name, made.metadata.namespace = CONFIG, "default"
        if found is None:
            self._create(made)
        elif self.dice.random() < 0.2:
            at_once(self.model.resources.delete("ConfigMap", "default", CONFIG))
        else:
            self._change("ConfigMap", lambda newest: newest.data.update(word=word))

    def _pause(self) -> None:
        paused = self.dice.random() < 0.5

        def change(newest: Any) -> None:
            newest.spec.paused = paused

        self._change("Deployment", change)

    def _suspend(self) -> None:
        suspended = self.dice.random() < 0.5

        def change(newest: batch_pb2.Job) -> None:
            newest.spec.suspend = suspended

        self._change("Job", change)

    def _delete(self) -> None:
        kind = self.dice.choice(["Deployment", "ReplicationController", "DaemonSet", "Job", "PodDisruptionBudget"])
        found = self._some(kind)
        if found is not None:
            policy = self.dice.choice(["Background", "Foreground"])
            at_once(self.model.resources.delete(kind, "default", found.metadata.name, propagation=policy))

    def _evict(self) -> None:
        pod = self._some("Pod")
        if pod is None:
            return
        self.laws.evicting = True
        try:
            at_once(evict(self.model.resources, "default", pod.metadata.name, uid=pod.metadata.uid))
        except (BudgetExhausted, NotFound):
            return
        finally:
            self.laws.evicting = False
        self.laws.evicted(pod)

    # -- trouble ------------------------------------------------------------------------------

    def _pod_trouble(self) -> None:
        pod = self._some("Pod")
        if pod is None or not pod.spec.nodeName or pod.spec.nodeName in self.model.table.died:
            return
        match self.dice.randrange(4):
            case 0:
                self.model.lose(pod)
            case 1:
                self.model.report(pod, "Failed")
            case _:
                self.model.report(pod, "Running", ready=False)

    def _node_trouble(self) -> None:
        names = [found.metadata.name for found in self.model.store.list("Node")]
        dead = sorted(self.model.table.died.keys() & set(names))
        match self.dice.randrange(5):
            case 0 | 1 if len(dead) < 2:
                self.model.die(self.dice.choice(names))
            case 2 if dead:
                self.model.revive(self.dice.choice(dead))
            case 3:
                self._cordon(self.dice.choice(names), self.dice.random() < 0.5)
            case 4 if dead:
                at_once(self.model.resources.delete("Node", "", dead[0]))
                self._made += 1
                if len(names) < MOST_NODES:
                    self.model.join(f"m{self._made}")

    def _cordon(self, name: str, cordoned: bool) -> None:
        def change(newest: core_pb2.Node) -> None:
            newest.spec.unschedulable = cordoned

        at_once(self.model.resources.mutate("Node", "", name, change))

    # -- running ------------------------------------------------------------------------------

    def run(self, steps: int) -> None:
        often: list[Callable[[], Any]] = [
            *[lambda: self.model.deliver(self.dice.randrange(1, 30))] * 4,
            *[self.model.plan] * 12,
            *[self.model.act] * 16,
            *[lambda: self.model.nodes_work(wrong=0.1)] * 12,
            lambda: self.model.passes(self.dice.random() * 2),
            self.model.resync,
        ]
        seldom: list[Callable[[], Any]] = [
            *[self._update] * 4,
            *[self._scale] * 2,
            *[self._evict] * 4,
            *[self._pod_trouble] * 3,
            *[self._node_trouble] * 2,
            *[self._config] * 2,
            self._pause,
            self._suspend,
            self._delete,
            self._new_deployment,
            self._new_daemons,
            self._new_replication,
            self._new_job,
            self._new_budget,
            self.model.begin,
        ]
        for _ in range(steps):
            self.model.steps += 1
            self.dice.choice(seldom if self.dice.random() < 0.04 else often)()
            self.laws.between()

    def settle(self) -> None:
        """Users and faults are done; changes are lost as ever."""
        for found in self.model.store.list("Node"):
            self.model.revive(found.metadata.name)
            self._cordon(found.metadata.name, False)
        for found in self.model.store.list("Deployment"):
            at_once(self.model.resources.mutate("Deployment", "default", found.metadata.name, _unpause))
            if found.spec.template.spec.containers[0].image == BROKEN and found.spec.replicas:
                self._leave_or_mend(found)
        for found in self.model.store.list("Job"):
            at_once(self.model.resources.mutate("Job", "default", found.metadata.name, _resume))
        self._come_to_rest()

    def _leave_or_mend(self, found: apps_pb2.Deployment) -> None:
        """What is to go back by itself is left to; where there is no way back, the user helps."""
        if any(rs.metadata.annotations.get(revisions.ROLLED_OUT) == "true" for rs in self._sets(found)):
            self.failing.add(found.metadata.uid)
            return

        def change(newest: apps_pb2.Deployment) -> None:
            newest.spec.template.spec.containers[0].image = "app:0"

        at_once(self.model.resources.mutate("Deployment", "default", found.metadata.name, change))

    def _come_to_rest(self) -> None:
        quiet = 0
        for _ in range(300):
            before = self.model.store.revision
            self.model.deliver(1000)
            while self.model.plan() or self.model.act() or self.model.nodes_work(wrong=0.0):
                self.model.steps += 1
                self.laws.between()
            quiet = quiet + 1 if self.model.store.revision == before else 0
            if quiet == 3:
                return
            # Nothing happens: only the longest back-off may be waited for.
            self.model.passes(LONGEST_BACKOFF if quiet else 2.0)
            self.model.resync()
        raise AssertionError(f"it does not come to rest: {[flight.plan.summary() for flight in self.model.flights]}")

    # -- looking ------------------------------------------------------------------------------

    def looks_right(self) -> None:
        store = self.model.store
        for pod in self.model.pods():
            owner = controller_of(pod)
            assert owner is not None, f"{pod.metadata.name} is nobody's"
            above = store.get(owner.kind, "default", owner.name)
            assert above is not None and above.metadata.uid == owner.uid, f"{pod.metadata.name} is an orphan"
            assert not is_terminating(pod), f"{pod.metadata.name} does not go"
        for found in store.list("Deployment"):
            self._rolled_out(found)
        for found in store.list("ReplicationController"):
            self._same(found, self._pods(found))
        for found in store.list("DaemonSet"):
            self._everywhere(found)
        for found in store.list("Job"):
            self._over(found)
        for found in store.list("PodDisruptionBudget"):
            self._assessed(found)

    def _pods(self, owner: Any) -> list[core_pb2.Pod]:
        pods = [pod for pod in self.model.pods() if (o := controller_of(pod)) and o.uid == owner.metadata.uid]
        return [pod for pod in pods if is_active(pod)]

    def _same(self, owner: Any, pods: list[core_pb2.Pod]) -> None:
        wanted = [owner.spec.template.spec.containers[0].image] * owner.spec.replicas
        images = [pod.spec.containers[0].image for pod in pods]
        assert images == wanted, f"{owner.metadata.name}: {images}, not {wanted}"
        assert all(is_ready(pod) for pod in pods)
        assert owner.status.observedGeneration == owner.metadata.generation
        assert owner.status.availableReplicas == owner.spec.replicas

    def _sets(self, found: apps_pb2.Deployment) -> list[apps_pb2.ReplicaSet]:
        sets = self.model.store.list("ReplicaSet")
        return [rs for rs in sets if (owner := controller_of(rs)) and owner.uid == found.metadata.uid]

    def _rolled_out(self, found: apps_pb2.Deployment) -> None:
        sets = self._sets(found)
        if found.metadata.uid in self.failing:
            told = condition(found.status, "RolledBack")
            assert told is not None and told.status == "True", f"{found.metadata.name} was not rolled back"
        if confighash.asked(found):
            template = found.spec.template
            wanted = confighash.config_hash(template.spec, "default", lambda key: self.model.store.get(*key))
            assert wanted in (None, template.metadata.annotations.get(confighash.HASH, ""))
        self._same(found, [pod for rs in sets for pod in self._pods(rs)])
        assert sum(rs.spec.replicas > 0 for rs in sets) <= 1
        assert len(sets) <= found.spec.revisionHistoryLimit + 1
        endpoints = self.model.store.get("Endpoints", "default", found.metadata.name)
        assert endpoints is not None and sum(len(one.addresses) for one in endpoints.subsets) in (
            0,
            found.spec.replicas,
        )

    def _everywhere(self, found: apps_pb2.DaemonSet) -> None:
        spec = pod_spec(found)
        wanted = sorted(node.metadata.name for node in self.model.store.list("Node") if fits(spec, node)[0])
        pods = self._pods(found)
        assert sorted(pinned_to(pod.spec) for pod in pods) == wanted
        revision = template_hash(found.spec.template)
        assert all(pod.metadata.labels["controller-revision-hash"] == revision and is_ready(pod) for pod in pods)
        assert found.status.numberAvailable == len(wanted)

    def _over(self, found: batch_pb2.Job) -> None:
        end = ending_of(found)
        assert end is not None, f"{found.metadata.name} does not end"
        assert not self._pods(found)
        assert found.status.active == 0
        if end.type == "Complete":
            assert found.status.succeeded == found.spec.completions

    def _assessed(self, found: policy_pb2.PodDisruptionBudget) -> None:
        selector = selector_of(found)
        assert selector is not None
        pods = [
            pod
            for pod in self.model.pods()
            if selector.matches(pod.metadata.labels) and pod.status.phase not in FINISHED
        ]
        status, _ = assess(found, pods, lambda reference, namespace: None, self.model.now)
        assert (found.status.currentHealthy, found.status.observedGeneration) == (
            status.currentHealthy,
            found.metadata.generation,
        )
        assert not found.status.disruptedPods


def _unpause(newest: apps_pb2.Deployment) -> None:
    newest.spec.paused = False


def _resume(newest: batch_pb2.Job) -> None:
    newest.spec.suspend = False


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32))
def test_bounds_hold_with_every_write_and_all_converges(seed: int) -> None:
    story = Story(seed)
    story.run(600)
    story.settle()
    story.looks_right()


def test_the_laws_see_what_breaks_them() -> None:
    """A controller that makes one pod too many, in a world that is otherwise the same."""
    story = Story(1)
    story._create(deployment("plain", 3, 1, 0))
    story.settle()
    rs = next(rs for rs in story.model.store.list("ReplicaSet") if rs.metadata.name.startswith("plain-"))
    extra = core_pb2.Pod(spec=rs.spec.template.spec)
    extra.metadata.generateName, extra.metadata.namespace = "plain-", "default"
    extra.metadata.labels.update(rs.spec.template.metadata.labels)
    extra.metadata.ownerReferences.add(
        apiVersion="apps/v1", kind="ReplicaSet", name=rs.metadata.name, uid=rs.metadata.uid, controller=True
    )

    def make_too_many() -> None:
        for _ in range(2):
            at_once(story.model.resources.create(extra))

    with pytest.raises(AssertionError, match="at most 4 are allowed"):
        make_too_many()
