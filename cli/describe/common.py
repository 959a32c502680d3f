"""What the pages of all kinds have in common: metadata at the top, events at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cli.ages import age, is_set
from cli.columns import events as event_columns
from cli.describe.page import NONE, Page

if TYPE_CHECKING:
    from protos.core_pb2 import Event

# Written by `apply`: the manifest once more, of no use on a page.
_HIDDEN = ("kubectl.kubernetes.io/last-applied-configuration", "sampan.dev/credential-sha256")


def head(page: Page, obj: Any, *, namespaced: bool = True) -> None:
    """Name and namespace."""
    page.field("Name", obj.metadata.name)
    if namespaced:
        page.field("Namespace", obj.metadata.namespace)


def marks(page: Page, obj: Any) -> None:
    """Labels and annotations."""
    page.mapping("Labels", obj.metadata.labels)
    page.mapping(
        "Annotations",
        {key: _short(text) for key, text in obj.metadata.annotations.items() if key not in _HIDDEN},
        sign=": ",
    )


def owner(page: Page, obj: Any) -> None:
    """The controller that manages the object, if one does."""
    for reference in obj.metadata.ownerReferences:
        if reference.controller:
            page.field("Controlled By", f"{reference.kind}/{reference.name}")


def quantities(page: Page, key: str, values: Mapping[str, Any]) -> None:
    """Amounts of resources: cpu, memory."""
    if values:
        with page.section(key):
            for name in sorted(values):
                page.field(name, values[name].value)


def conditions(page: Page, obj: Any) -> None:
    """The conditions of a status as a table."""
    if not obj.status.conditions:
        return
    with page.section("Conditions"):
        page.table(
            ("Type", "Status", "Reason", "Message"),
            [(c.type, c.status, c.reason, " ".join(c.message.split())) for c in obj.status.conditions],
        )


def events(page: Page, found: Sequence[Event], now: float) -> None:
    """The object's events, oldest first, with how often and over what time each was seen."""
    if not found:
        page.field("Events", NONE)
        return
    with page.section("Events"):
        page.table(
            ("Type", "Reason", "Age", "From", "Message"),
            [
                (event.type, event.reason, _span(event, now), event_columns.source(event).split(", ")[0],
                 event_columns.message(event))
                for event in sorted(found, key=event_columns.order)
            ],
        )  # fmt: skip


def _span(event: Event, now: float) -> str:
    last = event_columns.last_seen_age(event, now)
    times = event_columns.count(event)
    if times > 1 and is_set(event.firstTimestamp):
        return f"{last} (x{times} over {age(event.firstTimestamp, now)})"
    return last


def _short(text: str, longest: int = 200) -> str:
    return text if len(text) <= longest else text[:longest] + "…"
