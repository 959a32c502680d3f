"""Turns the store's changes into what one watcher with selectors must see; pure."""

from __future__ import annotations

from typing import Any

from common.kinds import Kind
from master.api.fields import Filter
from master.api.objects import pack
from master.store.store import Change, clone
from protos import control_pb2

Event = control_pb2.WatchEvent


class View:
    """The objects of a kind that a watcher asked for. Raises BadRequest for a bad selector."""

    def __init__(self, kind: Kind, namespace: str = "", label_selector: str = "", field_selector: str = "") -> None:
        self._namespace = namespace if kind.namespaced else ""
        self._filter = Filter(kind, label_selector, field_selector)

    def holds(self, obj: Any | None) -> bool:
        if obj is None or (self._namespace and obj.metadata.namespace != self._namespace):
            return False
        return self._filter.matches(obj)

    def event(self, change: Change) -> control_pb2.WatchEvent | None:
        """What the watcher is told: an object that begins to match is ADDED, one that ceases to is DELETED."""
        revision = str(change.revision)
        if change.type == "DELETED":
            return _event(Event.DELETED, change.obj, revision) if self.holds(change.obj) else None
        now = self.holds(change.obj)
        # History read back from disk may lack the state before: then whoever resumes has most likely seen it.
        before = self.holds(change.old) if change.old is not None else change.type == "MODIFIED" and now
        if now:
            return _event(Event.MODIFIED if before else Event.ADDED, change.obj, revision)
        if not before:
            return None
        last = clone(change.old)
        last.metadata.resourceVersion = revision
        return _event(Event.DELETED, last, revision)


def added(obj: Any) -> control_pb2.WatchEvent:
    """An object that was there when the watch began."""
    return _event(Event.ADDED, obj, obj.metadata.resourceVersion)


def bookmark(revision: int) -> control_pb2.WatchEvent:
    """Everything up to this revision has been sent."""
    return Event(type=Event.BOOKMARK, resource_version=str(revision))


def _event(type: Any, obj: Any, revision: str) -> control_pb2.WatchEvent:
    return Event(type=type, object=pack(obj), resource_version=revision)
