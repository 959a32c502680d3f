"""Looks after the node: says when it is under pressure, removes images nobody uses, and evicts pods one at a time.

The decisions are in pressure.py, ranking.py and imagegc.py; the pods end in their own workers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import structlog

from common.errors import BadRequest, Conflict, NotFound, SampanError, Unavailable
from common.podstate import FAILED
from node_agent.care.imagegc import garbage, to_free
from node_agent.care.pressure import Met, Past, Reading, conditions, judge
from node_agent.care.pulled import PulledImages
from node_agent.care.ranking import Candidate, eviction_message, pod_request, ranked
from node_agent.care.readings import read_file, readings_of, replaced
from node_agent.care.settings import DISK_SIGNALS, IMAGE_DISK, MEMORY, CareSettings
from node_agent.care.sizes import tree_bytes
from node_agent.pods.model import EVICTED, Final
from node_agent.runtime.seam import Machine, Refused, Runtime, Seen, State
from protos.core_pb2 import NodeCondition, Pod

# As the kubelet waits for an evicted pod before it looks for another.
_GONE_SECONDS = 30.0
# Readings come every second or so: what an ended pod gave back shows in one of the next, not in the last.
_SETTLE_SECONDS = 3.0
# After a collection that found too little: nothing new is likely to turn up at once.
_COLLECT_AGAIN_SECONDS = 300.0
_RESOURCES = {True: "memory", False: "ephemeral-storage"}

log = structlog.get_logger(__name__)


class Charge(Protocol):
    """A pod of the node, as its worker has it."""

    @property
    def pod(self) -> Pod: ...
    @property
    def seen(self) -> Sequence[Seen]: ...
    @property
    def ending(self) -> bool:
        """It has ended, or is about to."""

    def evict(self, final: Final) -> None: ...


class NodeCare:
    """`charges` are the pods now. `note(type, reason, message)` sends an event about the node.

    `pod_note` sends one about a pod.
    """

    def __init__(
        self,
        runtime: Runtime,
        settings: CareSettings,
        images: PulledImages,
        charges: Callable[[], Iterable[Charge]],
        note: Callable[[str, str, str], None],
        pod_note: Callable[[Pod, str, str, str], None],
        data_dir: str,
        now: Callable[[], float],
    ) -> None:
        self._runtime, self._settings, self._images = runtime, settings, images
        self._charges, self._note, self._pod_note = charges, note, pod_note
        self._volumes, self._now = Path(data_dir) / "pods", now
        self._past = Past()
        self._due: tuple[Met, ...] = ()
        self._disk: Reading | None = None
        self._wake = asyncio.Event()
        # Who was evicted last, and until when it is waited for.
        self._leaving: tuple[Charge, float] | None = None
        self._settled = 0.0
        self._next_collection = 0.0
        self._drill_fault = ""

    async def look(self, machine: Machine) -> Sequence[NodeCondition]:
        """The pressure conditions after a new reading; what has to be done about them is begun."""
        readings = await self._drilled(readings_of(machine))
        verdict = judge(self._past, self._settings, readings, self._now())
        for kind in verdict.pressed.keys() - judge(self._past, self._settings, {}, self._now()).pressed.keys():
            log.warning("care.pressure", condition=kind, threshold=verdict.pressed[kind].signal)
        self._past, self._due, self._disk = verdict.past, verdict.due, readings.get(IMAGE_DISK)
        self._wake.set()
        return conditions(verdict.pressed)

    async def _drilled(self, readings: dict[str, Reading]) -> dict[str, Reading]:
        path = self._settings.readings_file
        if not path:
            return readings
        fault = ""
        try:
            readings = replaced(readings, await asyncio.to_thread(read_file, path))
        except (BadRequest, OSError) as error:
            fault = str(error)
        if fault and fault != self._drill_fault:
            log.error("care.readings_file", file=path, cause=fault)
        self._drill_fault = fault
        return readings

    async def run(self) -> None:
        """Until cancelled: acts on each reading."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._tend()
            except SampanError as error:
                log.warning("care.failed", error=str(error))
            except Exception:
                # The node's boundary: what goes wrong here must not end its pods' care.
                log.exception("care.failed")

    async def _tend(self) -> None:
        amount = to_free(self._disk, self._settings.image_high, self._settings.image_low) if self._disk else 0
        if self._images.all():
            self._images.used(await self._runtime.images_in_use())
        if amount and self._now() >= self._next_collection:
            freed = await self.collect(amount)
            self._next_collection = 0.0 if freed >= amount else self._now() + _COLLECT_AGAIN_SECONDS
            if freed < amount:
                self._note(
                    "Warning",
                    "FreeDiskSpaceFailed",
                    f"Failed to garbage collect required amount of images. Attempted to free {amount} bytes, but only "
                    f"found {freed} bytes eligible to free.",
                )
        if not self._due or self._waiting():
            return
        met = self._due[0]
        if met.threshold.signal in DISK_SIGNALS and await self.collect(None):
            # Perhaps that was enough: the next reading tells.
            return
        await self._evict(met)

    def _waiting(self) -> bool:
        """Whether the pod that was evicted last still has to go, or what it gave back has yet to be seen."""
        if self._leaving is None:
            return self._now() < self._settled
        charge, until = self._leaving
        if self._now() < until and any(one.state is State.RUNNING for one in charge.seen):
            return True
        self._leaving = None
        self._settled = self._now() + _SETTLE_SECONDS
        return True

    async def _evict(self, met: Met) -> None:
        resource = _RESOURCES[met.threshold.signal == MEMORY]
        self._note("Warning", "EvictionThresholdMet", f"Attempting to reclaim {met.resource}")
        charges = {one.pod.metadata.uid: one for one in self._charges() if not one.ending and one.seen}
        used = await asyncio.gather(*(self._used(one, met) for one in charges.values()))
        candidates = [
            Candidate(one.pod, amounts, pod_request(one.pod, resource))
            for one, amounts in zip(charges.values(), used, strict=True)
        ]
        order = [one for one in ranked(candidates) if not charges[one.pod.metadata.uid].ending]
        if not order:
            log.warning("care.nothing_to_evict", signal=met.threshold.signal, available=met.reading.available)
            return
        first = order[0]
        charge = charges[first.pod.metadata.uid]
        message = eviction_message(met, first)
        grace = 0 if met.threshold.hard else self._settings.max_pod_grace
        log.warning("care.evicts", pod=f"{first.pod.metadata.namespace}/{first.pod.metadata.name}", cause=message)
        self._pod_note(first.pod, "Warning", EVICTED, message)
        charge.evict(Final(FAILED, EVICTED, message, grace, discard=met.threshold.signal in DISK_SIGNALS))
        own = first.pod.spec.terminationGracePeriodSeconds
        self._leaving = (charge, self._now() + _GONE_SECONDS + (0 if met.threshold.hard else own))

    async def _used(self, charge: Charge, met: Met) -> dict[str, int]:
        """Bytes of the short resource by container; what is the whole pod's (its volumes) under an empty name."""
        memory = met.threshold.signal == MEMORY
        found: dict[str, int] = {}
        for one in charge.seen:
            if not one.name or (memory and one.state is not State.RUNNING):
                continue
            try:
                amount = (
                    (await self._runtime.usage(one.id)).memory if memory else await self._runtime.disk_usage(one.id)
                )
            except (NotFound, Conflict, Refused):
                # It ended meanwhile.
                continue
            found[one.name] = found.get(one.name, 0) + amount
        if not memory:
            found[""] = await asyncio.to_thread(tree_bytes, self._volumes / charge.pod.metadata.uid)
        return found

    async def collect(self, amount: int | None) -> int:
        """Removes images that are ours and unused, until `amount` bytes are free (None: all); the bytes freed.

        Bytes are what the engine says of each image; layers that two of them share count twice.
        """
        there = {one.id: one for one in await self._runtime.images()}
        await self._images.forget([one.id for one in self._images.all() if one.id not in there])
        doomed = garbage(
            self._images.all(),
            there,
            used=await self._runtime.images_in_use(),
            wanted=self._wanted(),
            now=self._now(),
            least_age=self._settings.image_least_age,
            amount=amount,
        )
        for one in doomed:
            for reference in one.references or (one.id,):
                try:
                    await self._runtime.remove_image(reference)
                except Unavailable:
                    raise
                except SampanError as error:
                    # Somebody began to use it just now, or the engine cannot: the next one may go.
                    self._note("Warning", "ImageGCFailed", f"removing image {reference}: {error}")
        if not doomed:
            return 0
        left = {one.id for one in await self._runtime.images()}
        gone = [one for one in doomed if one.id not in left]
        await self._images.forget(one.id for one in gone)
        for one in gone:
            log.info("care.image_removed", image=", ".join(one.references) or one.id, bytes=there[one.id].size)
        return sum(there[one.id].size for one in gone)

    def _wanted(self) -> set[str]:
        """Names of images that pods of this node ask for: between two attempts no container may show it."""
        names: set[str] = set()
        for charge in self._charges():
            if not charge.ending:
                names |= {c.image for c in (*charge.pod.spec.initContainers, *charge.pod.spec.containers)}
        return names
