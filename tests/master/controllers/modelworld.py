"""The whole cluster in memory, one step at a time: real store code without a disk, the real resource layer, all rows.

Nothing runs by itself: `Model` hands out single steps (a change arrives or is lost, a pass plans, one action of a plan
is written, a node does something), so that a test can put them in any order. Time passes only when told.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from common.errors import NotFound, SampanError
from common.podtrouble import RESTARTS
from master.api.resources import Resources
from master.controllers.apply import carry_out
from master.controllers.index import Index
from master.controllers.nodefit import allows
from master.controllers.nodes import Timeouts
from master.controllers.plan import Action, Note, Plan
from master.controllers.pods import FINISHED, condition, is_ready, is_terminating
from master.controllers.queue import WorkQueue
from master.controllers.rows.row import Moment, Row
from master.controllers.rows.table import Rows
from master.controllers.tolerations import NO_EXECUTE, NO_SCHEDULE, untolerated
from master.store.store import Change, Key, Loaded, Store, Write, clone
from protos import core_pb2
from tests.master.controllers.builders import NOW, node

RESYNC = 5.0
LOST = 0.3
BROKEN = "app:broken"
T = TypeVar("T")


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing: in here nobody else could be faster."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("it waits for something")


class _NoDisk:
    """A backend that is never asked: what is committed is published at once."""

    def load(self) -> Loaded:
        return Loaded(0, (), ())

    async def append(self, changes: Any, forget_before: int) -> None:
        raise AssertionError("nothing is written to a disk")

    async def backup(self, path: Path) -> None:
        raise AssertionError("there is no disk")

    async def replace(self, path: Path, revision: int) -> Loaded:
        raise AssertionError("there is no disk")

    async def close(self) -> None:
        return None


class ModelStore(Store):
    """The store without disk and loop; `seen` hears each change the moment it is there."""

    def __init__(self, seen: Callable[[Change], None]) -> None:
        super().__init__(_NoDisk())
        self._next = 1
        self._seen = seen

    async def commit(self, *writes: Write) -> list[Any]:
        changes = self._stage(writes)
        self._publish(changes)
        for change in changes:
            self._seen(change)
        return [change.obj for change in changes]


class _Named(Resources):
    """Names come from the dice, so that a seed always tells the same story."""

    dice: random.Random

    async def create(self, obj: Any, *, dry_run: bool = False) -> Any:
        if not obj.metadata.name:
            obj = clone(obj)
            obj.metadata.name = f"{obj.metadata.generateName}{self.dice.randrange(10**8):08}"
        return await super().create(obj, dry_run=dry_run)


class Heartbeats:
    """Implements `NodeTable`: nodes that live are heard all the time, others when they died last."""

    def __init__(self, tick: Callable[[], float]) -> None:
        self.started_at = 0.0
        self._tick = tick
        self.died: dict[str, float] = {}

    def last_heartbeat(self, name: str) -> float | None:
        return self.died.get(name, self._tick())

    def heartbeat_period(self) -> float:
        return 1.0


class Flight:
    """A pass whose plan is being written, action by action. `began` is the number of the step it planned at."""

    def __init__(self, row: Row, key: Key, plan: Plan, began: int) -> None:
        self.row, self.key, self.plan, self.began = row, key, plan, began
        self.left: list[Action] = list(plan.actions)
        self.errors: list[tuple[Action, SampanError]] = []
        self.after = False


class Model:
    """`now` in Unix seconds, `tick` monotonic; `doing` is the pass an action of which is being written."""

    def __init__(self, seed: int, nodes: int) -> None:
        self.dice = random.Random(seed)
        self.now, self.tick, self.steps = NOW, 0.0, 0
        self.doing: Flight | None = None
        self.watchers: list[Callable[[Change], None]] = []
        self._news: list[Change] = []
        self.store = ModelStore(self._seen)
        self.resources = _Named(self.store, clock=lambda: self.now)
        self.resources.dice = self.dice
        self.table = Heartbeats(lambda: self.tick)
        self.flights: list[Flight] = []
        at_once(self.resources.ensure_builtin())
        for number in range(nodes):
            self.join(f"n{number}")
        self.begin()

    def _seen(self, change: Change) -> None:
        self._news.append(change)
        for watcher in self.watchers:
            watcher(change)

    def begin(self) -> None:
        """A master starts: it knows the store, and what was under way is lost."""
        self.flights, self._news = [], []
        self.table.started_at = self.tick
        self._rows = Rows(self.store, self.table, Timeouts())
        self._desks: list[tuple[Row, WorkQueue[Key]]] = [(row, WorkQueue()) for row in self._rows.rows()]
        self._resynced = -RESYNC
        self._rows.index = Index(obj for kind in self._kinds() for obj in self.store.list(kind))
        self.resync()

    def _kinds(self) -> Collection[str]:
        return [kind for kind in self.store._objects if kind != "Event"]

    # -- the controllers' shell ---------------------------------------------------------------

    def resync(self) -> None:
        """Every few seconds, as the runner does: the index reads everything again, and every key is looked at."""
        if self.tick - self._resynced < RESYNC:
            return
        self._resynced = self.tick
        for kind in self._kinds():
            for obj in self.store.list(kind):
                self._rows.index.put(obj)
        for row, queue in self._desks:
            list(map(queue.add, row.keys()))

    def deliver(self, most: int) -> None:
        """Some changes arrive in order; three of ten never do."""
        arriving, self._news = self._news[:most], self._news[most:]
        kept = [change for change in arriving if self.dice.random() >= LOST and change.kind != "Event"]
        for change in kept:
            if change.type == "DELETED":
                self._rows.index.remove(change.key)
            else:
                self._rows.index.put(change.obj)
        for row, queue in self._desks:
            for change in kept:
                for key in row.dirty(change):
                    queue.add(key)

    def plan(self) -> bool:
        """Some controller plans for a key that is due, and has something to write; False where none has."""
        desks = list(self._desks)
        self.dice.shuffle(desks)
        for row, queue in desks:
            while (key := queue.take(self.tick)) is not None:
                plan = row.reconcile(key, Moment(self.now, self.tick, self.table.started_at))
                flight = Flight(row, key, plan, self.steps)
                self.dice.shuffle(flight.left)
                self.flights.append(flight)
                self._land(flight)
                if flight.left:
                    return True
        return False

    def act(self) -> bool:
        """One action of some plan; False where all are done."""
        if not self.flights:
            return False
        flight = self.dice.choice(self.flights)
        action = flight.left.pop()
        if not isinstance(action, Note):
            self.doing = flight
            try:
                at_once(carry_out(action, self.resources, self._index_newest))
            except SampanError as error:
                flight.errors.append((action, error))
            self.doing = None
        self._land(flight)
        return True

    def _land(self, flight: Flight) -> None:
        """Goes on to what comes after the actions, and ends the pass."""
        if not flight.left and not flight.after:
            flight.after = True
            failed = flight.plan.failed
            flight.left = list(
                flight.plan.after if not flight.errors else failed(flight.errors) if failed is not None else ()
            )
            self.dice.shuffle(flight.left)
        if flight.left:
            return
        self.flights.remove(flight)
        queue = next(queue for row, queue in self._desks if row is flight.row)
        if flight.errors:
            queue.failed(flight.key, self.tick)
            return
        queue.done(flight.key)
        if flight.plan.again is not None:
            queue.add_at(flight.key, self.tick + flight.plan.again)

    def _index_newest(self, obj: Any) -> None:
        self._rows.index.put(obj)

    def passes(self, seconds: float) -> None:
        for pod in self.pods():
            if is_broken(pod) and is_ready(pod):
                # Nothing that crashes is up for long.
                self.crash(pod)
        self.now += seconds
        self.tick += seconds

    # -- nodes --------------------------------------------------------------------------------

    def join(self, name: str) -> None:
        """A node registers and is ready."""
        self.table.died.pop(name, None)
        made = node(name)
        at_once(self.resources.create(made))
        self._report(name)

    def alive(self) -> list[core_pb2.Node]:
        return [found for found in self.store.list("Node") if found.metadata.name not in self.table.died]

    def die(self, name: str) -> None:
        self.table.died.setdefault(name, self.tick)

    def revive(self, name: str) -> None:
        self.table.died.pop(name, None)
        self._report(name)

    def _report(self, name: str) -> None:
        def change(newest: core_pb2.Node) -> None:
            found = condition(newest.status, "Ready") or newest.status.conditions.add(type="Ready")
            found.status, found.reason = "True", "AgentReady"

        at_once(self.resources.mutate("Node", "", name, change, status=True))

    def pods(self) -> list[core_pb2.Pod]:
        return self.store.list("Pod")

    def place(self, pod: core_pb2.Pod) -> bool:
        """The scheduler binds a pod somewhere it may be."""
        effects = (NO_SCHEDULE, NO_EXECUTE)
        fits = [
            found.metadata.name
            for found in self.alive()
            if allows(pod.spec, found) and untolerated(pod.spec.tolerations, found.spec.taints, effects) is None
        ]
        meta = pod.metadata
        return bool(fits) and at_once(
            self.resources.bind(meta.namespace, meta.name, meta.uid, self.dice.choice(sorted(fits)))
        )

    def report(self, pod: core_pb2.Pod, phase: str, *, ready: bool = False) -> None:
        """The pod's node says how it is."""
        now = self.now

        def change(newest: core_pb2.Pod) -> None:
            if newest.status.phase in FINISHED:
                return
            newest.status.phase = phase
            found = condition(newest.status, "Ready") or newest.status.conditions.add(type="Ready")
            status = "True" if ready else "False"
            if found.status != status:
                found.status = status
                found.lastTransitionTime.FromMicroseconds(int(now * 1e6))
            if phase in FINISHED:
                del newest.status.containerStatuses[:]
                state = newest.status.containerStatuses.add(name="main").state.terminated
                state.finishedAt.FromMicroseconds(int(now * 1e6))
                state.exitCode = 0 if phase == "Succeeded" else 1

        meta = pod.metadata
        at_once(self.resources.mutate("Pod", meta.namespace, meta.name, change, status=True, uid=meta.uid))

    def crash(self, pod: core_pb2.Pod) -> None:
        """The container ends and waits to be started again."""

        def change(newest: core_pb2.Pod) -> None:
            restarts = sum(one.restartCount for one in newest.status.containerStatuses)
            del newest.status.containerStatuses[:]
            one = newest.status.containerStatuses.add(name="main", restartCount=restarts + 1)
            one.state.waiting.reason = "CrashLoopBackOff"

        self.report(pod, "Running")
        meta = pod.metadata
        at_once(self.resources.mutate("Pod", meta.namespace, meta.name, change, status=True, uid=meta.uid))

    def stop(self, pod: core_pb2.Pod) -> None:
        """The pod's node has ended what it was told to end."""
        if pod.status.phase not in FINISHED:
            self.report(pod, "Failed")
        at_once(self.resources.finish_pod(pod.metadata.namespace, pod.metadata.name, pod.metadata.uid))

    def lose(self, pod: core_pb2.Pod) -> None:
        """Somebody deletes the pod without grace."""
        try:
            at_once(self.resources.delete("Pod", pod.metadata.namespace, pod.metadata.name, grace_seconds=0))
        except NotFound:
            return

    def nodes_work(self, *, wrong: float) -> bool:
        """One thing that some node or the scheduler does; False: they have nothing to do.

        `wrong` of these things go wrong: a pod is not ready, or ends.
        """
        alive = {found.metadata.name for found in self.alive()}
        ready_nodes = {found.metadata.name for found in self.store.list("Node") if is_ready_node(found)}
        for name in sorted(alive - ready_nodes):
            self._report(name)
            return True
        pods = self.pods()
        self.dice.shuffle(pods)
        for pod in pods:
            name, phase = pod.spec.nodeName, pod.status.phase
            if not name:
                if not is_terminating(pod) and self.place(pod):
                    return True
            elif name not in alive:
                continue
            elif is_terminating(pod):
                if phase not in FINISHED or pod.metadata.deletionGracePeriodSeconds:
                    self.stop(pod)
                    return True
            elif phase not in FINISHED and is_broken(pod):
                if is_ready(pod):
                    self.crash(pod)
                elif restarts_of(pod) < RESTARTS:
                    self.report(pod, "Running", ready=True)
                else:
                    continue
                return True
            elif phase not in FINISHED and (phase != "Running" or not is_ready(pod) or self._ends(pod)):
                self._go_on(pod, wrong)
                return True
        return False

    def _ends(self, pod: core_pb2.Pod) -> bool:
        return bool(pod.spec.restartPolicy == "Never")

    def _go_on(self, pod: core_pb2.Pod, wrong: float) -> None:
        bad = self.dice.random() < wrong
        if pod.status.phase == "Running" and self._ends(pod):
            self.report(pod, "Failed" if bad else "Succeeded")
        elif bad:
            self.report(pod, self.dice.choice(["Running", "Failed"]))
        else:
            self.report(pod, "Running", ready=True)


def is_broken(pod: core_pb2.Pod) -> bool:
    """Whether its image is one that crashes a moment after each start."""
    return bool(pod.spec.containers[0].image == BROKEN)


def restarts_of(pod: core_pb2.Pod) -> int:
    return sum(one.restartCount for one in pod.status.containerStatuses)


def is_ready_node(found: core_pb2.Node) -> bool:
    ready = condition(found.status, "Ready")
    return ready is not None and ready.status == "True"
