"""Whose an object is: adoption of orphans that a selector matches, release of what it no longer matches; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from common import kinds
from common.selectors import LabelSelector
from master.controllers.plan import Action, Change
from master.controllers.pods import controller_of, is_terminating
from master.store.store import key_of
from protos import meta_pb2


@dataclass(frozen=True)
class Claimer:
    """A controller object and its selector; without one it matches nothing (validation refuses that).

    `may_adopt` looks again, at the newest state, whether an orphan is still worth adopting.
    """

    owner: Any
    selector: LabelSelector | None
    may_adopt: Callable[[Any], bool] = lambda obj: not is_terminating(obj)

    def matches(self, obj: Any) -> bool:
        return self.selector is not None and self.selector.matches(obj.metadata.labels)

    def claim(self, objects: Iterable[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        """Objects that are the owner's already, orphans to adopt, and those of its own that no longer match.

        An owner on its way out adopts and releases nothing.
        """
        mine: list[Any] = []
        adopt: list[Any] = []
        release: list[Any] = []
        leaving = is_terminating(self.owner)
        for obj in sorted(objects, key=lambda obj: str(obj.metadata.name)):
            found = controller_of(obj)
            if found is not None and found.uid == self.owner.metadata.uid:
                if self.matches(obj):
                    mine.append(obj)
                elif not leaving:
                    release.append(obj)
            elif found is None and not leaving and self.may_adopt(obj) and self.matches(obj):
                adopt.append(obj)
        return mine, adopt, release

    def reference(self) -> meta_pb2.OwnerReference:
        """What an object of the owner says of it."""
        kind, meta = kinds.of(self.owner), self.owner.metadata
        return meta_pb2.OwnerReference(
            apiVersion=kind.api_version,
            kind=kind.kind,
            name=meta.name,
            uid=meta.uid,
            controller=True,
            blockOwnerDeletion=True,
        )

    def actions(self, adopt: Iterable[Any], release: Iterable[Any]) -> list[Action]:
        return [self._adoption(obj) for obj in adopt] + [self._release(obj) for obj in release]

    def _adoption(self, obj: Any) -> Action:
        reference = self.reference()

        def change(newest: Any) -> None:
            # Somebody may have been faster: an object is never taken from another controller.
            if controller_of(newest) is None and self.may_adopt(newest) and self.matches(newest):
                _drop_reference(newest, reference.uid)
                newest.metadata.ownerReferences.append(reference)

        return Change(key_of(obj), obj.metadata.uid, "adopt", change)

    def _release(self, obj: Any) -> Action:
        def change(newest: Any) -> None:
            if not self.matches(newest):
                _drop_reference(newest, self.owner.metadata.uid)

        return Change(key_of(obj), obj.metadata.uid, "release", change)


def _drop_reference(obj: Any, uid: str) -> None:
    kept = [reference for reference in obj.metadata.ownerReferences if reference.uid != uid]
    if len(kept) != len(obj.metadata.ownerReferences):
        del obj.metadata.ownerReferences[:]
        obj.metadata.ownerReferences.extend(kept)
