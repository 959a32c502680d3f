"""The columns of events, and the order in which they are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.ages import UNKNOWN, age, is_set, seconds_of
from cli.columns.table import NAME, Column

if TYPE_CHECKING:
    from protos.core_pb2 import Event


def last_seen(event: Event) -> float:
    """Epoch seconds of the latest occurrence; 0 when the event says none."""
    times = [event.series.lastObservedTime, event.lastTimestamp, event.eventTime, event.firstTimestamp]
    return next((seconds_of(time) for time in times if is_set(time)), 0.0)


def order(event: Event) -> tuple[float, int]:
    """The order of events: by time, and within one second as they were written."""
    revision = event.metadata.resourceVersion
    return last_seen(event), int(revision) if revision.isdigit() else 0


def last_seen_age(event: Event, now: float) -> str:
    """How long ago the event was last seen."""
    times = [event.series.lastObservedTime, event.lastTimestamp, event.eventTime, event.firstTimestamp]
    return next((age(time, now) for time in times if is_set(time)), UNKNOWN)


def involved(event: Event) -> str:
    """The object the event is about, as "pod/web"."""
    return f"{event.involvedObject.kind.lower()}/{event.involvedObject.name}"


def source(event: Event) -> str:
    """Who saw it: "kubelet, node1"."""
    component = event.source.component or event.reportingComponent
    host = event.source.host or event.reportingInstance
    return ", ".join(part for part in (component, host) if part)


def count(event: Event) -> int:
    """How often it was seen, at least once."""
    return max(event.series.count, event.count, 1)


def message(event: Event) -> str:
    """The message on one line."""
    return " ".join(event.message.split())


def _first_seen(event: Event, now: float) -> str:
    return age(event.firstTimestamp if is_set(event.firstTimestamp) else event.eventTime, now)


COLUMNS = (
    Column("LAST SEEN", last_seen_age),
    Column("TYPE", lambda event, now: event.type),
    Column("REASON", lambda event, now: event.reason),
    Column("OBJECT", lambda event, now: involved(event)),
    Column("SUBOBJECT", lambda event, now: event.involvedObject.fieldPath, wide=True),
    Column("SOURCE", lambda event, now: source(event), wide=True),
    Column("MESSAGE", lambda event, now: message(event)),
    Column("FIRST SEEN", _first_seen, wide=True),
    Column("COUNT", lambda event, now: str(count(event)), wide=True),
    Column(NAME.heading, NAME.cell, wide=True),
)
