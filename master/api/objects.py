"""Between the control service's `Object` and a resource message, generic over the table of kinds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from common import kinds, manifest, support, yamldoc
from common.errors import BadRequest
from common.kinds import KINDS, Kind
from protos import control_pb2

MANIFEST = "manifest"


@dataclass(frozen=True)
class Given:
    """One object of a request: a copy that may be changed. `warnings` are for the user."""

    message: Any
    kind: Kind
    warnings: tuple[str, ...]


def pack(obj: Any) -> control_pb2.Object:
    """A resource as the control service answers it."""
    packed = control_pb2.Object()
    pack_into(packed, obj)
    return packed


def pack_into(packed: control_pb2.Object, obj: Any) -> None:
    """The same where there is an empty answer already: in a list, which would copy each a second time."""
    getattr(packed, kinds.of(obj).singular).CopyFrom(obj)


def unpack(obj: control_pb2.Object, namespace: str = "") -> Given:
    """The one resource in a request; `namespace` is used where it is namespaced and names none.

    Raises BadRequest when there is none or a list, ManifestError or YamlError for bad manifest text.
    """
    chosen = obj.WhichOneof("object")
    if chosen is None:
        names = ", ".join(kind.singular for kind in KINDS)
        raise BadRequest(f"object: must hold one of {names}, or manifest (YAML or JSON text)")
    if chosen == MANIFEST:
        given = _from_text(obj.manifest)
    else:
        message = type(getattr(obj, chosen))()
        message.CopyFrom(getattr(obj, chosen))
        manifest.normalise(message)
        given = Given(message, kinds.of(message), support.check(message)[1])
    meta = given.message.metadata
    if given.kind.namespaced:
        meta.namespace = meta.namespace or namespace or "default"
    return given


def _from_text(text: str) -> Given:
    documents = yamldoc.load(text, MANIFEST)
    if not documents:
        raise BadRequest("manifest: is empty: it must hold one object (apiVersion, kind, metadata, ...)")
    if len(documents) > 1:
        raise BadRequest(
            f"manifest: must hold one object, holds {len(documents)} (the second starts at line {documents[1].line}): "
            "send them one by one, or use `sampan apply -f FILE`"
        )
    document = documents[0].value
    kind = document.get("kind")
    if isinstance(kind, str) and kind.endswith("List"):
        raise BadRequest(f"manifest: is a {kind}: send its items one by one, or use `sampan apply -f FILE`")
    decoded = manifest.from_manifest(document)
    return Given(decoded.message, decoded.kind, decoded.warnings)
