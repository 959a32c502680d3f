"""The three-way merge behind apply: what the user wrote last, what he writes now, what is there; pure.

Rules: Kubernetes' strategic merge as `kubectl apply` does it. Lists are merged by the key their field names in
the schema, all others are replaced as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import Descriptor

from common.schema import Field, schema_of

Doc = dict[str, Any]

SET = "*"
# Of a union only the member that was written last stays, although defaults may have added to the others.
_REPLACED_UNIONS = {"sampan.v1.Volume"}


def three_way(descriptor: Descriptor | None, last: Mapping[str, Any], new: Mapping[str, Any], live: Doc) -> Doc:
    """The document that holds `new`, keeps of `live` what others set, and loses what only `last` had.

    All are manifests of one message (no descriptor: a plain map). Applying the same `new` to the result again
    changes nothing.
    """
    fields = schema_of(descriptor).names if descriptor is not None else {}
    result: Doc = {}
    for key, value in live.items():
        if key in new or key not in last:
            result[key] = value
        elif key in fields and fields[key][1].is_map and isinstance(value, Mapping) and isinstance(last[key], Mapping):
            # The whole map was taken out, and with it the user's own entries; kubectl drops everybody's.
            others = {name: item for name, item in value.items() if name not in last[key]}
            result |= {key: others} if others else {}
    for key, value in new.items():
        if value is None:
            result.pop(key, None)
            continue
        field = fields[key][1] if key in fields else None
        result[key] = _value(field, last.get(key), value, live.get(key))
    if descriptor is not None and descriptor.full_name in _REPLACED_UNIONS:
        result = {key: value for key, value in result.items() if key in new}
    return result


def _value(field: Field | None, last: Any, new: Any, live: Any) -> Any:
    child = field.child if field is not None and not field.is_map else None
    if isinstance(new, Mapping) and isinstance(live, Mapping):
        return three_way(child, last if isinstance(last, Mapping) else {}, new, dict(live))
    if isinstance(new, list) and isinstance(live, list) and field is not None and field.merge_key is not None:
        before = last if isinstance(last, list) else []
        if field.merge_key == SET:
            return new + [item for item in live if item not in new and item not in before]
        return _by_key(child, field.merge_key, before, new, live)
    return new


def _by_key(child: Descriptor | None, key: str, last: list[Any], new: list[Any], live: list[Any]) -> list[Any]:
    wanted, there = _index(new, key), _index(live, key)
    if wanted is None or there is None:
        # Two items with one key (a port for TCP and for UDP): nothing tells them apart, so the new list counts.
        return new
    before = _index(last, key) or {}
    merged = [
        three_way(child, before.get(name, {}), item, there[name]) if name in there else item
        for name, item in wanted.items()
    ]
    return merged + [item for name, item in there.items() if name not in wanted and name not in before]


def _index(items: list[Any], key: str) -> dict[Any, Any] | None:
    """Items by key, in order; None when they can't be told apart."""
    found = {item.get(key): item for item in items if isinstance(item, Mapping)}
    return found if len(found) == len(items) and None not in found else None
