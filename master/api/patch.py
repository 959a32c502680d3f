"""Patch: changes part of a stored object, by one of Kubernetes' three kinds of patch."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jsonpatch
import jsonpointer

from common import kinds, manifest, yamldoc
from common.errors import BadRequest, Conflict, Fault, Invalid
from common.kinds import Kind
from master.api.merge import Doc
from master.api.resources import ATTEMPTS, Resources, pause
from master.api.strategic import strategic
from protos import control_pb2

STRATEGIC = control_pb2.PatchRequest.STRATEGIC
MERGE = control_pb2.PatchRequest.MERGE
JSON = control_pb2.PatchRequest.JSON
# Of a JSON patch (RFC 6902).
OPERATIONS = ("add", "remove", "replace", "move", "copy", "test")
# What makes an object this object.
_FIXED = ("apiVersion", "kind")


@dataclass(frozen=True)
class Patched:
    """The object as it is now; `changed` is False when the patch asked for what was there."""

    obj: Any
    changed: bool
    warnings: tuple[str, ...] = ()


def read(text: str, how: control_pb2.PatchRequest.Type.ValueType) -> Any:
    """The patch from YAML or JSON text: a mapping, or a list of operations for a JSON patch.

    Raises BadRequest or YamlError.
    """
    if not text.strip():
        raise BadRequest("patch: is required: the change as YAML or JSON")
    if how == JSON:
        # A document is a mapping for the reader, which finds the same faults in a list that stands in one.
        flow = text.lstrip().startswith(("[", "{"))
        value = _document(f'{{"operations": {text}}}' if flow else f"operations:\n{text}")["operations"]
        if not isinstance(value, list):
            raise BadRequest(
                "patch: a JSON patch is a list of operations, "
                'like [{"op": "replace", "path": "/spec/replicas", "value": 3}]'
            )
        return value
    return _document(text)


def _document(text: str) -> Doc:
    documents = yamldoc.load(text, "patch")
    if len(documents) != 1:
        raise BadRequest(f"patch: must be one document, got {len(documents)}")
    return documents[0].value


def merge_patch(live: Any, patch: Any) -> Any:
    """RFC 7386: mappings merge, null removes, everything else replaces."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(live) if isinstance(live, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def json_patch(live: Doc, operations: list[Any]) -> Doc:
    """RFC 6902. Raises Invalid naming the operation that does not fit; a failed `test` is a Conflict."""
    document: Any = copy.deepcopy(live)
    for number, operation in enumerate(operations):
        try:
            document = jsonpatch.JsonPatch([operation]).apply(document)
        except jsonpatch.JsonPatchTestFailed as error:
            raise Conflict(f"patch[{number}]: the test failed, nothing was changed: {_words(error)}") from None
        except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException, TypeError) as error:
            raise Invalid("patch", (Fault(f"[{number}]", _unfit(operation, error)),)) from None
    if not isinstance(document, dict):
        raise Invalid("patch", (Fault("", "would replace the whole object by something else"),))
    return document


def patched(kind: Kind, live: Doc, patch: Any, how: control_pb2.PatchRequest.Type.ValueType) -> Doc:
    """The manifest after the patch. Raises Invalid, Conflict, BadRequest."""
    if how == JSON:
        result = json_patch(live, patch)
    elif how == MERGE:
        result = merge_patch(live, patch)
    elif how == STRATEGIC:
        result = strategic(kind.message.DESCRIPTOR, live, patch)
    else:
        raise BadRequest("type: must be STRATEGIC, MERGE or JSON")
    faults = [Fault(key, f"must stay {live[key]}") for key in _FIXED if result.get(key) != live[key]]
    faults += [
        Fault(f"metadata.{key}", f"must stay {value!r}")
        for key in ("name", "namespace", "uid")
        if (value := live["metadata"].get(key)) and (result.get("metadata") or {}).get(key) != value
    ]
    if faults:
        raise Invalid("patch", tuple(faults))
    return result


async def patch(resources: Resources, request: control_pb2.PatchRequest, kind: Kind) -> Patched:
    """Reads, patches and writes by compare-and-swap, again when somebody was faster.

    A metadata.resourceVersion in the patch makes it fail with Conflict when the object has another. Raises NotFound
    and as Resources.update does.
    """
    what = read(request.patch, request.type)
    namespace = request.namespace or "default"
    for attempt in range(ATTEMPTS):
        live = resources.get(kind.kind, namespace, request.name)
        decoded = manifest.from_manifest(patched(kind, manifest.to_manifest(live), what, request.type))
        wanted = decoded.message
        pinned = wanted.metadata.resourceVersion not in ("", live.metadata.resourceVersion)
        if not pinned:
            wanted.metadata.resourceVersion = live.metadata.resourceVersion
        change = resources.update_status if request.status else resources.update
        try:
            stored = await change(wanted, dry_run=request.dry_run)
        except Conflict:
            if pinned:
                raise
            await pause(attempt)
            continue
        # A warning about a field that was there before is not about this patch.
        old = manifest.from_manifest(manifest.to_manifest(live), strict=False).warnings
        return Patched(stored, stored != live, tuple(text for text in decoded.warnings if text not in old))
    raise Conflict(
        f'{kinds.by_kind(kind.kind).resource} "{request.name}" is being changed by many at once: patch again'
    )


def _unfit(operation: Any, error: Exception) -> str:
    """What is wrong with an operation of a JSON patch, with its path or with what it may be."""
    if not isinstance(operation, Mapping) or operation.get("op") not in OPERATIONS:
        found = operation.get("op") if isinstance(operation, Mapping) else operation
        return f"op must be one of {', '.join(OPERATIONS)}, got {json.dumps(found)}"
    return f"{operation['op']} {operation.get('path', '(no path)')}: {_words(error)}"


def _words(error: Exception) -> str:
    return " ".join(str(error).split())
