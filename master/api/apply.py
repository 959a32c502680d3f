"""Apply: creates what is missing and merges what exists, remembering what was applied as `kubectl apply` does."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from common import kinds, manifest
from common.errors import AlreadyExists, BadRequest, Conflict, NotFound
from common.kinds import SECRET
from master.api.defaults import apply_defaults
from master.api.merge import Doc, three_way
from master.api.resources import ATTEMPTS, Resources, pause
from master.store.store import clone
from protos import control_pb2

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
# Longer than this, only the names of a map's entries are remembered: the merge needs no more of them.
_LONG = 100_000

CREATED = control_pb2.ApplyResponse.CREATED
CONFIGURED = control_pb2.ApplyResponse.CONFIGURED
UNCHANGED = control_pb2.ApplyResponse.UNCHANGED


@dataclass(frozen=True)
class Applied:
    """The object as it is now, and what was done to it."""

    obj: Any
    outcome: control_pb2.ApplyResponse.Outcome.ValueType
    warnings: tuple[str, ...] = ()


async def apply(resources: Resources, obj: Any, *, dry_run: bool = False) -> Applied:
    """Applies what a manifest said; raises as Resources.create and update do.

    A resourceVersion in it makes the apply fail with Conflict when the stored object has another.
    """
    obj = clone(obj)
    kind, meta = kinds.of(obj), obj.metadata
    if not meta.name:
        raise BadRequest(f"{kind.kind}: metadata.name is required to apply (generateName works with create only)")
    pinned, meta.resourceVersion = meta.resourceVersion, ""
    new = wanted(obj)
    text = remembered(new)
    for attempt in range(ATTEMPTS):
        try:
            live = resources.get(kind.kind, meta.namespace, meta.name)
        except NotFound:
            if pinned:
                raise
            try:
                return await _create(resources, obj, text, dry_run)
            except AlreadyExists:
                await pause(attempt)
                continue
        if pinned and pinned != live.metadata.resourceVersion:
            raise Conflict(
                f'{kind.resource} "{meta.name}" has been changed since revision {pinned} '
                f"(now {live.metadata.resourceVersion}); remove metadata.resourceVersion to apply anyway"
            )
        merged = manifest.from_manifest(merge(new, text, live), strict=False).message
        merged.metadata.resourceVersion = live.metadata.resourceVersion
        try:
            stored = await resources.update(merged, dry_run=dry_run)
        except (Conflict, NotFound):
            await pause(attempt)
            continue
        going = live.metadata.HasField("deletionTimestamp")
        warnings = (f"{kind.kind} {meta.name} is being deleted: it will go all the same",) if going else ()
        return Applied(stored, UNCHANGED if stored == live else CONFIGURED, warnings)
    raise Conflict(f'{kind.resource} "{meta.name}" is being changed by many at once: apply again')


async def _create(resources: Resources, obj: Any, text: str, dry_run: bool) -> Applied:
    first = clone(obj)
    first.metadata.annotations[LAST_APPLIED] = text
    return Applied(await resources.create(first, dry_run=dry_run), CREATED)


def wanted(obj: Any) -> Doc:
    """What the user wrote, as a manifest: without status and without what an earlier apply remembered."""
    copy = clone(obj)
    copy.metadata.annotations.pop(LAST_APPLIED, None)
    if kinds.of(obj) is SECRET:
        # stringData becomes data when stored: remembered under that name, its keys can be removed again.
        apply_defaults(copy)
    document = manifest.to_manifest(copy)
    document.pop("status", None)
    return document


def remembered(new: Doc) -> str:
    """The annotation's text. A Secret's values are not repeated in it."""
    text = json.dumps(new, sort_keys=True, separators=(",", ":"))
    if new["kind"] != SECRET.kind and len(text) <= _LONG:
        return text
    short = dict(new)
    for field in ("data", "binaryData"):
        if field in short:
            short[field] = dict.fromkeys(short[field], "")
    return json.dumps(short, sort_keys=True, separators=(",", ":"))


def merge(new: Doc, text: str, live: Any) -> Doc:
    """The manifest to store over `live`, with the annotation for the next time."""
    there = manifest.to_manifest(live)
    there.pop("status", None)
    annotations = there.get("metadata", {}).get("annotations", {})
    last = _parse(annotations.pop(LAST_APPLIED, ""))
    merged = three_way(live.DESCRIPTOR, last, new, there)
    merged["metadata"].setdefault("annotations", {})[LAST_APPLIED] = text
    return merged


def _parse(text: str) -> Doc:
    """Somebody may have spoilt the annotation: then nothing is known to be removed."""
    try:
        last = json.loads(text) if text else {}
    except ValueError:
        return {}
    return last if isinstance(last, dict) else {}
