"""Moments as the messages carry them; `now` is seconds since the epoch, UTC."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp


def stamp(now: float) -> Timestamp:
    """Whole seconds, as Kubernetes keeps times."""
    return Timestamp(seconds=int(now))


def rfc3339(now: float) -> str:
    """Like 2026-01-31T12:00:00Z."""
    return datetime.fromtimestamp(int(now), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_rfc3339(text: str) -> float:
    """Raises ValueError for a text that is no such time."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"the time {text!r} has no zone")
    return moment.timestamp()
