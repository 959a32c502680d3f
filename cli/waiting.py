"""Waiting on the master's watch until objects are gone or as wanted."""

from __future__ import annotations

import time
from collections.abc import Mapping

from cli import follow
from cli.client import Client, Listing
from cli.conditions import Wanted
from common.errors import NotFound, SampanError
from common.kinds import Kind
from common.manifest import to_manifest


class TimedOut(SampanError):
    """What was waited for did not happen in time."""


def deadline(seconds: float | None) -> float | None:
    """The end of a wait in time.monotonic() seconds; None or 0: wait without end."""
    return time.monotonic() + seconds if seconds else None


def until_gone(
    client: Client, kind: Kind, namespace: str, uids: Mapping[str, str], until: float | None, *, timeout: float | None
) -> None:
    """Returns when none of the objects (name -> uid) is there; one of the same name made anew does not count.

    Raises TimedOut.
    """
    fields = f"metadata.name={next(iter(uids))}" if len(uids) == 1 else ""
    start = client.list(kind, namespace, fields=fields)
    there = {obj.metadata.name: obj.metadata.uid for obj in start.items}
    left = {name for name, uid in uids.items() if there.get(name) == uid}
    if not left:
        return
    try:
        for change in follow.changes(client, kind, namespace, start, fields=fields, deadline=until):
            name = change.obj.metadata.name
            if name in left and (change.type == "DELETED" or change.obj.metadata.uid != uids[name]):
                left.discard(name)
                if not left:
                    return
    except TimeoutError:
        names = ", ".join(sorted(left)[:5]) + (", …" if len(left) > 5 else "")
        raise TimedOut(
            f"after {timeout:g} s still there: {kind.plural} {names} (deletion goes on; see `sampan describe`)"
        ) from None


def until_met(
    client: Client, kind: Kind, namespace: str, name: str, wanted: Wanted, until: float | None, *, timeout: float
) -> None:
    """Returns when the object is as wanted.

    Raises NotFound where it is not there or goes away and that is not what is waited for; TimedOut.
    """
    fields = f"metadata.name={name}"
    start = client.list(kind, namespace, fields=fields)
    missing = NotFound(f'{kind.resource} "{name}" not found')
    if not start.items and wanted.absent_is_error:
        raise missing
    if wanted.met(to_manifest(start.items[0]) if start.items else None):
        return
    if timeout <= 0:
        raise TimedOut(f"{kind.plural}/{name} is not there yet: {wanted.text}")
    try:
        _follow(client, kind, namespace, start, fields, wanted, until, missing)
    except TimeoutError:
        raise TimedOut(
            f"timed out after {timeout:g} s waiting for {wanted.text} on {kind.plural}/{name} "
            f"(see `sampan describe {kind.singular} {name}`)"
        ) from None


def _follow(
    client: Client,
    kind: Kind,
    namespace: str,
    start: Listing,
    fields: str,
    wanted: Wanted,
    until: float | None,
    missing: NotFound,
) -> None:
    uid = start.items[0].metadata.uid if start.items else ""
    for change in follow.changes(client, kind, namespace, start, fields=fields, deadline=until):
        replaced = wanted.gone and change.obj.metadata.uid != uid
        gone = change.type == "DELETED" or replaced
        if wanted.met(None if gone else to_manifest(change.obj)):
            return
        if gone and wanted.absent_is_error:
            raise missing
