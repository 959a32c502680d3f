"""A number or a percentage of a total, as Kubernetes' int-or-string fields carry them; pure."""

from __future__ import annotations

import re

from protos import meta_pb2

_PERCENT = re.compile(r"(\d{1,9})%")


def percent_of(value: meta_pb2.IntOrString) -> int | None:
    """The percentage, or None where the value is a plain number or no percentage at all."""
    if value.type == 0:
        return None
    found = _PERCENT.fullmatch(value.strVal)
    return int(found[1]) if found else None


def scaled(value: meta_pb2.IntOrString, total: int, *, up: bool) -> int:
    """The number itself, or the percentage of `total` rounded up or down; 0 for a text that is no percentage."""
    if value.type == 0:
        return int(value.intVal)
    percent = percent_of(value)
    if percent is None:
        return 0
    product = percent * total
    return -(-product // 100) if up else product // 100


def text_of(value: meta_pb2.IntOrString) -> str:
    """As a manifest has it: `1` or `25%`."""
    return str(value.intVal) if value.type == 0 else str(value.strVal)
