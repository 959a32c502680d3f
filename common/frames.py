"""A keyed state sent as a complete set, then as chained changes, so that a break in the chain is always seen.

`FrameWriter` holds the state and says what a reader at some revision still needs; `FrameReader` follows it.
Plain data, no wire format: master to agent travels as protobuf (`common.wireframes`), agent to proxy as JSON.
The shape follows swarmkit's dispatcher (complete or incremental, chained); the reader's check is our own.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

V = TypeVar("V")

# A part is closed before it passes this many bytes; one larger item travels alone.
PART_BYTES = 1_900_000


class Resync(Exception):
    """The frame does not follow what the reader holds; its state is untouched. Reopen the stream."""


@dataclass(frozen=True)
class Snapshot(Generic[V]):
    """One part of a complete state at `revision`; `part` counts from 0, `more` says that others follow."""

    epoch: str
    revision: int
    items: Mapping[str, V]
    part: int = 0
    more: bool = False


@dataclass(frozen=True)
class Delta(Generic[V]):
    """What changed from revision `base` to `revision`."""

    epoch: str
    revision: int
    base: int
    upserts: Mapping[str, V]
    removed: tuple[str, ...]


class FrameWriter(Generic[V]):
    """The sender's state; any number of readers follow it, each by the revision it was last sent.

    `epoch` names this lineage of revisions and is new for every writer. `size` gives an item's bytes on the
    wire. The last `history` changes are kept; a reader further behind gets a snapshot.
    """

    def __init__(
        self,
        size: Callable[[V], int],
        *,
        epoch: str = "",
        history: int = 10_000,
        part_bytes: int = PART_BYTES,
    ) -> None:
        self.epoch = epoch or uuid.uuid4().hex
        self.revision = 0
        self._size = size
        self._history = history
        self._part_bytes = part_bytes
        self._items: dict[str, V] = {}
        # Key -> revision of its last change, oldest first: a key that changes again moves to the end, so the
        # log is never longer than the keys alive and recently removed.
        self._changed: dict[str, int] = {}
        self._floor = 0

    @property
    def items(self) -> Mapping[str, V]:
        return self._items

    def put(self, key: str, value: V) -> None:
        """Adds or replaces an item, as a change that readers will see."""
        self._items[key] = value
        self._touch(key)

    def refresh(self, key: str, value: V) -> None:
        """Replaces an item without telling readers that hold it: for parts of it they have no use for."""
        if key in self._items:
            self._items[key] = value

    def remove(self, key: str) -> None:
        if self._items.pop(key, None) is not None:
            self._touch(key)

    def replace(self, items: Mapping[str, V]) -> None:
        """Makes `items` the whole state; only what differs becomes a change."""
        for key in [key for key in self._items if key not in items]:
            self.remove(key)
        for key, value in items.items():
            if key not in self._items or self._items[key] != value:
                self.put(key, value)

    def _touch(self, key: str) -> None:
        self.revision += 1
        self._changed.pop(key, None)
        self._changed[key] = self.revision
        while len(self._changed) > self._history:
            oldest = next(iter(self._changed))
            self._floor = self._changed.pop(oldest)

    def frames(self, base: int | None) -> list[Snapshot[V] | Delta[V]]:
        """What brings a reader from `base` to now: nothing, one delta, or a snapshot in parts.

        `base` None means a new stream, which always opens with a snapshot (an empty one too).
        """
        if base is None or base < self._floor or base > self.revision:
            return list(self._snapshot())
        if base == self.revision:
            return []
        upserts: dict[str, V] = {}
        removed: list[str] = []
        total = 0
        for key, revision in reversed(self._changed.items()):
            if revision <= base:
                break
            if key in self._items:
                upserts[key] = self._items[key]
                total += self._size(self._items[key])
            else:
                removed.append(key)
                total += len(key)
            if total > self._part_bytes and len(upserts) + len(removed) > 1:
                return list(self._snapshot())
        return [Delta(self.epoch, self.revision, base, upserts, tuple(removed))]

    def _snapshot(self) -> Iterable[Snapshot[V]]:
        part = 0
        held: dict[str, V] = {}
        total = 0
        for key, value in self._items.items():
            size = self._size(value)
            if held and total + size > self._part_bytes:
                yield Snapshot(self.epoch, self.revision, held, part, True)
                part, held, total = part + 1, {}, 0
            held[key] = value
            total += size
        yield Snapshot(self.epoch, self.revision, held, part, False)


@dataclass(frozen=True)
class Applied(Generic[V]):
    """What one frame changed; `whole` when it replaced everything."""

    upserts: Mapping[str, V]
    removed: tuple[str, ...]
    whole: bool


class FrameReader(Generic[V]):
    """The receiver's state. After every `apply` it equals the writer's state at `revision`."""

    def __init__(self) -> None:
        self.epoch = ""
        self.revision = 0
        self._items: dict[str, V] = {}
        self._parts: dict[str, V] = {}
        self._part = 0
        self._building: tuple[str, int] | None = None

    @property
    def items(self) -> Mapping[str, V]:
        return self._items

    def restore(self, epoch: str, revision: int, items: Mapping[str, V]) -> None:
        """Takes a state that was kept elsewhere (disk) as if it had been read from a stream."""
        self.epoch, self.revision, self._items = epoch, revision, dict(items)
        self._building = None

    def reopen(self) -> None:
        """A new stream begins: keeps the state for use, but only a snapshot may follow."""
        self.epoch = ""
        self.revision = 0
        self._building = None

    def apply(self, frame: Snapshot[V] | Delta[V]) -> Applied[V] | None:
        """Follows one frame; None while parts of a snapshot are still to come.

        Raises Resync before anything is changed when the frame does not follow.
        """
        if isinstance(frame, Delta):
            return self._apply_delta(frame)
        return self._apply_snapshot(frame)

    def _apply_delta(self, frame: Delta[V]) -> Applied[V]:
        if self._building is not None:
            raise Resync(f"a delta came before the last part of snapshot {self._building[1]}")
        if frame.epoch != self.epoch or frame.base != self.revision:
            raise Resync(
                f"delta {frame.epoch}/{frame.base}->{frame.revision} does not follow {self.epoch}/{self.revision}"
            )
        for key in frame.removed:
            self._items.pop(key, None)
        self._items.update(frame.upserts)
        self.revision = frame.revision
        return Applied(frame.upserts, frame.removed, False)

    def _apply_snapshot(self, frame: Snapshot[V]) -> Applied[V] | None:
        if frame.epoch == self.epoch and frame.revision < self.revision:
            raise Resync(f"snapshot {frame.revision} is older than {self.revision}")
        if frame.part == 0:
            self._building, self._part, self._parts = (frame.epoch, frame.revision), 0, {}
        elif self._building != (frame.epoch, frame.revision) or frame.part != self._part:
            raise Resync(f"part {frame.part} of snapshot {frame.revision} came out of turn")
        self._parts.update(frame.items)
        self._part += 1
        if frame.more:
            return None
        removed = tuple(key for key in self._items if key not in self._parts)
        self._items, self._parts, self._building = self._parts, {}, None
        self.epoch, self.revision = frame.epoch, frame.revision
        return Applied(self._items, removed, True)
