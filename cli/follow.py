"""Watching on through what comes between: a restart of the master, a cut connection, a revision that is too old."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from cli.client import Change, Client, Listing
from common.backoff import Backoff
from common.errors import Expired, Unavailable
from common.kinds import Kind

# How long a watch may find no master before it gives up, in seconds.
_PATIENCE = 60.0


def changes(
    client: Client,
    kind: Kind,
    namespace: str,
    start: Listing,
    *,
    labels: str = "",
    fields: str = "",
    deadline: float | None = None,
) -> Iterator[Change]:
    """Every change after `start`, without end, each once; bookmarks are left out.

    `deadline` is in time.monotonic() seconds; past it TimeoutError is raised. Raises Unavailable after a minute
    without a master. After a gap the difference to what was seen last is told.
    """
    seen: dict[tuple[str, str], Any] = {_key(obj): obj for obj in start.items}
    revision, backoff = start.revision, Backoff(0.2, 2.0)
    lost_at: float | None = None
    while True:
        remaining = None if deadline is None else deadline - time.monotonic()
        if remaining is not None and remaining <= 0:
            raise TimeoutError
        try:
            if not revision:
                found = client.list(kind, namespace, labels=labels, fields=fields)
                yield from difference(seen, found)
                seen = {_key(obj): obj for obj in found.items}
                revision = found.revision
            stream = client.watch(kind, namespace, labels=labels, fields=fields, revision=revision, timeout=remaining)
            for change in stream:
                lost_at = None
                backoff.reset()
                revision = change.revision or revision
                if change.obj is None:
                    continue
                if change.type == "DELETED":
                    seen.pop(_key(change.obj), None)
                else:
                    seen[_key(change.obj)] = change.obj
                yield change
        except Expired:
            revision = ""
            continue
        except Unavailable:
            lost_at = lost_at or time.monotonic()
            if time.monotonic() - lost_at > _PATIENCE:
                raise
        # The stream ended in good order (the master stops) or broke: try again in a moment.
        pause = next(backoff)
        time.sleep(pause if deadline is None else max(0.0, min(pause, deadline - time.monotonic())))


def difference(seen: dict[tuple[str, str], Any], found: Listing) -> Iterator[Change]:
    """The changes that lead from what was seen to what is there."""
    there = {_key(obj) for obj in found.items}
    for key, obj in seen.items():
        if key not in there:
            yield Change("DELETED", obj, found.revision)
    for obj in found.items:
        known = seen.get(_key(obj))
        if known is None or known.metadata.uid != obj.metadata.uid:
            yield Change("ADDED", obj, found.revision)
        elif known.metadata.resourceVersion != obj.metadata.resourceVersion:
            yield Change("MODIFIED", obj, found.revision)


def _key(obj: Any) -> tuple[str, str]:
    return obj.metadata.namespace, obj.metadata.name
