"""What `sampan wait --for` waits for: a condition, a value at a path, or that the object is gone; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cli import jsonpath

# Given an object's manifest, or None when there is no such object: is it so?
Test = Callable[[Mapping[str, Any] | None], bool]

EXAMPLES = "condition=Ready, condition=Ready=False, jsonpath='{.status.phase}'=Running, create or delete"


@dataclass(frozen=True)
class Wanted:
    """`met` tells whether an object is as wanted; `absent_is_error` where an object that is not there never will be."""

    text: str
    met: Test
    gone: bool = False
    absent_is_error: bool = True


def parse(text: str) -> Wanted:
    """Reads --for. Raises ValueError with a sentence that says what would be right."""
    kind, _, rest = text.partition("=")
    match kind.lower():
        case "delete" if not rest:
            return Wanted(text, lambda manifest: manifest is None, gone=True, absent_is_error=False)
        case "create" if not rest:
            return Wanted(text, lambda manifest: manifest is not None, absent_is_error=False)
        case "condition" if rest:
            name, _, value = rest.partition("=")
            return Wanted(text, _condition(name, value or "True"))
        case "jsonpath" if rest:
            return Wanted(text, _path(rest))
    raise ValueError(f'cannot wait for "{text}": write one of {EXAMPLES}')


def _condition(name: str, value: str) -> Test:
    def met(manifest: Mapping[str, Any] | None) -> bool:
        conditions = ((manifest or {}).get("status") or {}).get("conditions") or []
        return any(
            str(c.get("type", "")).lower() == name.lower() and str(c.get("status", "")).lower() == value.lower()
            for c in conditions
        )

    return met


def _path(text: str) -> Test:
    text = text.strip()
    if text[:1] in ("'", '"') and text.find(text[0], 1) > 0:
        end = text.index(text[0], 1)
        path, rest = text[1:end], text[end + 1 :]
    elif text.startswith("{"):
        end = text.rindex("}") if "}" in text else len(text) - 1
        path, rest = text[: end + 1], text[end + 1 :]
    else:
        path, sign, value = text.rpartition("=")
        path, rest = (path, sign + value) if sign else (text, "")
    wanted = rest[1:] if rest.startswith("=") else None
    if rest and wanted is None:
        raise ValueError(f"cannot read \"{rest}\" behind the path: write jsonpath='{{.status.phase}}'=Running")
    jsonpath.find(path, {})  # a path that cannot be read is told before waiting begins

    def met(manifest: Mapping[str, Any] | None) -> bool:
        found = jsonpath.find(path, manifest or {})
        if wanted is None:
            return bool(found)
        return any(jsonpath.text_of(value) == wanted for value in found)

    return met
