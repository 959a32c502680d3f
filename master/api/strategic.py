"""Strategic merge patches: Kubernetes' merge with keyed lists and `$patch` directives, over manifests; pure.

Source of the rules: Kubernetes' API conventions ("strategic merge patch") and what kubectl sends: `$patch: delete |
replace | merge`, `$deleteFromPrimitiveList/FIELD`, `$setElementOrder/FIELD`, `$retainKeys`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import Descriptor

from common.errors import Fault, Invalid
from common.schema import Field, schema_of
from master.api.merge import SET, Doc

PATCH = "$patch"
DELETE_FROM = "$deleteFromPrimitiveList/"
ORDER = "$setElementOrder/"
RETAIN = "$retainKeys"


def strategic(descriptor: Descriptor | None, live: Mapping[str, Any], patch: Mapping[str, Any], path: str = "") -> Doc:
    """`live` with `patch` merged into it; both are manifests of one message (no descriptor: a plain map).

    Raises Invalid naming the directive or item that makes no sense. Unknown fields are for the codec to find.
    """
    directive = patch.get(PATCH)
    if directive not in (None, "replace", "merge", "delete"):
        raise _fault(path, PATCH, f"must be replace, merge or delete, got {directive!r}")
    if directive == "delete":
        return {}
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != PATCH}
    result: Doc = dict(live)
    retained = patch.get(RETAIN)
    if retained is not None:
        if not isinstance(retained, list):
            raise _fault(path, RETAIN, "must be a list of the keys that stay")
        result = {key: value for key, value in result.items() if key in retained}
    fields = schema_of(descriptor).names if descriptor is not None else {}
    for key, value in patch.items():
        if key in (PATCH, RETAIN) or key.startswith(ORDER):
            continue
        if key.startswith(DELETE_FROM):
            name = key.removeprefix(DELETE_FROM)
            result[name] = [item for item in result.get(name, []) if item not in _list(value, path, key)]
            continue
        if value is None:
            result.pop(key, None)
            continue
        field = fields[key][1] if key in fields else None
        result[key] = _value(field, result.get(key), value, f"{path}.{key}" if path else key)
    for key, value in patch.items():
        if key.startswith(ORDER):
            name = key.removeprefix(ORDER)
            field = fields[name][1] if name in fields else None
            if isinstance(result.get(name), list):
                result[name] = _ordered(result[name], _list(value, path, key), field)
    return result


def _value(field: Field | None, live: Any, patch: Any, path: str) -> Any:
    child = field.child if field is not None and not field.is_map else None
    if isinstance(patch, Mapping):
        return strategic(child, live if isinstance(live, Mapping) else {}, patch, path)
    if isinstance(patch, list) and field is not None and field.merge_key is not None:
        there = live if isinstance(live, list) else []
        if field.merge_key == SET:
            return there + [item for item in patch if item not in there]
        return _by_key(child, field.merge_key, there, patch, path)
    return patch


def _by_key(child: Descriptor | None, key: str, live: list[Any], patch: list[Any], path: str) -> list[Any]:
    items = [item for item in patch if isinstance(item, Mapping)]
    if len(items) != len(patch):
        raise _fault(path, "", f"its items must be mappings with {key}")
    if any(item.get(PATCH) == "replace" for item in items):
        return [item for item in items if item.get(PATCH) != "replace"]
    result = list(live)
    for number, item in enumerate(items):
        where = f"{path}[{number}]"
        if key not in item:
            raise _fault(where, key, "is required: items of this list are told apart by it")
        at = [index for index, one in enumerate(result) if isinstance(one, Mapping) and one.get(key) == item[key]]
        if item.get(PATCH) == "delete":
            result = [one for index, one in enumerate(result) if index not in at]
        elif at:
            result[at[0]] = strategic(child, result[at[0]], item, where)
        else:
            result.append(strategic(child, {}, item, where))
    return result


def _ordered(items: list[Any], order: list[Any], field: Field | None) -> list[Any]:
    """The items in the order asked for; those it does not name stay behind the item they stood behind."""
    key = field.merge_key if field is not None and field.merge_key not in (None, SET) else None

    def name(item: Any) -> Any:
        return item.get(key) if key is not None and isinstance(item, Mapping) else item

    wanted = [name(item) for item in order]
    groups: dict[int, list[Any]] = {}
    current = -1
    for item in items:
        if name(item) in wanted:
            current = wanted.index(name(item))
        groups.setdefault(current, []).append(item)
    return [item for index in sorted(groups) for item in groups[index]]


def _list(value: Any, path: str, key: str) -> list[Any]:
    if not isinstance(value, list):
        raise _fault(path, key, "must be a list")
    return value


def _fault(path: str, key: str, message: str) -> Invalid:
    where = f"{path}.{key}" if path and key else path or key
    return Invalid("patch", (Fault(where, message),))
