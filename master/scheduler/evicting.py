"""Writes what the scheduler decided about pods: why one waits, which ones go for it; and reads disruption budgets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import structlog

from common.errors import BadRequest, Conflict, NotFound, SampanError
from common.selectors import from_message
from master.api.changing import Changing
from master.api.conditions import set_condition
from master.scheduler.preempt import Budget, Preemption, Victim
from master.scheduler.requests import Wanted
from master.store.store import Store
from protos import core_pb2

log = structlog.get_logger()

COMPONENT = "default-scheduler"


class Binder(Changing, Protocol):
    """What is needed of master/api/resources.py; see there."""

    async def bind(self, namespace: str, name: str, uid: str, node_name: str) -> bool: ...

    async def delete(self, kind: str, namespace: str, name: str, *, uid: str = "") -> Any: ...


class Writer:
    """`clock` is Unix time. What the store does not take is logged: the next pass decides anew."""

    def __init__(self, store: Store, resources: Binder, clock: Callable[[], float]) -> None:
        self._store = store
        self._resources = resources
        self._clock = clock

    def budgets(self) -> list[Budget]:
        """What may be disturbed now, as the disruption controller last counted it."""
        found = []
        for pdb in self._store.list("PodDisruptionBudget"):
            if not pdb.spec.HasField("selector"):
                continue
            try:
                selector = from_message(pdb.spec.selector)
            except BadRequest:
                continue
            found.append(Budget(pdb.metadata.namespace, selector, pdb.status.disruptionsAllowed))
        return found

    async def unschedulable(self, pod: Wanted, text: str) -> bool:
        """Stores why the pod waits, and for which node; False when the store did not take it."""
        now = self._clock()

        def change(newest: core_pb2.Pod) -> None:
            if newest.spec.nodeName:
                return
            newest.status.nominatedNodeName = pod.nominated
            set_condition(
                newest.status.conditions, "PodScheduled", "False", reason="Unschedulable", message=text, now=now
            )

        if not await self._write(pod, change):
            return False
        await self.record(pod, "Warning", "FailedScheduling", text.partition("\n")[0])
        return True

    async def evict(self, preemption: Preemption) -> None:
        """Nominates the pod for its node and asks the victims to go, with their grace and their drain."""
        pod, node = preemption.pod, preemption.node

        def nominate(newest: core_pb2.Pod) -> None:
            if not newest.spec.nodeName:
                newest.status.nominatedNodeName = node

        await self._write(pod, nominate)
        for victim in preemption.victims:
            await self._evict(pod, node, victim)

    async def _evict(self, pod: Wanted, node: str, victim: Victim) -> None:
        held, now = victim.held, self._clock()
        by = f"{pod.namespace}/{pod.name} (priority {pod.request.priority})"

        def mark(newest: core_pb2.Pod) -> None:
            text = f"Preempted by {by} on node {node}"
            reason = "PreemptionByScheduler"
            set_condition(newest.status.conditions, "DisruptionTarget", "True", reason=reason, message=text, now=now)

        them = Wanted(held.namespace, held.name, victim.uid, held.request)
        await self._write(them, mark)
        try:
            await self._resources.delete("Pod", held.namespace, held.name, uid=victim.uid)
        except (NotFound, Conflict):
            return
        except SampanError as error:
            log.warning("scheduler.evict_failed", pod=f"{held.namespace}/{held.name}", cause=str(error))
            return
        await self.record(them, "Normal", "Preempted", f"Preempted by {by} on node {node}")
        text = f"Preempted {held.namespace}/{held.name} (priority {held.request.priority}) on node {node} to make room"
        await self.record(pod, "Normal", "Preempted", text)

    async def _write(self, pod: Wanted, change: Callable[[Any], None]) -> bool:
        try:
            await self._resources.mutate("Pod", pod.namespace, pod.name, change, status=True, uid=pod.uid)
        except SampanError as error:
            log.info("scheduler.write_failed", pod=f"{pod.namespace}/{pod.name}", cause=str(error))
            return False
        return True

    async def record(self, pod: Wanted, type: str, reason: str, message: str) -> None:
        about = core_pb2.ObjectReference(
            kind="Pod", apiVersion="v1", namespace=pod.namespace, name=pod.name, uid=pod.uid
        )
        try:
            await self._resources.record(about, type, reason, message, COMPONENT)
        except SampanError as error:
            log.info("scheduler.event_lost", pod=f"{pod.namespace}/{pod.name}", reason=reason, cause=str(error))
