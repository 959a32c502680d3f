"""What the rows of all families share: the row itself, the moment of a pass, and reading what the index names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from common.selectors import LabelSelector
from master.controllers.index import Index
from master.controllers.plan import Plan
from master.controllers.pods import condition, controller_of, is_terminating
from master.store import store
from master.store.store import Key, Store

ALL: Key = ("", "", "")
"""The key of a controller that looks at the whole cluster at once."""


@dataclass(frozen=True)
class Moment:
    """When a pass happens: Unix and monotonic seconds, and since when (monotonic) this master can tell silence."""

    now: float
    tick: float
    base: float


@dataclass(frozen=True)
class Row:
    """One controller. `dirty` names the keys a change concerns, `keys` all there are, `reconcile` plans for one."""

    name: str
    dirty: Callable[[store.Change], Iterable[Key]]
    keys: Callable[[], Iterable[Key]]
    reconcile: Callable[[Key, Moment], Plan]
    workers: int = 8


class View:
    """The store and the index over it, as every family reads them. `index` is replaced when the watch starts anew."""

    def __init__(self, objects: Store) -> None:
        self.store = objects
        self.index = Index()

    def get(self, kind: str, namespace: str, name: str) -> Any | None:
        return self.store.get(kind, namespace, name)

    def read(self, keys: Iterable[Key]) -> list[Any]:
        """The objects as they are now; what is gone is left out."""
        return [obj for key in keys if (obj := self.store.get(*key)) is not None]

    def keys_of(self, kind: str) -> Callable[[], Iterable[Key]]:
        """All keys of a kind, read when it is called."""
        return lambda: [store.key_of(obj) for obj in self.store.list(kind)]

    def emptying(self, namespace: str) -> bool:
        """Whether the namespace is Terminating: nothing may be made in it any more."""
        found = self.store.get("Namespace", "", namespace)
        return found is not None and is_terminating(found)

    def matching(self, namespace: str, selector: LabelSelector | None, kind: str = "Pod") -> list[Key]:
        """Keys of the objects of a namespace that may match a selector; None matches nothing."""
        if selector is None:
            return []
        found = self.index.matching(namespace, selector, kind)
        return found if found is not None else [store.key_of(obj) for obj in self.store.list(kind, namespace)]

    def dependents(self, uid: str, kind: str) -> set[Key]:
        """Keys of the objects of this kind that name `uid` among their owners."""
        return {key for key in self.index.dependents.get(uid) if key[0] == kind}

    def candidates(self, owner: Any, selector: LabelSelector | None, kind: str = "Pod") -> list[Any]:
        """The objects of a kind that are the owner's, or that its selector may match."""
        meta = owner.metadata
        return self.read(sorted({*self.matching(meta.namespace, selector, kind), *self.dependents(meta.uid, kind)}))

    def owners(self, change: store.Change, kind: str) -> Iterator[Key]:
        """The owner of this kind of a changed object, before and after; of an orphan those whose selector may match."""
        namespace = change.key[1]
        for obj in (change.obj, change.old):
            if obj is None:
                continue
            owner = controller_of(obj)
            if owner is None:
                yield from self.index.selectors_of(kind, namespace, obj.metadata.labels)
            elif owner.kind == kind:
                yield (kind, namespace, owner.name)


def readiness(node: Any | None) -> str:
    """The status of a node's Ready condition: True, False, Unknown, or "" for none."""
    ready = condition(node.status, "Ready") if node is not None else None
    return ready.status if ready is not None else ""


def nodes_serve(node: Any | None) -> bool:
    """Whether traffic may go to the node: it is there and says Ready."""
    return readiness(node) == "True"
