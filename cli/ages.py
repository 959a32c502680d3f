"""Times as people read them: the ages of kubectl's tables and durations on the command line; pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

UNKNOWN = "<unknown>"
_MINUTE, _HOUR, _DAY, _YEAR = 60, 3600, 86400, 365 * 86400
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h|d)")


def human(seconds: float) -> str:
    """An age in kubectl's words: two figures at most ("90s", "3m5s", "5h12m", "2d3h"), less as it grows.

    The steps are those of k8s.io/apimachinery's duration.HumanDuration. Clocks that differ by a second give "0s".
    """
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 0:
        return "0s"
    if whole < 2 * _MINUTE:
        return f"{whole}s"
    if whole < 10 * _MINUTE:
        return _two(whole, _MINUTE, "m", 1, "s")
    if whole < 3 * _HOUR:
        return f"{whole // _MINUTE}m"
    if whole < 8 * _HOUR:
        return _two(whole, _HOUR, "h", _MINUTE, "m")
    if whole < 2 * _DAY:
        return f"{whole // _HOUR}h"
    if whole < 8 * _DAY:
        return _two(whole, _DAY, "d", _HOUR, "h")
    if whole < 2 * _YEAR:
        return f"{whole // _DAY}d"
    if whole < 8 * _YEAR:
        return _two(whole, _YEAR, "y", _DAY, "d")
    return f"{whole // _YEAR}y"


def _two(seconds: int, large: int, large_name: str, small: int, small_name: str) -> str:
    rest = seconds % large // small
    return f"{seconds // large}{large_name}" + (f"{rest}{small_name}" if rest else "")


def is_set(time: Timestamp) -> bool:
    """False for the zero time, which means "never"."""
    return bool(time.seconds or time.nanos)


def seconds_of(time: Timestamp) -> float:
    """Seconds since the epoch."""
    return time.seconds + time.nanos / 1e9


def age(time: Timestamp, now: float) -> str:
    """How long ago `time` was, seen at `now` (seconds since the epoch); "<unknown>" when it is not set."""
    return human(now - seconds_of(time)) if is_set(time) else UNKNOWN


def when(time: Timestamp) -> str:
    """A time as `describe` shows it, for instance "Thu, 12 Mar 2020 08:00:00 +0000"."""
    if not is_set(time):
        return UNKNOWN
    return datetime.fromtimestamp(time.seconds, UTC).strftime("%a, %d %b %Y %H:%M:%S +0000")


def since_text(rfc3339: str, now: float) -> str:
    """The age of a time that is written out; "<unknown>" when it is empty or is not a time."""
    try:
        return human(now - datetime.fromisoformat(rfc3339).timestamp())
    except ValueError:
        return UNKNOWN


def parse_duration(text: str) -> float:
    """Seconds from a duration as Go writes it ("30s", "1h30m", "1.5h"), from days ("7d") or from a bare number.

    Raises ValueError with a sentence that says what would be right.
    """
    sign, body = (-1.0, text[1:]) if text.startswith("-") else (1.0, text)
    if re.fullmatch(r"\d+(\.\d+)?", body):
        return sign * float(body)
    parts = _PART.findall(body)
    if not parts or "".join(number + unit for number, unit in parts) != body:
        raise ValueError(f'"{text}" is not a duration: write it like 30s, 5m, 1h30m or 7d')
    return sign * sum(float(number) * _UNITS[unit] for number, unit in parts)
