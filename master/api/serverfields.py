"""What of an object only the server sets, and how large it may be; pure."""

from __future__ import annotations

from typing import Any

from common.errors import TooLarge
from common.kinds import NODE, POD, Kind
from master.api.validation import subject

MAX_OBJECT_BYTES = 1024 * 1024


def clear_server_fields(new: Any, kind: Kind) -> None:
    """A new object begins without them; only a node may bring its status along."""
    meta = new.metadata
    for field in ("uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp"):
        meta.ClearField(field)
    meta.ClearField("deletionGracePeriodSeconds")
    if kind.has_status and kind is not NODE:
        new.ClearField("status")
    if kind is POD:
        new.status.phase = "Pending"


def keep_server_fields(new: Any, old: Any, kind: Kind) -> None:
    """A change can't touch them: they, and the status, are those of the stored object."""
    meta, before = new.metadata, old.metadata
    meta.namespace = before.namespace
    for field in ("uid", "resourceVersion", "generation", "generateName"):
        setattr(meta, field, getattr(before, field))
    for field in ("creationTimestamp", "deletionTimestamp"):
        meta.ClearField(field)
        if before.HasField(field):
            getattr(meta, field).CopyFrom(getattr(before, field))
    meta.ClearField("deletionGracePeriodSeconds")
    if before.HasField("deletionGracePeriodSeconds"):
        meta.deletionGracePeriodSeconds = before.deletionGracePeriodSeconds
    if kind.has_status:
        new.ClearField("status")
        if old.HasField("status"):
            new.status.CopyFrom(old.status)


def check_size(obj: Any) -> None:
    """Raises TooLarge naming the size."""
    size = obj.ByteSize()
    if size > MAX_OBJECT_BYTES:
        raise TooLarge(f"{subject(obj)} is too large: {size} bytes, at most {MAX_OBJECT_BYTES} are stored")
