"""The rows of Jobs, and of pods that a Job held which is there no more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from master.controllers import job
from master.controllers.index import selector_of
from master.controllers.job import KIND
from master.controllers.job_counts import is_tracked
from master.controllers.plan import NOTHING, Plan
from master.controllers.pods import controller_of
from master.controllers.rows.row import Moment, Row, View
from master.store import store
from master.store.store import Key


class JobRows:
    """One key a Job; and one a pod that carries the finalizer of Jobs."""

    def __init__(self, view: View) -> None:
        self._view = view

    def rows(self) -> tuple[Row, ...]:
        return (
            Row("jobs", self._dirty_jobs, self._view.keys_of(KIND), self._job),
            Row("job-orphans", self._dirty_orphans, self._tracked, self._orphan),
        )

    def _dirty_jobs(self, change: store.Change) -> Iterator[Key]:
        kind = change.kind
        if kind == KIND:
            yield change.key
        elif kind == "Pod" and self._view.store.count(KIND):
            yield from self._view.owners(change, KIND)

    def _job(self, key: Key, moment: Moment) -> Plan:
        found = self._view.get(*key)
        if found is None or self._view.emptying(key[1]):
            return NOTHING
        return job.reconcile(found, self._view.candidates(found, selector_of(found)), moment.now)

    def _dirty_orphans(self, change: store.Change) -> Iterator[Key]:
        if change.kind == "Pod":
            if change.type != "DELETED" and is_tracked(change.obj) and self._keeper(change.obj) is None:
                yield change.key
        elif change.kind == KIND and change.type == "DELETED":
            yield from self._view.dependents(change.obj.metadata.uid, "Pod")
        elif change.kind == "Namespace":
            yield from (key for key in self._tracked() if key[1] == change.key[2])

    def _tracked(self) -> list[Key]:
        return sorted(self._view.index.tracked.get(""))

    def _orphan(self, key: Key, moment: Moment) -> Plan:
        pod = self._view.get(*key)
        return NOTHING if pod is None else job.reconcile_orphan(pod, self._keeper(pod))

    def _keeper(self, pod: Any) -> Any | None:
        """The Job that counts this pod: none in a namespace that is going, where nothing is counted any more."""
        owner, namespace = controller_of(pod), pod.metadata.namespace
        if owner is None or owner.kind != KIND or self._view.emptying(namespace):
            return None
        found = self._view.get(KIND, namespace, owner.name)
        return found if found is not None and found.metadata.uid == owner.uid else None
