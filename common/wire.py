"""Kubernetes' protobuf bytes: the envelope, Go's zero values, and fields that have no place here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

from google.protobuf import unknown_fields
from google.protobuf.message import DecodeError, Message

from common.errors import BadRequest, Fault
from common.schema import Field, Shape, schema_of
from common.support import REFUSAL, join
from protos import meta_pb2, options_pb2

MAGIC = b"k8s\x00"
# Wire types whose data is a number or bytes; a message arrives as bytes.
_EMPTY: tuple[object, ...] = (0, b"")


@dataclass(frozen=True)
class Envelope:
    """An object that travels as bytes, with the type its sender named."""

    api_version: str
    kind: str
    raw: bytes


def unwrap(body: bytes) -> Envelope:
    """Opens a protobuf request body. Raises BadRequest when it is none."""
    if not body.startswith(MAGIC):
        raise BadRequest("a protobuf body must begin with the bytes k8s and zero")
    unknown = meta_pb2.Unknown()
    parse(unknown, body[len(MAGIC) :])
    if unknown.contentEncoding:
        raise BadRequest(f'contentEncoding "{unknown.contentEncoding}" is not known: send the object as it is')
    return Envelope(unknown.typeMeta.apiVersion, unknown.typeMeta.kind, unknown.raw)


def wrap(api_version: str, kind: str, message: Message) -> bytes:
    """A protobuf body as Kubernetes clients send and read it."""
    envelope = meta_pb2.Unknown(
        typeMeta=meta_pb2.TypeMeta(apiVersion=api_version, kind=kind), raw=message.SerializeToString()
    )
    return MAGIC + envelope.SerializeToString()


def parse(message: Message, data: bytes) -> None:
    """Reads the bytes into the message. Raises BadRequest when they are not of its shape."""
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise BadRequest(f"the bytes are no protobuf message {message.DESCRIPTOR.name}") from error


def normalise(message: Message) -> Message:
    """Drops what Go sends for unset (empty times, empty plain structs), in place; returns the message.

    An empty message that means something (``emptyDir: {}``) stays.
    """
    by_name = schema_of(message.DESCRIPTOR).by_name
    for descriptor, content in message.ListFields():
        field = by_name[descriptor.name]
        if field.child is not None:
            for child in _children(field, content):
                normalise(child)
        # Presence of an empty time or plain struct is an accident of Go's encoder.
        if not (field.shape is Shape.TIME or field.zero_is_unset) or field.repeated or field.is_map:
            continue
        if content.ByteSize() == 0 or (field.shape is Shape.QUANTITY and content.value in ("", "0")):
            message.ClearField(field.name)
    return message


def take_unknown(message: Message) -> tuple[tuple[Fault, ...], tuple[str, ...]]:
    """Removes fields the schema has no place for; the faults and warnings they are worth.

    An empty one means unset and is worth nothing.
    """
    faults: list[Fault] = []
    warnings: list[str] = []
    _look(message, "", faults, warnings)
    message.DiscardUnknownFields()
    return tuple(faults), tuple(warnings)


def _look(message: Message, path: str, faults: list[Fault], warnings: list[str]) -> None:
    schema = schema_of(message.DESCRIPTOR)
    for item in cast(Iterable[Any], unknown_fields.UnknownFieldSet(message)):
        if item.data in _EMPTY:
            continue
        known = schema.known_numbers.get(item.field_number)
        if known is not None and known.level == options_pb2.REFUSED:
            faults.append(Fault(join(path, known.name), REFUSAL))
        elif known is not None:
            warnings.append(f"{join(path, known.name)}: is not kept")
        elif not any(item.field_number in numbers for numbers in schema.reserved):
            faults.append(Fault(path, f"{schema.name} has no protobuf field {item.field_number}"))
    for descriptor, content in message.ListFields():
        field = schema.by_name[descriptor.name]
        if field.child is None:
            continue
        here = path if field.inline else join(path, field.json_name)
        for index, child in enumerate(_children(field, content)):
            _look(child, f"{here}[{index}]" if field.repeated else here, faults, warnings)


def _children(field: Field, content: Any) -> list[Any]:
    if field.repeated:
        return list(content)
    return list(content.values()) if field.is_map else [content]
