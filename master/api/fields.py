"""Which fields a kind can be selected by, and how each is read; pure."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from common import selectors
from common.kinds import EVENT, NAMESPACE, NODE, POD, SECRET, SERVICE, Kind

Reader = Callable[[Any], str]

_COMMON: dict[str, Reader] = {"metadata.name": lambda obj: str(obj.metadata.name)}
_NAMESPACED: dict[str, Reader] = {"metadata.namespace": lambda obj: str(obj.metadata.namespace)}
_SPECIAL: Mapping[Kind, Mapping[str, Reader]] = {
    NAMESPACE: {"status.phase": lambda obj: str(obj.status.phase)},
    NODE: {"spec.unschedulable": lambda obj: "true" if obj.spec.unschedulable else "false"},
    POD: {
        "spec.nodeName": lambda obj: str(obj.spec.nodeName),
        "spec.restartPolicy": lambda obj: str(obj.spec.restartPolicy),
        "spec.schedulerName": lambda obj: str(obj.spec.schedulerName),
        "spec.serviceAccountName": lambda obj: str(obj.spec.serviceAccountName),
        "status.phase": lambda obj: str(obj.status.phase),
        "status.podIP": lambda obj: str(obj.status.podIP),
    },
    SERVICE: {
        "spec.clusterIP": lambda obj: str(obj.spec.clusterIP),
        "spec.type": lambda obj: str(obj.spec.type),
    },
    SECRET: {"type": lambda obj: str(obj.type)},
    EVENT: {
        "type": lambda obj: str(obj.type),
        "reason": lambda obj: str(obj.reason),
        "source": lambda obj: str(obj.source.component),
        "reportingComponent": lambda obj: str(obj.reportingComponent),
        "involvedObject.kind": lambda obj: str(obj.involvedObject.kind),
        "involvedObject.namespace": lambda obj: str(obj.involvedObject.namespace),
        "involvedObject.name": lambda obj: str(obj.involvedObject.name),
        "involvedObject.uid": lambda obj: str(obj.involvedObject.uid),
        "involvedObject.apiVersion": lambda obj: str(obj.involvedObject.apiVersion),
        "involvedObject.fieldPath": lambda obj: str(obj.involvedObject.fieldPath),
    },
}


def readers(kind: Kind) -> dict[str, Reader]:
    """Field name -> how to read it as text."""
    return {**_COMMON, **(_NAMESPACED if kind.namespaced else {}), **_SPECIAL.get(kind, {})}


# Who watches by asking asks with the same words again and again.
_parsed = functools.lru_cache(maxsize=256)(selectors.parse_labels)


class Filter:
    """A label and a field selector over one kind, parsed once. Raises BadRequest for a bad selector."""

    def __init__(self, kind: Kind, label_selector: str = "", field_selector: str = "") -> None:
        self._readers = readers(kind)
        self._labels = _parsed(label_selector)
        self._fields = selectors.parse_fields(field_selector, self._readers, kind.plural)

    def __bool__(self) -> bool:
        return bool(self._labels) or bool(self._fields)

    def matches(self, obj: Any) -> bool:
        return self._labels.matches(obj.metadata.labels) and (
            not self._fields or self._fields.matches(lambda name: self._readers[name](obj))
        )
