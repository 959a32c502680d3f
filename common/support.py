"""Which set fields of an object Sampan refuses, and which it accepts without acting on them.

The rules stand in the .proto files. They speak about messages, so that every face (manifest, protobuf, gRPC)
gets the same answer.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

from common.errors import Fault
from common.schema import Field, Shape, has_rules, schema_of
from protos import options_pb2

REFUSAL = "is not supported yet by Sampan"
WARNING = "is accepted but not acted on yet"


def check(message: Message) -> tuple[tuple[Fault, ...], tuple[str, ...]]:
    """The refusals and the warnings about a message, each with its full path."""
    faults: list[Fault] = []
    warnings: list[str] = []
    _walk(message, "", faults, warnings)
    return tuple(faults), tuple(warnings)


def _walk(message: Message, path: str, faults: list[Fault], warnings: list[str]) -> None:
    if not has_rules(message.DESCRIPTOR):
        return
    by_name = schema_of(message.DESCRIPTOR).by_name
    for descriptor, content in message.ListFields():
        field = by_name[descriptor.name]
        here = path if field.inline else join(path, field.json_name)
        items = _items(field, content, here)
        for rule in field.rules:
            # A list or map of messages is one subject; a list of scalars is judged item by item.
            subjects = items if field.shape is not Shape.MESSAGE else [(here, content)]
            for where, item in subjects:
                _judge(rule, where, item, field.shape, faults, warnings)
        if field.shape is Shape.MESSAGE and not any(rule.level == options_pb2.REFUSED for rule in field.rules):
            for where, item in items:
                _walk(item, where, faults, warnings)


def _items(field: Field, content: Any, path: str) -> list[tuple[str, Any]]:
    if field.is_map:
        return [(f"{path}[{key}]", content[key]) for key in sorted(content)]
    if field.repeated:
        return [(f"{path}[{index}]", item) for index, item in enumerate(content)]
    return [(path, content)]


def _judge(
    rule: options_pb2.Support,
    path: str,
    item: Any,
    shape: Shape,
    faults: list[Fault],
    warnings: list[str],
) -> None:
    text = _text(item) if shape in (Shape.TEXT, Shape.BOOL, Shape.INT32, Shape.INT64) else None
    if text is not None and (text == "" or text in rule.unless or (rule.only and text not in rule.only)):
        return
    if rule.level == options_pb2.REFUSED:
        faults.append(Fault(path, rule.note or _refusal(rule, text, shape)))
    elif rule.level == options_pb2.WARN:
        warnings.append(f"{path}: {rule.note or WARNING}")


def _refusal(rule: options_pb2.Support, text: str | None, shape: Shape) -> str:
    if text is None or not rule.unless:
        return REFUSAL
    quote = '"' if shape is Shape.TEXT else ""
    allowed = " or ".join(f"{quote}{value}{quote}" for value in rule.unless)
    return f"{quote}{text}{quote} {REFUSAL}, only {allowed}"


def _text(item: Any) -> str:
    if isinstance(item, bool):
        return "true" if item else "false"
    return str(item)


def join(path: str, name: str) -> str:
    """A field's path below another's; the root is empty."""
    return f"{path}.{name}" if path else name
