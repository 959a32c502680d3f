"""Where to look: which objects a selector, an owner or a node may mean, kept up from changes; no decision in here.

The index only names candidates. Whoever asks reads each of them from the store, so a late index never shows an old
state; it may only miss a new object for a moment, whose change then marks the key dirty again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from common import kinds
from common.selectors import EVERYTHING, IN, LabelSelector, from_map, from_message
from master.controllers.confighash import references
from master.controllers.pods import FINISHED, is_terminating
from master.store.store import Key, key_of

Pair = tuple[str, str, str]
"""Namespace, label name, label value."""


class Sets:
    """Sets of keys by some word; an empty set takes no room."""

    def __init__(self) -> None:
        self._sets: dict[Any, set[Key]] = {}

    def add(self, word: Any, key: Key) -> None:
        self._sets.setdefault(word, set()).add(key)

    def discard(self, word: Any, key: Key) -> None:
        found = self._sets.get(word)
        if found is not None:
            found.discard(key)
            if not found:
                del self._sets[word]

    def get(self, word: Any) -> set[Key] | frozenset[Key]:
        return self._sets.get(word, frozenset())

    def words(self) -> list[Any]:
        return list(self._sets)


class Index:
    """Every object but Events, which nobody owns or selects."""

    def __init__(self, objects: Iterable[Any] = ()) -> None:
        self._entries: dict[Key, tuple[tuple[Sets, Any], ...]] = {}
        self._by_label = Sets()
        self._by_selector = Sets()
        self.pods_on = Sets()
        self.dependents = Sets()
        self.leaving = Sets()
        self.finished = Sets()
        self.tracked = Sets()
        self.config_users = Sets()
        for obj in objects:
            self.put(obj)

    def put(self, obj: Any) -> None:
        """Takes in an object, in place of what it was before."""
        key = key_of(obj)
        if key[0] == "Event":
            return
        new = tuple(self._words(key, obj))
        old = self._entries.get(key, ())
        if new == old:
            return
        for sets, word in old:
            sets.discard(word, key)
        for sets, word in new:
            sets.add(word, key)
        self._entries[key] = new

    def remove(self, key: Key) -> None:
        for sets, word in self._entries.pop(key, ()):
            sets.discard(word, key)

    def _words(self, key: Key, obj: Any) -> Iterator[tuple[Sets, Any]]:
        kind, namespace, _ = key
        meta = obj.metadata
        for reference in meta.ownerReferences:
            yield self.dependents, reference.uid
        if meta.finalizers and is_terminating(obj):
            yield self.leaving, meta.uid
        if kind in LABELLED:
            for label, value in meta.labels.items():
                yield self._by_label, (kind, namespace, label, value)
        if kind == "Pod":
            if obj.spec.nodeName:
                yield self.pods_on, obj.spec.nodeName
            if obj.status.phase in FINISHED:
                yield self.finished, ""
            if TRACKING in meta.finalizers:
                yield self.tracked, ""
        elif kind in SELECTING:
            for label, value in _found_by(selector_of(obj)):
                yield self._by_selector, (kind, namespace, label, value)
        for user in references(obj):
            yield self.config_users, user

    def selected(self, namespace: str, selector: Mapping[str, str], kind: str = "Pod") -> list[Key]:
        """Pods (or ReplicaSets) that may match a map of labels, sorted; those of its rarest label."""
        if not selector:
            return []
        sets = [self._by_label.get((kind, namespace, label, value)) for label, value in selector.items()]
        return sorted(min(sets, key=len))

    def matching(self, namespace: str, selector: LabelSelector, kind: str = "Pod") -> list[Key] | None:
        """The same for a full selector. None: it names no value (only !a, a or a!=b), so any object may match."""
        found: list[Key] | None = None
        for requirement in selector.requirements:
            if requirement.operator == IN:
                sets = [self._by_label.get((kind, namespace, requirement.key, value)) for value in requirement.values]
                if found is None or sum(map(len, sets)) < len(found):
                    found = sorted(set().union(*sets))
        return found

    def selectors_of(self, kind: str, namespace: str, labels: Mapping[str, str]) -> list[Key]:
        """Objects of a selecting kind (Service, ReplicaSet ...) whose selector may match these labels."""
        found: set[Key] = set(self._by_selector.get((kind, namespace, "", "")))
        for label, value in labels.items():
            found |= self._by_selector.get((kind, namespace, label, value))
        return sorted(found)


TRACKING = "batch.kubernetes.io/job-tracking"
"""The finalizer of pods that a Job has not counted yet."""
LABELLED = frozenset(("Pod", "ReplicaSet"))
"""Kinds that are looked for by their labels."""
SELECTING = frozenset(
    (
        "Service",
        "ReplicationController",
        "ReplicaSet",
        "Deployment",
        "DaemonSet",
        "Job",
        "PodDisruptionBudget",
    )
)
"""Kinds that select by labels in `spec.selector`."""


def selector_of(obj: Any) -> LabelSelector | None:
    """What `spec.selector` says, whether a map or a full selector; None where it is empty: it selects nothing,
    but of a PodDisruptionBudget, whose empty selector (not an absent one) selects everything."""
    selector = obj.spec.selector
    if not hasattr(selector, "matchLabels"):
        return from_map(selector) if selector else None
    if not selector.ListFields():
        return EVERYTHING if kinds.of(obj) is kinds.POD_DISRUPTION_BUDGET and obj.spec.HasField("selector") else None
    return from_message(selector)


def _found_by(selector: LabelSelector | None) -> Iterator[tuple[str, str]]:
    """The label pairs one of which an object must carry to match; ("", "") where it may carry anything."""
    if selector is None:
        return
    wanted = [requirement for requirement in selector.requirements if requirement.operator == IN]
    if not wanted:
        yield "", ""
        return
    fewest = min(wanted, key=lambda requirement: (len(requirement.values), requirement.key))
    for value in sorted(fewest.values):
        yield fewest.key, value
