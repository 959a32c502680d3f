"""Events about objects: repeated ones are counted, old ones dropped, and no namespace is flooded."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from typing import Any

import structlog

from common import kinds
from common.errors import AlreadyExists, Conflict, NotFound
from common.kinds import EVENT
from master.api.times import stamp
from master.store.store import ABSENT, Put, Remove, Store, clone, revision_of
from protos import core_pb2

KEEP_SECONDS = 3600
KEEP_PER_NAMESPACE = 1000
# Sorting a namespace's events on every new one would be wasteful; this far beyond the bound is fine.
_CHECK_EVERY = 100
_LONGEST_MESSAGE = 1024

log = structlog.get_logger()


def reference(obj: Any) -> core_pb2.ObjectReference:
    """What an event says it is about."""
    if isinstance(obj, core_pb2.ObjectReference):
        return obj
    kind = kinds.of(obj)
    meta = obj.metadata
    return core_pb2.ObjectReference(
        kind=kind.kind,
        apiVersion=kind.api_version,
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        resourceVersion=meta.resourceVersion,
    )


def event_name(involved: core_pb2.ObjectReference, *what: str) -> str:
    """The same for the same object and words, so that a repetition is found without a search."""
    digest = hashlib.sha256("\0".join((involved.kind, involved.uid, involved.fieldPath, *what)).encode()).hexdigest()
    return f"{involved.name[:200] or 'unknown'}.{digest[:16]}"


class Recorder:
    """Writes events; `clock` gives seconds since the epoch."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._new: dict[str, int] = {}

    async def record(self, involved: Any, type: str, reason: str, message: str, component: str, host: str = "") -> None:
        """Counts up the same event of the last hour, or makes one. What a namespace that is going has to say is lost.

        `involved` is an object or an ObjectReference. Raises Unavailable when the store does.
        """
        about = reference(involved)
        namespace = about.namespace or "default"
        message = message if len(message) <= _LONGEST_MESSAGE else message[: _LONGEST_MESSAGE - 3] + "..."
        name = event_name(about, type, reason, message, component, host)
        home = self._store.get("Namespace", "", namespace)
        if home is None or home.metadata.HasField("deletionTimestamp"):
            return
        for _ in range(3):
            now = self._clock()
            old = self._store.get("Event", namespace, name)
            fresh = old is not None and now - old.lastTimestamp.seconds < KEEP_SECONDS
            if fresh:
                event = clone(old)
                event.count += 1
                event.lastTimestamp.CopyFrom(stamp(now))
            else:
                event = _new_event(about, namespace, name, type, reason, message, component, host, now)
            try:
                await self._store.commit(Put(event, revision_of(old) if old is not None else ABSENT))
            except (Conflict, AlreadyExists, NotFound):
                continue
            if old is None:
                await self._bound(namespace)
            return
        log.info("event.dropped", reason=reason, namespace=namespace, name=name, cause="written by many at once")

    async def _bound(self, namespace: str) -> None:
        self._new[namespace] = self._new.get(namespace, 0) + 1
        if self._new[namespace] >= _CHECK_EVERY:
            self._new[namespace] = 0
            await self._drop(_overflow(self._store.list("Event", namespace)))

    async def prune(self, now: float) -> int:
        """Drops events older than an hour and those beyond the bound of their namespace; returns how many."""
        spaces: dict[str, list[Any]] = {}
        for event in self._store.list("Event"):
            spaces.setdefault(event.metadata.namespace, []).append(event)
        # Namespaces come and go.
        self._new = {namespace: count for namespace, count in self._new.items() if namespace in spaces}
        doomed = []
        for events in spaces.values():
            old = [event for event in events if now - last_seen(event) >= KEEP_SECONDS]
            gone = {event.metadata.name for event in old}
            doomed += old + _overflow([event for event in events if event.metadata.name not in gone])
        await self._drop(doomed)
        return len(doomed)

    async def _drop(self, events: list[Any]) -> None:
        for start in range(0, len(events), 500):
            metas = [event.metadata for event in events[start : start + 500]]
            writes = [Remove(EVENT.kind, meta.namespace, meta.name) for meta in metas]
            try:
                await self._store.commit(*writes)
            except NotFound:
                # Somebody else dropped one of them; the next round takes the rest.
                return


def last_seen(event: core_pb2.Event) -> float:
    """When it last happened, seconds since the epoch."""
    return max(
        event.lastTimestamp.seconds,
        event.eventTime.seconds,
        event.series.lastObservedTime.seconds,
        event.metadata.creationTimestamp.seconds,
    )


def _overflow(events: list[Any]) -> list[Any]:
    """The oldest of one namespace's events, beyond the bound."""
    if len(events) <= KEEP_PER_NAMESPACE:
        return []
    return sorted(events, key=last_seen)[: len(events) - KEEP_PER_NAMESPACE]


def _new_event(
    about: core_pb2.ObjectReference,
    namespace: str,
    name: str,
    type: str,
    reason: str,
    message: str,
    component: str,
    host: str,
    now: float,
) -> core_pb2.Event:
    event = core_pb2.Event(
        metadata=core_pb2.ObjectMeta(
            name=name, namespace=namespace, uid=str(uuid.uuid4()), creationTimestamp=stamp(now)
        ),
        involvedObject=about,
        reason=reason,
        message=message,
        source=core_pb2.EventSource(component=component, host=host),
        firstTimestamp=stamp(now),
        lastTimestamp=stamp(now),
        count=1,
        type=type,
        reportingComponent=component,
        reportingInstance=host,
    )
    return event
