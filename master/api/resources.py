"""The one resource layer: everything the master stores is created, changed and deleted through it.

Kubernetes' semantics: defaults, validation, compare-and-swap, generations, grace, propagation. Knows neither gRPC
nor who is asking.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid as uuids
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from common import kinds, names
from common.errors import (
    AlreadyExists,
    BadRequest,
    Conflict,
    Fault,
    Forbidden,
    Invalid,
    NotFound,
)
from common.kinds import NAMESPACE, NODE, POD, PRIORITY_CLASS, SERVICE, Kind
from master.api import deletion
from master.api.admission import admit, system_classes
from master.api.allocation import ServiceRange, allocate
from master.api.conditions import set_condition
from master.api.defaults import apply_defaults
from master.api.defaults.pod import add_tolerations
from master.api.defaults.service import carry_over
from master.api.events import Recorder
from master.api.fields import Filter
from master.api.serverfields import check_size, clear_server_fields, keep_server_fields
from master.api.times import stamp
from master.api.validation import check, subject, validate
from master.store.store import ABSENT, Put, Remove, Store, clone, revision_of
from protos import core_pb2

TOLERATION_SECONDS = 10
# Compare-and-swap of the master's own parts: so often, with growing pauses (about 2 s in all).
ATTEMPTS = 50


@dataclass(frozen=True)
class Deleted:
    """`gone` is False while the object is still going; `obj` is how it is, or last was."""

    obj: Any
    gone: bool


class Resources:
    """See the module. `clock` gives seconds since the epoch; `toleration_seconds` is the default time a pod stays
    bound to a node that is not ready."""

    def __init__(
        self,
        store: Store,
        *,
        service_cidr: str = "10.96.0.0/16",
        toleration_seconds: int = TOLERATION_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self.clock = clock
        self._addresses = ServiceRange(service_cidr)
        self._toleration_seconds = toleration_seconds
        self._recorder = Recorder(store, clock)
        # Two services made at once must not be given the same address: one at a time, until it is stored.
        self._allocating = asyncio.Lock()

    async def ensure_builtin(self) -> None:
        """Makes the namespaces and priority classes every cluster has."""
        for name in deletion.BUILT_IN:
            if self.store.get("Namespace", "", name) is None:
                with contextlib.suppress(AlreadyExists):
                    await self.create(core_pb2.Namespace(metadata=core_pb2.ObjectMeta(name=name)))
        for found in system_classes():
            if self.store.get(PRIORITY_CLASS.kind, "", found.metadata.name) is None:
                with contextlib.suppress(AlreadyExists):
                    await self.create(found)

    # -- reads --------------------------------------------------------------------------------

    def get(self, kind: str, namespace: str, name: str) -> Any:
        """The stored object: shared, never change it. Raises NotFound, and BadRequest for an unknown kind."""
        known = kinds.by_kind(kind)
        found = self.store.get(known.kind, namespace if known.namespaced else "", name)
        if found is None:
            where = f" in namespace {namespace}" if known.namespaced else ""
            raise NotFound(f'{known.resource} "{name}" not found{where}')
        return found

    def list(
        self, kind: str, namespace: str | None = None, label_selector: str = "", field_selector: str = ""
    ) -> list[Any]:
        """Objects sorted by namespace and name; None or "" means all namespaces. Raises BadRequest."""
        known = kinds.by_kind(kind)
        objects = self.store.list(known.kind, namespace if namespace and known.namespaced else None)
        wanted = Filter(known, label_selector, field_selector)
        return [obj for obj in objects if wanted.matches(obj)] if wanted else objects

    # -- create -------------------------------------------------------------------------------

    async def create(self, obj: Any, *, dry_run: bool = False) -> Any:
        """Stores a new object and returns it as stored.

        Raises Invalid (all faults), AlreadyExists, NotFound (no such namespace), Forbidden (the namespace is
        terminating), TooLarge.
        """
        kind, new = kinds.of(obj), clone(obj)
        clear_server_fields(new, kind)
        apply_defaults(new)
        if kind is POD:
            add_tolerations(new.spec, self._toleration_seconds)
        new.metadata.uid = str(uuids.uuid4())
        new.metadata.creationTimestamp.CopyFrom(stamp(self.clock()))
        if "spec" in new.DESCRIPTOR.fields_by_name:
            new.metadata.generation = 1
        faults = admit(new, self.store)
        check_size(new)
        faults = (*faults, *validate(new))
        generated = not new.metadata.name
        if generated:
            new.metadata.name = names.generate_name(new.metadata.generateName)
            apply_defaults(new)
            admit(new, self.store)
        async with self._allocation(new, faults):
            self._check_namespace(new, kind)
            if dry_run:
                if self.store.get(kind.kind, new.metadata.namespace, new.metadata.name) is not None:
                    raise AlreadyExists(f'{kind.resource} "{new.metadata.name}" already exists')
                return new
            while True:
                try:
                    made = (await self.store.commit(Put(new, ABSENT)))[0]
                except AlreadyExists:
                    if not generated:
                        raise
                    new.metadata.name = names.generate_name(new.metadata.generateName)
                    admit(new, self.store)
                else:
                    await self._stay_with_namespace(made, kind)
                    return made

    @contextlib.asynccontextmanager
    async def _allocation(self, new: Any, faults: tuple[Fault, ...]) -> AsyncIterator[None]:
        """Gives a service its addresses and keeps others out until it is stored; raises all faults as one Invalid."""
        if isinstance(new, core_pb2.Service):
            async with self._allocating:
                key = (new.metadata.namespace, new.metadata.name)
                others = [
                    other
                    for other in self.store.list(SERVICE.kind)
                    if (other.metadata.namespace, other.metadata.name) != key
                ]
                faults = (*faults, *allocate(new, others, self._addresses))
                if faults:
                    raise Invalid(subject(new), faults)
                yield
            return
        if faults:
            raise Invalid(subject(new), faults)
        yield

    def _check_namespace(self, obj: Any, kind: Kind) -> None:
        if not kind.namespaced:
            return
        name = obj.metadata.namespace
        home = self.store.get(NAMESPACE.kind, "", name)
        if home is None:
            raise NotFound(f'namespace "{name}" not found: create it first (kind: Namespace)')
        if home.metadata.HasField("deletionTimestamp"):
            raise Forbidden(
                f"{subject(obj)} can't be created: namespace {name} is being deleted; "
                "wait until it is gone and create it anew"
            )

    async def _stay_with_namespace(self, made: Any, kind: Kind) -> None:
        """An object and the end of its namespace can reach the disk together: then the object must go, too."""
        home = made.metadata.namespace
        if not kind.namespaced or self.store.get(NAMESPACE.kind, "", home) is not None:
            return
        with contextlib.suppress(NotFound, Conflict):
            await self.store.commit(Remove(kind.kind, home, made.metadata.name, revision_of(made)))
        raise Forbidden(f"{subject(made)} can't be created: namespace {home} was deleted at the same moment")

    # -- change -------------------------------------------------------------------------------

    async def update(self, obj: Any, *, force: bool = False, dry_run: bool = False) -> Any:
        """Replaces spec, data and metadata; status and what the server sets stay. An equal object writes nothing.

        Raises Conflict when metadata.resourceVersion is stale, BadRequest when it is empty (unless `force`), and as
        `create` does.
        """
        kind = kinds.of(obj)
        for attempt in range(ATTEMPTS):
            old = self._old(obj, kind, force)
            new = clone(obj)
            keep_server_fields(new, old, kind)
            try:
                return await self._replace(new, old, kind, dry_run)
            except Conflict:
                if not force:
                    raise
                await pause(attempt)
        raise Conflict(f"{subject(obj)} is being changed by many at once: try again")

    def _old(self, obj: Any, kind: Kind, force: bool) -> Any:
        meta = obj.metadata
        old = self.get(kind.kind, meta.namespace or ("default" if kind.namespaced else ""), meta.name)
        if meta.uid and meta.uid != old.metadata.uid:
            raise Conflict(f"{subject(obj)} was deleted and made anew since it was read (uid {old.metadata.uid} now)")
        if force:
            return old
        if not meta.resourceVersion:
            raise BadRequest(
                f"{subject(obj)}: metadata.resourceVersion must be the one that was read "
                f"(now {old.metadata.resourceVersion}); or force the update"
            )
        if meta.resourceVersion != old.metadata.resourceVersion:
            raise Conflict(
                f"{subject(obj)} has been changed since revision {meta.resourceVersion} "
                f"(now {old.metadata.resourceVersion}); read it again and apply the change to that"
            )
        return old

    async def _replace(self, new: Any, old: Any, kind: Kind, dry_run: bool = False) -> Any:
        """Defaults, checks and stores a changed copy of `old`, whose status the caller has settled."""
        if isinstance(new, core_pb2.Service):
            new.spec.type = new.spec.type or "ClusterIP"
            carry_over(new, old)
        apply_defaults(new)
        if kind is POD:
            add_tolerations(new.spec, self._toleration_seconds)
            new.status.qosClass = old.status.qosClass
        faults = admit(new, self.store, old)
        if new == old:
            return old
        check_size(new)
        async with self._allocation(new, (*faults, *validate(new, old))):
            if new == old:
                return old
            if "spec" in new.DESCRIPTOR.fields_by_name and new.spec != old.spec:
                new.metadata.generation = old.metadata.generation + 1
            if dry_run:
                return new
            revision = revision_of(old)
            if deletion.finished(new, kind):
                meta = old.metadata
                return (await self.store.commit(Remove(kind.kind, meta.namespace, meta.name, revision)))[0]
            return (await self.store.commit(Put(new, revision)))[0]

    async def update_status(self, obj: Any, *, force: bool = False, dry_run: bool = False) -> Any:
        """Replaces only the status; an equal one writes nothing. Raises as `update` does."""
        kind = kinds.of(obj)
        if not kind.has_status:
            raise BadRequest(f"{kind.plural} have no status: update the object itself")
        for attempt in range(ATTEMPTS):
            old = self._old(obj, kind, force)
            try:
                return await self._replace_status(obj.status, old, kind, dry_run)
            except Conflict:
                if not force:
                    raise
                await pause(attempt)
        raise Conflict(f"{subject(obj)} is being changed by many at once: try again")

    async def _replace_status(self, status: Any, old: Any, kind: Kind, dry_run: bool = False) -> Any:
        new = clone(old)
        new.status.CopyFrom(status)
        if new == old:
            return old
        check_size(new)
        if kind is NODE:
            check(new, old)
        if dry_run:
            return new
        return (await self.store.commit(Put(new, revision_of(old))))[0]

    async def mutate(
        self,
        kind: str,
        namespace: str,
        name: str,
        change: Callable[[Any], None],
        *,
        status: bool = False,
        uid: str = "",
    ) -> Any | None:
        """Reads, changes a copy, writes, again when somebody was faster. None when the object is gone or another.

        `change` may run several times. With `status` only the status is taken from the copy, else all but it.
        Raises Invalid when the result breaks rules.
        """
        known = kinds.by_kind(kind)
        for attempt in range(ATTEMPTS):
            old = self.store.get(kind, namespace if known.namespaced else "", name)
            if old is None or (uid and old.metadata.uid != uid):
                return None
            new = clone(old)
            change(new)
            try:
                if status:
                    return await self._replace_status(new.status, old, known)
                keep_server_fields(new, old, known)
                return await self._replace(new, old, known)
            except Conflict:
                await pause(attempt)
            except NotFound:
                return None
        raise Conflict(f'{known.resource} "{name}" is being changed by many at once: try again')

    # -- delete -------------------------------------------------------------------------------

    async def delete(
        self,
        kind: str,
        namespace: str,
        name: str,
        *,
        grace_seconds: int | None = None,
        propagation: str = deletion.BACKGROUND,
        uid: str = "",
        dry_run: bool = False,
    ) -> Deleted:
        """Removes an object, or marks it as going: a pod on a node, a namespace, one with finalizers.

        Raises NotFound, Conflict when its uid is another, BadRequest, Forbidden for the built-in namespaces.
        """
        known = kinds.by_kind(kind)
        policy = deletion.check_request(known, name, propagation)
        for attempt in range(ATTEMPTS):
            old = self.get(kind, namespace, name)
            if uid and old.metadata.uid != uid:
                raise Conflict(f'{known.resource} "{name}" has uid {old.metadata.uid}, not {uid}: nothing was deleted')
            plan = deletion.plan_delete(
                old,
                known,
                grace_seconds=grace_seconds,
                policy=policy,
                dependents=self._dependents(old) if policy != deletion.BACKGROUND else (),
                now=self.clock(),
            )
            try:
                return await self._carry_out(plan, old, known, dry_run)
            except Conflict:
                await pause(attempt)
        raise Conflict(f'{known.resource} "{name}" is being changed by many at once: try again')

    async def _carry_out(self, plan: deletion.Going | deletion.Gone, old: Any, kind: Kind, dry_run: bool) -> Deleted:
        gone = isinstance(plan, deletion.Gone)
        if dry_run:
            return Deleted(plan.obj if isinstance(plan, deletion.Going) else old, gone)
        meta, revision = old.metadata, revision_of(old)
        if isinstance(plan, deletion.Going):
            if plan.obj == old:
                return Deleted(old, False)
            return Deleted((await self.store.commit(Put(plan.obj, revision)))[0], False)
        orphans = [Put(orphan, revision_of(orphan)) for orphan in plan.orphans]
        removal = Remove(kind.kind, meta.namespace, meta.name, revision)
        return Deleted((await self.store.commit(*orphans, removal))[-1], True)

    def _dependents(self, owner: Any) -> Sequence[Any]:
        """Objects that name this one as owner: of its namespace, or anywhere for one outside namespaces."""
        uid, home = owner.metadata.uid, owner.metadata.namespace or None
        return [
            obj
            for kind in kinds.KINDS
            for obj in self.store.list(kind.kind, home if kind.namespaced else None)
            if any(reference.uid == uid for reference in obj.metadata.ownerReferences)
        ]

    # -- pods and events ----------------------------------------------------------------------

    async def bind(self, namespace: str, name: str, uid: str, node_name: str) -> bool:
        """Places a pod. False when it is gone, going, another one, or placed already elsewhere."""
        for attempt in range(ATTEMPTS):
            old = self.store.get(POD.kind, namespace, name)
            if old is None or old.metadata.uid != uid or old.metadata.HasField("deletionTimestamp"):
                return False
            if old.spec.nodeName:
                return bool(old.spec.nodeName == node_name)
            new = clone(old)
            new.spec.nodeName = node_name
            set_condition(new.status.conditions, "PodScheduled", "True", now=self.clock())
            try:
                await self.store.commit(Put(new, revision_of(old)))
            except Conflict:
                await pause(attempt)
            except NotFound:
                return False
            else:
                return True
        return False

    async def finish_pod(self, namespace: str, name: str, uid: str) -> None:
        """Removes a pod that its node says is gone; nothing happens when it was removed or made anew already."""
        if not self._is(namespace, name, uid):
            return
        try:
            await self.delete(POD.kind, namespace, name, grace_seconds=0, uid=uid)
        except (NotFound, Conflict):
            if self._is(namespace, name, uid):
                raise

    def _is(self, namespace: str, name: str, uid: str) -> bool:
        pod = self.store.get(POD.kind, namespace, name)
        return pod is not None and pod.metadata.uid == uid

    async def record(self, involved: Any, type: str, reason: str, message: str, component: str, host: str = "") -> None:
        """An Event about an object (or ObjectReference): counted when it repeats, bounded per namespace."""
        await self._recorder.record(involved, type, reason, message, component, host)

    async def prune_events(self, now: float) -> int:
        """Drops events older than an hour; returns how many."""
        return await self._recorder.prune(now)


async def pause(attempt: int) -> None:
    """Lets the write that won reach the disk."""
    await asyncio.sleep(min(0.05, 0.001 * 2**attempt))
