"""Conditions of a status: one per type, whose transition time moves only when its status does."""

from __future__ import annotations

from typing import Any

from master.api.times import stamp


def set_condition(conditions: Any, type: str, status: str, *, reason: str = "", message: str = "", now: float) -> bool:
    """Sets a condition in a status' list in place; True when anything changed."""
    found = next((condition for condition in conditions if condition.type == type), None)
    if found is None:
        conditions.add(type=type, status=status, reason=reason, message=message, lastTransitionTime=stamp(now))
        return True
    if (found.status, found.reason, found.message) == (status, reason, message):
        return False
    if found.status != status:
        found.lastTransitionTime.CopyFrom(stamp(now))
    found.status, found.reason, found.message = status, reason, message
    return True
