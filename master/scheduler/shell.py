"""Runs the scheduler: keeps the cluster's arrays up from the store, binds batches, makes room, explains what waits.

A pass takes every pod that waits, so what did not fit before is tried again whenever a node or a pod changed, and
every few seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import structlog

from common.errors import Expired, NotFound, SampanError
from common.quantity import QuantityError
from common.tasks import apart
from master.controllers.nodes import NodeTable, Timeouts
from master.controllers.pods import FINISHED, is_terminating
from master.controllers.rows.row import nodes_serve
from master.scheduler import reasons
from master.scheduler.cluster import Cluster, Held
from master.scheduler.core import place
from master.scheduler.evicting import Binder, Writer
from master.scheduler.explain import NodeView, explain
from master.scheduler.preempt import Preemption, carry_out, is_awaited, may_preempt, preempt
from master.scheduler.requests import Request, Requests, Wanted, amount, group_of
from master.scheduler.rules import Crowd
from master.store.store import Change, Key, Store, Watch, key_of
from protos import core_pb2

log = structlog.get_logger()

Measures = Callable[[], Iterable[tuple[str, Mapping[str, str]]]]
"""Nodes' names with their measured use: quantities of cpu and memory."""

RETRY_SECONDS = 5.0
SILENT_RETRY_SECONDS = 0.5
GATHER_SECONDS = 0.002
"""Changes that come this close together make one batch: it costs a pod less than its write to disk."""
BATCH = 5000
REREAD_SECONDS = 10.0
STRIDE = 200
"""Objects read again before the loop gets its turn: a millisecond or two."""
WRITES_AT_ONCE = 1024
NAMED_AT_ONCE = 500
"""A larger batch is placed without an Event per pod: a namespace keeps only the last thousand anyway."""
SUMMARY_SECONDS, DETAIL_SECONDS = 1.0, 10.0
"""A pod's message is rewritten this often at most, when its summary changed, and when only the free room of some
node did: that changes with every other pod."""


MEASURE_SECONDS = 2.0
"""Nodes measure themselves every few seconds: reading it more often says nothing new."""
PREEMPT_SECONDS, FRUITLESS_SECONDS = 0.1, 2.0
"""Making room is dear: a pass spends so much time on it (the next one goes on), and for a pod for which there was
none to make it is tried again only after a while."""


def no_measures() -> Iterable[tuple[str, Mapping[str, str]]]:
    """For a master whose nodes measure nothing."""
    return ()


class Scheduler:
    """The shell around master/scheduler/core.py. `clock` is Unix time, `ticks` monotonic, the one of `nodes`."""

    def __init__(
        self,
        store: Store,
        resources: Binder,
        nodes: NodeTable,
        clock: Callable[[], float] = time.time,
        *,
        ticks: Callable[[], float] = time.monotonic,
        timeouts: Timeouts | None = None,
        retry_seconds: float = RETRY_SECONDS,
        measures: Measures = no_measures,
    ) -> None:
        self._store = store
        self._resources = resources
        self._writer = Writer(store, resources, clock)
        self._measures = measures
        self._measured_at = -MEASURE_SECONDS
        self._nodes = nodes
        self._ticks = ticks
        self._timeouts = timeouts or Timeouts()
        self._retry_seconds = retry_seconds
        self._cluster = Cluster()
        self._requests = Requests()
        self._waiting: dict[Key, Wanted] = {}
        self._tied: set[Key] = set()
        self._fruitless: dict[str, float] = {}
        self._explained: dict[str, tuple[str, float]] = {}
        self._wake = asyncio.Event()
        self._slots = asyncio.Semaphore(WRITES_AT_ONCE)

    def explain(self, namespace: str, name: str) -> list[NodeView]:
        """Every node's filters and scores for a pod as things are now. Raises NotFound."""
        pod = self._store.get("Pod", namespace, name)
        if pod is None:
            raise NotFound(f'pods "{name}" not found in namespace {namespace}')
        self._refresh_heartbeats()
        return explain(self._cluster, self._requests.wanted(pod))

    async def run(self) -> None:
        """Runs until cancelled, or until the store closes; starts over from the full state when it fell behind."""
        while True:
            objects, _, watch = self._store.snapshot_and_watch(("Namespace", "Node", "Pod"))
            self._reset(objects)
            try:
                await apart("scheduler/run", self._run(watch))
                return
            except* Expired as errors:
                log.info("scheduler.relist", cause=str(errors.exceptions[0]))
            finally:
                watch.close()

    async def _run(self, watch: Watch) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = (
                group.create_task(self._passes(group), name="scheduler/passes"),
                group.create_task(self._reread(), name="scheduler/reread"),
            )
            await self._follow(watch)
            for task in tasks:
                task.cancel()

    # -- following the store ------------------------------------------------------------------

    def _reset(self, objects: Sequence[Any]) -> None:
        self._cluster = Cluster()
        self._waiting.clear()
        self._tied.clear()
        self._fruitless.clear()
        for obj in objects:
            self._put(obj)
        # Who went while nobody looked took its explanation along.
        waiting = {pod.uid for pod in self._waiting.values()}
        self._explained = {uid: told for uid, told in self._explained.items() if uid in waiting}
        self._measured_at = -MEASURE_SECONDS
        self._wake.set()

    async def _follow(self, watch: Watch) -> None:
        while changes := await watch.batch():
            useful = [self._take_in(change) for change in changes]
            if any(useful):
                self._wake.set()

    def _take_in(self, change: Change) -> bool:
        """Applies a change; True when a pod that waits may be helped by it."""
        obj = change.obj
        if change.type != "DELETED":
            return self._put(obj)
        if isinstance(obj, core_pb2.Node):
            self._cluster.remove_node(obj.metadata.name)
            return True
        if isinstance(obj, core_pb2.Namespace):
            return self._cluster.census.set_namespace(obj.metadata.name, None)
        kept = obj.metadata.uid in self._cluster.nominees
        self._unwait(change.key, obj.metadata.uid)
        return self._cluster.release(obj.metadata.uid) or kept

    def _put(self, obj: Any) -> bool:
        if isinstance(obj, core_pb2.Node):
            self._cluster.put_node(obj, ready=nodes_serve(obj))
            return True
        if isinstance(obj, core_pb2.Namespace):
            news = self._cluster.census.set_namespace(obj.metadata.name, dict(obj.metadata.labels))
            return news and bool(self._tied)
        return self._put_pod(obj)

    def _put_pod(self, pod: core_pb2.Pod) -> bool:
        key, uid = key_of(pod), pod.metadata.uid
        if pod.status.phase in FINISHED:
            self._unwait(key, uid)
            return self._cluster.release(uid)
        leaving = is_terminating(pod)
        if pod.spec.nodeName:
            self._unwait(key, uid)
            meta = pod.metadata
            before = self._cluster.get(uid)
            # What a pod asks for does not change once it is placed: its spec, which has a node now, is not read again.
            same = before is not None and before.node == pod.spec.nodeName
            request = before.request if before is not None and same else self._requests.of(pod)
            group, crowd = group_of(pod), self._requests.crowd(pod)
            held = Held(meta.namespace, meta.name, pod.spec.nodeName, request, group, crowd, leaving)
            self._cluster.hold(uid, held)
            # Where a pod stands, what it is and that it is going matters to those that look for others.
            return bool(self._tied) and (before is None or before[2:] != held[2:])
        if leaving:
            self._unwait(key, uid)
            return self._cluster.release(uid)
        # A pod placed in this very moment: its binding is on the way.
        if self._cluster.holds(uid):
            return False
        wanted, known = self._requests.wanted(pod), self._waiting.get(key)
        if known is not None and known.uid == wanted.uid:
            # The nomination is this scheduler's own: what it wrote last may not be what it thinks now.
            wanted = wanted._replace(nominated=known.nominated)
        elif wanted.nominated:
            self._cluster.nominate(uid, wanted.nominated, wanted.request)
        if known == wanted:
            return False
        self._waiting[key] = wanted
        if wanted.request.tied:
            self._tied.add(key)
        return True

    def _unwait(self, key: Key, uid: str) -> None:
        """The pod no longer waits for a node."""
        self._waiting.pop(key, None)
        self._tied.discard(key)
        self._explained.pop(uid, None)
        self._fruitless.pop(uid, None)
        self._cluster.nominate(uid, "", NO_REQUEST)

    async def _reread(self) -> None:
        """Compares everything with the store now and then, so that nothing hangs on a change that was not seen."""
        pause = REREAD_SECONDS
        while True:
            await asyncio.sleep(pause)
            started = self._ticks()
            for kind in ("Namespace", "Node", "Pod"):
                for at, obj in enumerate(self._store.list(kind)):
                    newest = self._store.get(*key_of(obj))
                    if newest is not None and self._put(newest):
                        self._wake.set()
                    if at % STRIDE == STRIDE - 1:
                        await asyncio.sleep(0)
            for name in list(self._cluster.rows):
                if self._store.get("Node", "", name) is None:
                    self._cluster.remove_node(name)
            for at, (uid, held) in enumerate(self._cluster.held()):
                stored = self._store.get("Pod", held.namespace, held.name)
                if (stored is None or stored.metadata.uid != uid) and self._cluster.release(uid):
                    self._wake.set()
                if at % STRIDE == STRIDE - 1:
                    await asyncio.sleep(0)
            pause = max(REREAD_SECONDS, 20 * (self._ticks() - started))

    # -- passes -------------------------------------------------------------------------------

    async def _passes(self, group: asyncio.TaskGroup) -> None:
        pause = GATHER_SECONDS
        while True:
            try:
                async with asyncio.timeout(self._next_try()):
                    await self._wake.wait()
                await asyncio.sleep(pause)
            except TimeoutError:
                pass
            self._wake.clear()
            started = self._ticks()
            try:
                await self._pass(group)
            except Exception:
                # What one pass cannot digest must not stop placing for good.
                log.exception("scheduler.broken")
                await asyncio.sleep(1)
            # Many pods that fit nowhere must not keep the master busy at every change.
            pause = max(GATHER_SECONDS, self._ticks() - started)

    async def _pass(self, group: asyncio.TaskGroup) -> None:
        """Tries every pod that waits, by priority, oldest first; the loop gets its turn between the batches of a flood.

        Writes go on beside the next pass: what a placed pod takes is held already.
        """
        self._refresh_heartbeats()
        self._refresh_measures()
        pods = sorted(self._waiting.values(), key=lambda pod: -pod.request.priority)
        placed, spent = 0, 0.0
        for at in range(0, len(pods), BATCH):
            # Some may have gone while the loop had its turn.
            batch = [pod for pod in pods[at : at + BATCH] if self._waiting.get(_key(pod)) is pod]
            started = self._ticks()
            placement = place(self._cluster, batch)
            placed += len(placement.bound)
            for pod, node in placement.bound:
                del self._waiting[_key(pod)]
                self._tied.discard(_key(pod))
                quiet = len(placement.bound) > NAMED_AT_ONCE
                group.create_task(self._bind(pod, node, quiet=quiet), name=f"bind {pod.name}")
            if placement.bound:
                took = round(1000 * (self._ticks() - started), 1)
                log.info("scheduler.pass", result=placement.summary(), milliseconds=took)
            waiting, spent = self._make_room(placement.waiting, spent, group)
            for pod, text in self._explanations(waiting):
                group.create_task(self._explain(pod, text), name=f"explain {pod.name}")
            await asyncio.sleep(0)
        if placed and self._tied and len(pods) > BATCH:
            # One of a later batch may be what one of an earlier batch looks for.
            self._wake.set()

    def _make_room(self, pods: Sequence[Wanted], spent: float, group: asyncio.TaskGroup) -> tuple[list[Wanted], float]:
        """Preempts for pods that fit nowhere; returns them with their nominations, and the seconds spent on that."""
        found: list[Wanted] = []
        hopeless: set[tuple[Request, Crowd | None]] = set()
        now = self._ticks()
        budgets = None
        for pod in pods:
            kept = pod
            if pod.nominated and not is_awaited(self._cluster, pod):
                kept = self._nominate(pod, "")
            alike = (pod.request, self._spoken_of(pod))
            if (
                not kept.nominated
                and alike not in hopeless
                and may_preempt(self._cluster, pod)
                and now >= self._fruitless.get(pod.uid, 0.0)
            ):
                if spent >= PREEMPT_SECONDS:
                    self._wake.set()
                    found.append(kept)
                    continue
                budgets = self._writer.budgets() if budgets is None else budgets
                began = self._ticks()
                preemption = preempt(self._cluster, kept, budgets)
                spent += self._ticks() - began
                if preemption is None:
                    hopeless.add(alike)
                    self._fruitless[pod.uid] = now + FRUITLESS_SECONDS
                else:
                    log.info("scheduler.preempt", result=preemption.summary())
                    carry_out(self._cluster, preemption)
                    kept = self._nominate(kept, preemption.node)
                    for at in preemption.victims:
                        for one in budgets:
                            one.disturb(at.held)
                    group.create_task(self._evict(preemption), name=f"evict for {pod.name}")
            found.append(kept)
        return found, spent

    def _nominate(self, pod: Wanted, node: str) -> Wanted:
        changed = pod._replace(nominated=node)
        self._cluster.nominate(pod.uid, node, pod.request)
        self._waiting[_key(pod)] = changed
        return changed

    async def _evict(self, preemption: Preemption) -> None:
        async with self._slots:
            await self._writer.evict(preemption)

    def _refresh_measures(self) -> None:
        if self._ticks() - self._measured_at < MEASURE_SECONDS:
            return
        self._measured_at = self._ticks()
        used: dict[str, tuple[int, int]] = {}
        for name, quantities in self._measures():
            try:
                used[name] = amount("cpu", quantities["cpu"]), amount("memory", quantities["memory"])
            except (KeyError, QuantityError):
                continue
        self._cluster.measure(used)

    def _refresh_heartbeats(self) -> None:
        """A node has to be heard by this master before it gets pods: its stored Ready may be from before."""
        limit = self._timeouts.at_pace(self._nodes.heartbeat_period()).traffic
        now = self._ticks()
        for name in self._cluster.rows:
            last = self._nodes.last_heartbeat(name)
            self._cluster.set_fresh(name, last is not None and now - last < limit)

    def _next_try(self) -> float:
        """Seconds until the next pass though nothing changes: a heartbeat that comes back is no change."""
        silent = bool(self._waiting) and bool((self._cluster.ready & ~self._cluster.fresh).any())
        return min(self._retry_seconds, SILENT_RETRY_SECONDS) if silent else self._retry_seconds

    async def _bind(self, pod: Wanted, node: str, *, quiet: bool) -> None:
        async with self._slots:
            try:
                bound = await self._resources.bind(pod.namespace, pod.name, pod.uid, node)
            except SampanError as error:
                log.warning("scheduler.bind_failed", pod=f"{pod.namespace}/{pod.name}", node=node, cause=str(error))
                bound = False
            if not bound:
                self._undo(pod)
                return
            if not quiet:
                text = f"Successfully assigned {pod.namespace}/{pod.name} to {node}"
                await self._writer.record(pod, "Normal", "Scheduled", text)

    def _undo(self, pod: Wanted) -> None:
        """The pod is gone, going, placed by somebody else, or the store did not take it: look at it afresh."""
        self._cluster.release(pod.uid)
        stored = self._store.get("Pod", pod.namespace, pod.name)
        if stored is not None:
            self._put_pod(stored)
        # The pass after the next change, or the retry, comes back to it: no hot loop on a full disk.

    # -- explaining ---------------------------------------------------------------------------

    def _explanations(self, waiting: Sequence[Wanted]) -> list[tuple[Wanted, str]]:
        """Messages that are new or have changed; the same request of the same crowd has the same message."""
        texts: dict[tuple[Request, Crowd | None, str], str] = {}
        now = self._ticks()
        found = []
        for pod in waiting:
            alike = (pod.request, self._spoken_of(pod), pod.uid if pod.nominated else "")
            text = texts.get(alike)
            if text is None:
                text = texts[alike] = self._message(pod)
            before, at = self._explained.get(pod.uid, ("", -DETAIL_SECONDS))
            same_summary = text.partition("\n")[0] == before.partition("\n")[0]
            if text != before and now - at >= (DETAIL_SECONDS if same_summary else SUMMARY_SECONDS):
                self._explained[pod.uid] = (text, now)
                found.append((pod, text))
        return found

    def _spoken_of(self, pod: Wanted) -> Crowd | None:
        """Its crowd, where that matters to where it may go."""
        return pod.crowd if pod.request.tied or self._cluster.census.claims(pod.crowd) else None

    def _message(self, pod: Wanted) -> str:
        cluster = self._cluster
        promised = cluster.promised(pod.request.priority, pod.uid) if cluster.nominees else {}
        room = ""
        if pod.nominated:
            leaving = sum(held.leaving for _, held in cluster.on(pod.nominated))
            room = f"waits for {leaving} pods to leave {pod.nominated}"
        elif pod.uid in self._fruitless:
            room = "no node would have room without its pods of lower priority"
        return reasons.message(cluster, pod.request, crowd=pod.crowd, promised=promised, preemption=room)

    async def _explain(self, pod: Wanted, text: str) -> None:
        async with self._slots:
            if not await self._writer.unschedulable(pod, text):
                self._explained.pop(pod.uid, None)


NO_REQUEST = Request()


def _key(pod: Wanted) -> Key:
    return "Pod", pod.namespace, pod.name
