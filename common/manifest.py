"""The one codec between messages and Kubernetes manifests, driven by the descriptors.

Reading finds all faults at once, each with its full path. Writing drops what is unset. What a field may hold
beyond its type is not judged here but in the API's validation.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from common import kinds, scalars, support, wire
from common.errors import Fault, Invalid
from common.kinds import Kind, Resource
from common.schema import Field, Schema, Shape, schema_of
from common.support import REFUSAL, join
from protos import options_pb2

_READERS: dict[Shape, Callable[[object], Any]] = {
    Shape.TEXT: scalars.read_text,
    Shape.BYTES: scalars.read_bytes,
    Shape.INT32: scalars.read_int32,
    Shape.INT64: scalars.read_int64,
    Shape.BOOL: scalars.read_bool,
    Shape.TIME: scalars.read_time,
    Shape.QUANTITY: scalars.read_quantity,
    Shape.INT_OR_STRING: scalars.read_int_or_string,
    Shape.OBJECT: scalars.read_object,
}
# Go reads null in these maps as the empty value.
_NULLS: dict[Shape, object] = {Shape.TEXT: "", Shape.BYTES: ""}
_DEEPEST_LIST = 8


class ManifestError(Invalid):
    """A manifest that cannot be read; ``faults`` lists everything wrong with it."""

    def __init__(self, faults: tuple[Fault, ...], subject: str = "manifest") -> None:
        super().__init__(subject, faults)


@dataclass(frozen=True)
class Decoded:
    """A manifest that was read. ``warnings`` are sentences for the user, each with its field's path."""

    message: Resource
    kind: Kind
    warnings: tuple[str, ...]


@dataclass
class _Findings:
    faults: list[Fault]
    warnings: list[str]
    strict: bool

    def fault(self, path: str, message: str) -> None:
        self.faults.append(Fault(path, message))


def to_manifest(message: Message, *, kind: Kind | None = None) -> dict[str, Any]:
    """A message as a manifest: plain dicts, lists, texts, numbers and booleans.

    A resource, or a list of them, opens with apiVersion and kind; any other message has only its fields.
    """
    header: dict[str, Any] = {}
    kind = kind or kinds.find(message)
    listed = kinds.find_list(message)
    if kind is not None:
        header = {"apiVersion": kind.api_version, "kind": kind.kind}
    elif listed is not None:
        header = {"apiVersion": listed.api_version, "kind": f"{listed.kind}List"}
    return header | _write(message)


def from_manifest(doc: Mapping[Any, Any], *, strict: bool = True) -> Decoded:
    """Reads one object. Raises ManifestError with every fault in it.

    With ``strict=False`` fields nobody knows are warnings. Values are those a YAML or JSON parser gives;
    null means unset.
    """
    findings = _Findings([], [], strict)
    kind = _kind_of(doc, findings)
    if kind is None:
        raise ManifestError(tuple(findings.faults), "")
    message = kind.message()
    body = {key: value for key, value in doc.items() if key not in ("apiVersion", "kind")}
    _read(message, body, "", findings)
    return _finish(message, kind, findings)


def read_into(message: Message, doc: object, path: str = "") -> tuple[str, ...]:
    """Reads a mapping into any message (delete options, a selector); returns warnings.

    Raises ManifestError with paths below ``path``.
    """
    findings = _Findings([], [], strict=True)
    _read(message, doc, path, findings)
    if findings.faults:
        raise ManifestError(tuple(findings.faults))
    wire.normalise(message)
    return tuple(findings.warnings)


def decode_protobuf(body: bytes) -> Decoded:
    """Reads a protobuf request body as kubectl sends it. Raises BadRequest, UnknownKind or ManifestError."""
    envelope = wire.unwrap(body)
    kind = kinds.by_type(envelope.api_version, envelope.kind)
    message = kind.message()
    wire.parse(message, envelope.raw)
    faults, warnings = wire.take_unknown(message)
    return _finish(message, kind, _Findings(list(faults), list(warnings), strict=True))


def normalise(message: Message) -> Message:
    """See wire.normalise."""
    return wire.normalise(message)


def expand(doc: Mapping[Any, Any], *, depth: int = 0) -> tuple[Mapping[Any, Any], ...]:
    """The objects in a document: the items of a List (or PodList and the like), otherwise the document itself.

    Raises ManifestError when a list's items are not mappings. ``depth`` is for its own calls.
    """
    name, items = doc.get("kind"), doc.get("items")
    if not isinstance(name, str) or not name.endswith("List") or ("items" not in doc and name != "List"):
        return (doc,)
    if depth > _DEEPEST_LIST:
        raise ManifestError((Fault("items", "lists in lists in lists: put the objects into one list"),), name)
    items = [] if items is None else items
    if not isinstance(items, list):
        raise ManifestError((Fault("items", f"must be a list, got {scalars.got(items)}"),), name)
    faults = tuple(
        Fault(f"items[{index}]", f"must be a mapping, got {scalars.got(item)}")
        for index, item in enumerate(items)
        if not isinstance(item, Mapping)
    )
    if faults:
        raise ManifestError(faults, name)
    # A typed list need not repeat the type in every item.
    typed = {} if name == "List" else {"apiVersion": doc.get("apiVersion"), "kind": name.removesuffix("List")}
    return tuple(found for item in items for found in expand({**typed, **item}, depth=depth + 1))


def _finish(message: Resource, kind: Kind, findings: _Findings) -> Decoded:
    wire.normalise(message)
    refused, warned = support.check(message)
    faults = (*findings.faults, *refused)
    if faults:
        name = message.metadata.name or message.metadata.generateName
        raise ManifestError(faults, f'{kind.kind} "{name}"' if name else kind.kind)
    return Decoded(message, kind, (*findings.warnings, *warned))


def _kind_of(doc: Mapping[Any, Any], findings: _Findings) -> Kind | None:
    """The kind the document names; None, with faults, when what follows cannot be read either."""
    api_version, name = doc.get("apiVersion"), doc.get("kind")
    for key, value in (("apiVersion", api_version), ("kind", name)):
        if value is None:
            findings.fault(key, f"must be set, for instance {'v1' if key == 'apiVersion' else 'Pod'}")
        elif not isinstance(value, str):
            findings.fault(key, f"must be text, got {scalars.got(value)}")
    if not isinstance(name, str):
        return None
    try:
        if isinstance(api_version, str):
            return kinds.by_type(api_version, name)
        return kinds.by_kind(name)
    except kinds.UnknownKind as error:
        findings.fault("", str(error))
        return None


def _read(message: Message, doc: object, path: str, findings: _Findings) -> None:
    if not isinstance(doc, Mapping):
        findings.fault(path, f"must be a mapping, got {scalars.got(doc)}")
        return
    schema = schema_of(message.DESCRIPTOR)
    for key, value in doc.items():
        if not isinstance(key, str):
            findings.fault(path, f"field names must be text, got {scalars.got(key)}")
            continue
        if not scalars.is_utf8(key):
            findings.fault(path, "field names must be valid UTF-8 text")
            continue
        entry = schema.names.get(key)
        if entry is None:
            _stranger(schema, key, value, join(path, key), findings)
        elif value is not None:
            way, field = entry
            target = message
            for step in way:
                target = getattr(target, step)
            _read_field(target, field, value, join(path, key), findings)


def _stranger(schema: Schema, key: str, value: object, path: str, findings: _Findings) -> None:
    """A key that is no field here: one of Kubernetes' others, or a mistake."""
    known = schema.known.get(key)
    if known is not None and value in (None, "", [], {}, 0, False):
        return
    if known is not None and known.level == options_pb2.REFUSED:
        findings.fault(path, REFUSAL)
    elif known is not None:
        findings.warnings.append(f"{path}: is not kept")
    else:
        lower = {name.lower(): name for name in (*schema.names, *schema.known)}
        close = difflib.get_close_matches(key.lower(), lower, n=1)
        text = "unknown field" + (f', did you mean "{lower[close[0]]}"?' if close else "")
        if findings.strict:
            findings.fault(path, text)
        else:
            findings.warnings.append(f"{path}: {text}")


def _read_field(message: Message, field: Field, value: object, path: str, findings: _Findings) -> None:
    if field.is_map:
        _read_map(message, field, value, path, findings)
    elif field.repeated:
        _read_list(message, field, value, path, findings)
    elif field.shape is Shape.MESSAGE:
        child = getattr(message, field.name)
        child.SetInParent()
        _read(child, value, path, findings)
    else:
        result = _scalar(field.shape, value, path, findings)
        if isinstance(result, Message):
            getattr(message, field.name).CopyFrom(result)
            # CopyFrom an empty one leaves no trace of presence.
            getattr(message, field.name).SetInParent()
        elif result is not None:
            setattr(message, field.name, result)


def _read_list(message: Message, field: Field, value: object, path: str, findings: _Findings) -> None:
    if not isinstance(value, list | tuple):
        findings.fault(path, f"must be a list, got {scalars.got(value)}")
        return
    items = getattr(message, field.name)
    for index, item in enumerate(value):
        here = f"{path}[{index}]"
        if field.shape is Shape.MESSAGE:
            _read(items.add(), item, here, findings)
            continue
        result = _scalar(field.shape, item, here, findings)
        if result is not None:
            items.append(result)


def _read_map(message: Message, field: Field, value: object, path: str, findings: _Findings) -> None:
    if not isinstance(value, Mapping):
        findings.fault(path, f"must be a mapping, got {scalars.got(value)}")
        return
    entries = getattr(message, field.name)
    for key, item in value.items():
        here = f"{path}[{key}]"
        if not isinstance(key, str):
            findings.fault(here, f'keys must be text: put it in quotes, "{scalars.got(key)}"')
            continue
        if not scalars.is_utf8(key):
            findings.fault(path, "keys must be valid UTF-8 text")
            continue
        item = _NULLS.get(field.shape) if item is None else item
        if item is None:
            continue
        result = _scalar(field.shape, item, here, findings)
        if isinstance(result, Message):
            entries[key].CopyFrom(result)
        elif result is not None:
            entries[key] = result


def _scalar(shape: Shape, value: object, path: str, findings: _Findings) -> Any:
    """The value, or None after noting a fault."""
    try:
        return _READERS[shape](value)
    except ValueError as error:
        findings.fault(path, str(error))
        return None


def _write(message: Message) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for field in schema_of(message.DESCRIPTOR).fields:
        content = getattr(message, field.name)
        if field.is_map:
            if content:
                result[field.json_name] = {key: _write_value(field, content[key]) for key in sorted(content)}
        elif field.repeated:
            if content or field.shown:
                result[field.json_name] = [_write_value(field, item) for item in content]
        elif field.presence and not message.HasField(field.name):
            continue
        elif field.inline:
            result |= _write(content)
        elif _is_shown(field, content):
            value = _write_value(field, content)
            if not (field.zero_is_unset and value == {}):
                result[field.json_name] = value
    return result


def _is_shown(field: Field, content: Any) -> bool:
    if field.shape is Shape.TIME:
        return bool(content.seconds or content.nanos)
    if field.shape is Shape.QUANTITY:
        return not (field.zero_is_unset and content.value in ("", "0"))
    if field.shape is Shape.INT_OR_STRING:
        return not field.zero_is_unset or content.ByteSize() > 0
    return field.presence or field.shown or bool(content)


def _write_value(field: Field, value: Any) -> Any:
    match field.shape:
        case Shape.MESSAGE:
            return _write(value)
        case Shape.TIME:
            return scalars.write_time(value, field.micro)
        case Shape.QUANTITY:
            return scalars.write_quantity(value)
        case Shape.INT_OR_STRING:
            return scalars.write_int_or_string(value)
        case Shape.OBJECT:
            return scalars.write_object(value)
        case Shape.BYTES:
            return scalars.write_bytes(value)
        case _:
            return value
