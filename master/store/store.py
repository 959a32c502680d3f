"""Objects in memory, changes in order: what the rest of the master reads, writes and watches.

Reads are synchronous and see only what is on disk. A write is checked against everything that is already on its way
to the disk, gets the next revision, and returns when its batch is durable. Knows nothing of SQL, gRPC or what an
object means beyond `metadata`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from google.protobuf.message import Message

from common import kinds
from common.errors import AlreadyExists, Conflict, Expired, NotFound, Unavailable

Key = tuple[str, str, str]
"""Kind ("Pod"), namespace ("" where the kind has none), name."""

ABSENT: Literal["absent"] = "absent"
"""Expectation of a write: the object must not exist."""

Expectation = int | Literal["absent"] | None
"""A revision the object must be at, ABSENT, or None for whatever is there."""

Type = Literal["ADDED", "MODIFIED", "DELETED"]

HISTORY_LIMIT = 20_000
"""Changes kept for watches that resume; a watch that is further behind has to list again."""


@dataclass(frozen=True)
class Put:
    """Create or replace one object."""

    obj: Any
    expect: Expectation = None


@dataclass(frozen=True)
class Remove:
    """Delete one object; removing what is not there raises NotFound."""

    kind: str
    namespace: str
    name: str
    expect: int | None = None


Write = Put | Remove


@dataclass(frozen=True)
class Change:
    """One change at one revision. On DELETED `obj` is the last state, at the deleting revision."""

    type: Type
    key: Key
    obj: Any
    old: Any
    revision: int

    @property
    def kind(self) -> str:
        return self.key[0]


@dataclass(frozen=True)
class Loaded:
    """What a backend holds when it is opened."""

    revision: int
    objects: Sequence[Any]
    history: Sequence[Change]


Objects = list[Any]
Changes = list[Change]


class Backend(Protocol):
    """Where changes become durable. SQLite today; etcd is meant to fit here."""

    def load(self) -> Loaded:
        """Everything that was acknowledged. Raises Unavailable with what to do when it can't be read."""

    async def append(self, changes: Sequence[Change], forget_before: int) -> None:
        """Makes changes durable, all or nothing, and drops history below a revision. Raises Unavailable."""

    async def backup(self, path: Path) -> None: ...

    async def replace(self, path: Path, revision: int) -> Loaded:
        """Takes over the content of a backup file, its history emptied, at `revision` at least."""

    async def close(self) -> None: ...


def key_of(obj: Message) -> Key:
    """The key of an object, by its message type and metadata."""
    kind = kinds.of(obj)
    meta = obj.metadata  # type: ignore[attr-defined]
    return kind.kind, (meta.namespace if kind.namespaced else ""), meta.name


def revision_of(obj: Any) -> int:
    """The revision an object was last written at; 0 for one that never was."""
    return int(obj.metadata.resourceVersion or 0)


def clone(obj: Any) -> Any:
    """A copy that may be changed."""
    copy = type(obj)()
    copy.CopyFrom(obj)
    return copy


class Store:
    """See the module. Every method must be called on the event loop that `start` ran on."""

    def __init__(self, backend: Backend, history_limit: int = HISTORY_LIMIT) -> None:
        self._backend = backend
        self._limit = history_limit
        self._objects: dict[str, dict[str, dict[str, Any]]] = {kind.kind: {} for kind in kinds.KINDS}
        self._staged: dict[Key, tuple[int, Any | None]] = {}
        self._history: list[Change] = []
        self._watches: set[Watch] = set()
        self._pending: list[tuple[list[Change], asyncio.Future[None]]] = []
        self._wake = asyncio.Event()
        self._disk = asyncio.Lock()
        self._restoring = False
        self._closed = False
        self.revision = 0
        self._next = 1

    # -- life ---------------------------------------------------------------------------------

    async def run(self, ready: asyncio.Event) -> None:
        """Loads, sets `ready`, then writes batches until cancelled; the owner runs it as a task."""
        self._load(await asyncio.to_thread(self._backend.load))
        ready.set()
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._pending:
                    async with self._disk:
                        await self._flush()
        finally:
            self._closed = True
            self._fail(self._pending, Unavailable("the master is shutting down"))
            for watch in tuple(self._watches):
                watch.close()
            await self._backend.close()

    def _load(self, loaded: Loaded) -> None:
        for names in self._objects.values():
            names.clear()
        for obj in loaded.objects:
            self._apply(key_of(obj), obj)
        self._history = list(loaded.history)
        self.revision = loaded.revision
        self._next = loaded.revision + 1

    # -- reads --------------------------------------------------------------------------------

    def get(self, kind: str, namespace: str, name: str) -> Any | None:
        """The object, or None. Shared: never change it."""
        return self._objects[kind].get(namespace, {}).get(name)

    def list(self, kind: str, namespace: str | None = None) -> list[Any]:
        """All objects of a kind, in one namespace or (None) in all, sorted by namespace and name."""
        spaces = self._objects[kind]
        chosen = sorted(spaces) if namespace is None else [namespace]
        return [spaces[ns][name] for ns in chosen if ns in spaces for name in sorted(spaces[ns])]

    def count(self, kind: str) -> int:
        return sum(len(names) for names in self._objects[kind].values())

    def watch(self, of_kinds: Collection[str] | None = None, since: int | None = None) -> Watch:
        """Changes after revision `since` (None: after now) of some kinds (None: all).

        Raises Expired when changes after `since` are no longer kept, or `since` is from the future.
        """
        start = self.revision if since is None else since
        if start > self.revision:
            raise Expired(f"revision {start} is newer than the store's ({self.revision}); list again")
        if start < self._oldest() - 1:
            raise Expired(f"revision {start} is too old; changes are kept from {self._oldest()} on: list again")
        watch = Watch(self, frozenset(of_kinds) if of_kinds is not None else None, start)
        self._watches.add(watch)
        return watch

    def snapshot_and_watch(self, of_kinds: Collection[str]) -> tuple[Objects, int, Watch]:
        """Everything there is and what follows, with nothing between: no await happens inside."""
        objects = [obj for kind in of_kinds for obj in self.list(kind)]
        return objects, self.revision, self.watch(of_kinds)

    def _oldest(self) -> int:
        return self._history[0].revision if self._history else self.revision + 1

    def _since(self, cursor: int) -> Sequence[Change]:
        """Changes after `cursor`; revisions have no holes, so the place is arithmetic."""
        if cursor >= self.revision:
            return ()
        start = cursor + 1 - self._oldest()
        if start < 0:
            raise Expired(f"the watch fell behind: it stands at revision {cursor}, kept are {self._oldest()} on")
        return self._history[start : start + 1000]

    # -- writes -------------------------------------------------------------------------------

    async def commit(self, *writes: Write) -> Objects:
        """Makes all writes durable or none, and returns the objects as stored (last states, for removals).

        Raises AlreadyExists, Conflict or NotFound when an expectation does not hold, Unavailable when the
        disk does not take them; then nothing has changed.
        """
        if self._closed:
            raise Unavailable("the master is shutting down")
        if self._restoring:
            raise Unavailable("the store is being restored from a backup; try again in a moment")
        changes = self._stage(writes)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((changes, done))
        self._wake.set()
        await asyncio.shield(done)
        return [change.obj for change in changes]

    def _stage(self, writes: Iterable[Write]) -> Changes:
        changes: Changes = []
        before = self._next
        undo: list[tuple[Key, tuple[int, Any | None] | None]] = []
        try:
            for write in writes:
                key = key_of(write.obj) if isinstance(write, Put) else (write.kind, write.namespace, write.name)
                old = self._latest(key)
                _check(key, old, write.expect, isinstance(write, Remove))
                source = write.obj if isinstance(write, Put) else old
                obj = clone(source)
                obj.metadata.resourceVersion = str(self._next)
                kind: Type = "DELETED" if isinstance(write, Remove) else "MODIFIED" if old is not None else "ADDED"
                changes.append(Change(kind, key, obj, old, self._next))
                undo.append((key, self._staged.get(key)))
                self._staged[key] = (self._next, None if kind == "DELETED" else obj)
                self._next += 1
        except Exception:
            self._next = before
            for key, was in reversed(undo):
                if was is None:
                    self._staged.pop(key, None)
                else:
                    self._staged[key] = was
            raise
        return changes

    def _latest(self, key: Key) -> Any | None:
        staged = self._staged.get(key)
        return staged[1] if staged is not None else self.get(*key)

    async def _flush(self) -> None:
        batch, self._pending = self._pending, []
        changes = [change for group, _ in batch for change in group]
        if not changes:
            return
        keep_from = changes[-1].revision - self._limit + 1
        try:
            await self._backend.append(changes, keep_from)
        except Unavailable as error:
            # What was staged behind the failed batch was checked against state that never came to be.
            behind, self._pending = self._pending, []
            self._staged.clear()
            self._next = self.revision + 1
            self._fail(batch + behind, error)
            return
        except asyncio.CancelledError:
            self._fail(batch, Unavailable("the master is shutting down; the write may or may not have happened"))
            raise
        self._publish(changes)
        for _, done in batch:
            if not done.done():
                done.set_result(None)

    def _publish(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self._apply(change.key, None if change.type == "DELETED" else change.obj)
            staged = self._staged.get(change.key)
            if staged is not None and staged[0] == change.revision:
                del self._staged[change.key]
        self.revision = changes[-1].revision
        self._history.extend(changes)
        if len(self._history) > self._limit * 1.2:
            del self._history[: len(self._history) - self._limit]
        for watch in self._watches:
            watch._wake()

    def _apply(self, key: Key, obj: Any | None) -> None:
        kind, namespace, name = key
        names = self._objects[kind].setdefault(namespace, {})
        if obj is not None:
            names[name] = obj
            return
        names.pop(name, None)
        if not names:
            del self._objects[kind][namespace]

    @staticmethod
    def _fail(batch: Iterable[tuple[Changes, asyncio.Future[None]]], error: Exception) -> None:
        for _, done in batch:
            if not done.done():
                done.set_exception(error)
                done.exception()  # the committer may have been cancelled: then nobody else looks

    # -- backup -------------------------------------------------------------------------------

    async def backup(self, path: Path) -> None:
        """Writes one consistent copy to `path` while the store goes on. Raises Unavailable."""
        await self._backend.backup(path)

    async def restore(self, path: Path) -> int:
        """Replaces everything by a backup and returns how many objects it holds; every watch ends with Expired.

        Raises BadRequest when the file is not a whole backup; then nothing has changed.
        """
        async with self._disk:
            self._restoring = True
            try:
                loaded = await self._backend.replace(path, self._next)
            finally:
                self._restoring = False
            # Anything that was waiting was checked against what is no longer there.
            behind, self._pending = self._pending, []
            self._staged.clear()
            self._load(loaded)
            self._fail(behind, Conflict("the store was restored from a backup: read again and retry"))
            for watch in tuple(self._watches):
                watch._expire()
        return len(loaded.objects)


def _check(key: Key, old: Any | None, expect: Expectation, removing: bool) -> None:
    kind, namespace, name = key
    subject = f'{kinds.by_kind(kind).resource} "{name}"'
    if expect == ABSENT:
        if old is not None:
            raise AlreadyExists(f"{subject} already exists")
        return
    if old is None and (removing or expect is not None):
        where = f" in namespace {namespace}" if namespace else ""
        raise NotFound(f"{subject} not found{where}")
    if expect is not None and old is not None and revision_of(old) != expect:
        raise Conflict(
            f"operation cannot be fulfilled on {subject}: it has been changed since revision {expect} "
            f"(now {revision_of(old)}); read it again and apply the change to that"
        )


class Watch:
    """Changes in order, each once. Iterate it, or take what has gathered with `batch()`.

    Iteration ends when it is closed, and raises Expired when it fell behind what the store keeps.
    """

    def __init__(self, store: Store, of_kinds: frozenset[str] | None, cursor: int) -> None:
        self._store = store
        self._kinds = of_kinds
        self._event = asyncio.Event()
        self._event.set()
        self._closed = False
        self._expired = False
        self.revision = cursor

    async def batch(self) -> list[Change]:
        """Waits for changes and returns all there are (at most 1,000); empty only when closed."""
        while True:
            await self._event.wait()
            if self._expired:
                raise Expired("the store was restored from a backup: list again")
            if self._closed:
                return []
            changes = self._store._since(self.revision)
            if not changes:
                self._event.clear()
                continue
            self.revision = changes[-1].revision
            wanted = [c for c in changes if self._kinds is None or c.key[0] in self._kinds]
            if wanted:
                return wanted

    async def __aiter__(self) -> AsyncIterator[Change]:
        while changes := await self.batch():
            for change in changes:
                yield change

    def close(self) -> None:
        """Ends the iteration; safe to call twice."""
        self._closed = True
        self._store._watches.discard(self)
        self._event.set()

    def _wake(self) -> None:
        self._event.set()

    def _expire(self) -> None:
        self._expired = True
        self._store._watches.discard(self)
        self._event.set()
