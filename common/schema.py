"""What the descriptors say about each message, read once: shapes of fields, inlining, support rules."""

from __future__ import annotations

import enum
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto

from protos import options_pb2


class Shape(enum.Enum):
    """How one value of a field looks in a manifest."""

    TEXT = "text"
    BYTES = "base64 text"
    INT32 = "integer"
    INT64 = "integer (64 bit)"
    BOOL = "true or false"
    TIME = "time"
    QUANTITY = "quantity"
    INT_OR_STRING = "integer or text"
    OBJECT = "any mapping"
    MESSAGE = "mapping"


_MESSAGES = {
    "google.protobuf.Timestamp": Shape.TIME,
    "google.protobuf.StringValue": Shape.QUANTITY,
    "sampan.v1.IntOrString": Shape.INT_OR_STRING,
    "sampan.v1.RawExtension": Shape.OBJECT,
}
_SCALARS = {
    FieldDescriptor.TYPE_STRING: Shape.TEXT,
    FieldDescriptor.TYPE_BYTES: Shape.BYTES,
    FieldDescriptor.TYPE_INT32: Shape.INT32,
    FieldDescriptor.TYPE_INT64: Shape.INT64,
    FieldDescriptor.TYPE_BOOL: Shape.BOOL,
}


@dataclass(frozen=True)
class Field:
    """One field of one message. ``shape`` is that of an item for lists, of a value for maps."""

    name: str
    json_name: str
    number: int
    shape: Shape
    repeated: bool
    is_map: bool
    # True where "not set" differs from zero: messages, and scalars marked optional.
    presence: bool
    inline: bool
    zero_is_unset: bool
    shown: bool
    micro: bool
    merge_key: str | None
    rules: tuple[options_pb2.Support, ...]
    # The message of items or values whose shape is MESSAGE.
    child: Descriptor | None


@dataclass(frozen=True)
class Schema:
    """One message. ``by_name`` holds its own fields, ``names`` every manifest key, also of
    inlined messages, with the way to its field."""

    name: str
    fields: tuple[Field, ...]
    by_name: Mapping[str, Field]
    names: Mapping[str, tuple[tuple[str, ...], Field]]
    known: Mapping[str, options_pb2.Known]
    known_numbers: Mapping[int, options_pb2.Known]
    reserved: tuple[range, ...]


@functools.cache
def schema_of(descriptor: Descriptor) -> Schema:
    """The schema of a message. Raises TypeError for a field type no manifest has."""
    fields = tuple(_field(field) for field in descriptor.fields)
    names: dict[str, tuple[tuple[str, ...], Field]] = {}
    known = {item.name: item for item in descriptor.GetOptions().Extensions[options_pb2.known]}
    numbers = {item.number: item for item in known.values()}
    for field in fields:
        if not field.inline:
            names[field.json_name] = ((), field)
            continue
        assert field.child is not None
        inner = schema_of(field.child)
        known.update(inner.known)
        for key, (way, inlined) in inner.names.items():
            names[key] = ((field.name, *way), inlined)
    proto = DescriptorProto()
    descriptor.CopyToProto(proto)
    reserved = tuple(range(item.start, item.end) for item in proto.reserved_range)
    by_name = {field.name: field for field in fields}
    return Schema(descriptor.name, fields, by_name, names, known, numbers, reserved)


def walk(descriptor: Descriptor) -> Iterator[Descriptor]:
    """Every message reachable from this one, each once, itself first."""
    seen: set[str] = set()
    todo = [descriptor]
    while todo:
        current = todo.pop()
        if current.full_name in seen:
            continue
        seen.add(current.full_name)
        yield current
        todo.extend(field.child for field in schema_of(current).fields if field.child is not None)


@functools.cache
def has_rules(descriptor: Descriptor) -> bool:
    """True when a support rule stands anywhere below this message."""
    return any(field.rules for message in walk(descriptor) for field in schema_of(message).fields)


def _field(field: FieldDescriptor) -> Field:
    options = field.GetOptions()
    marks = options.Extensions
    message: Descriptor | None = field.message_type
    is_map = message is not None and message.GetOptions().map_entry
    value: FieldDescriptor = message.fields_by_name["value"] if message is not None and is_map else field
    shape = _shape(value)
    merge_key: Any = marks[options_pb2.merge_key]
    return Field(
        name=field.name,
        json_name=field.json_name,
        number=field.number,
        shape=shape,
        repeated=bool(field.is_repeated) and not is_map,
        is_map=is_map,
        presence=field.has_presence,
        inline=marks[options_pb2.inline],
        zero_is_unset=marks[options_pb2.zero_is_unset] or marks[options_pb2.inline],
        shown=marks[options_pb2.shown],
        micro=marks[options_pb2.micro],
        merge_key=merge_key if options.HasExtension(options_pb2.merge_key) else None,
        rules=tuple(marks[options_pb2.support]),
        child=value.message_type if shape is Shape.MESSAGE else None,
    )


def _shape(field: FieldDescriptor) -> Shape:
    if field.message_type is not None:
        return _MESSAGES.get(field.message_type.full_name, Shape.MESSAGE)
    if field.type not in _SCALARS:
        raise TypeError(f"{field.full_name}: a manifest has no such type")
    return _SCALARS[field.type]
