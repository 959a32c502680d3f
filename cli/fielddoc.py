"""`explain KIND.FIELD`: what a field is, from the schema and the words beside it in protos/.

The sources of the messages are installed beside their code; their comments are what a reader of the contract reads.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Sequence
from importlib import resources

from google.protobuf.descriptor import Descriptor

from common import kinds
from common.errors import BadRequest
from common.kinds import Kind
from common.schema import Field, Shape, schema_of
from protos import options_pb2

_MESSAGE = re.compile(r"message (\w+) \{")
_FIELD = re.compile(r"(?:optional |repeated )?[\w.<>, ]+? (\w+) = \d+")
_WORDS = {
    Shape.TEXT: "string",
    Shape.BYTES: "string (base64)",
    Shape.INT32: "integer",
    Shape.INT64: "integer",
    Shape.BOOL: "boolean",
    Shape.TIME: "string (time)",
    Shape.QUANTITY: "Quantity",
    Shape.INT_OR_STRING: "IntOrString",
    Shape.OBJECT: "Object",
}


@functools.cache
def comments() -> dict[str, str]:
    """The words before each message ("Pod") and each field ("PodSpec.nodeName") of the contract."""
    found: dict[str, str] = {}
    for file in resources.files("protos").iterdir():
        if file.name.endswith(".proto"):
            found |= _comments(file.read_text(encoding="utf-8"))
    return found


def _comments(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    message, words = "", list[str]()
    for line in map(str.strip, text.splitlines()):
        if line.startswith("//"):
            words.append(line.removeprefix("//").strip())
            continue
        opening = _MESSAGE.match(line)
        if opening is not None:
            message = opening[1]
            key = message
        else:
            field = _FIELD.match(line)
            key = f"{message}.{field[1]}" if field is not None and message else ""
        if key and words:
            found[key] = " ".join(words)
        words = []
    return found


def page(path: str, *, recursive: bool = False) -> str:
    """The page on "pods", "pods.spec.containers" and so on. Raises UnknownKind, BadRequest naming the wrong part."""
    kind, steps = _kind(path)
    descriptor: Descriptor | None = kind.message.DESCRIPTOR
    owner, field = kind.kind, None
    for number, step in enumerate(steps):
        so_far = ".".join((kind.plural, *steps[:number]))
        if descriptor is None:
            raise BadRequest(f"{so_far} is a {_type(field) if field else 'value'}: it has no fields")
        schema = schema_of(descriptor)
        if step not in schema.names:
            refused = schema.known.get(step)
            if refused is not None:
                word = "refused" if refused.level == options_pb2.REFUSED else "accepted and ignored"
                raise BadRequest(f"{so_far}.{step} is known to Kubernetes; here it is {word}")
            close = difflib.get_close_matches(step, schema.names, n=1)
            raise BadRequest(f'{so_far} has no field "{step}"' + (f', did you mean "{close[0]}"?' if close else ""))
        owner, field = _owner(descriptor, step), schema.names[step][1]
        descriptor = field.child
    return "\n".join(_page(kind, field, owner, descriptor, recursive)) + "\n"


def _kind(path: str) -> tuple[Kind, Sequence[str]]:
    """The kind opens the path; it may carry its group (deployments.apps.spec)."""
    name, *steps = [part for part in path.strip().split(".") if part]
    kind = kinds.by_resource(name)
    group = kind.group.split(".") if kind.group else []
    return kind, steps[len(group) :] if group and steps[: len(group)] == group else steps


def _owner(descriptor: Descriptor, name: str) -> str:
    """The message that a field is written in: an inlined one, where it comes from there."""
    way, _ = schema_of(descriptor).names[name]
    for step in way:
        child = schema_of(descriptor).by_name[step].child
        assert child is not None
        descriptor = child
    return descriptor.name


def _page(kind: Kind, field: Field | None, owner: str, descriptor: Descriptor | None, recursive: bool) -> list[str]:
    lines = [f"KIND:     {kind.kind}", f"VERSION:  {kind.api_version}", ""]
    words = comments()
    if field is not None:
        lines += [f"FIELD:    {field.json_name} <{_type(field)}>", ""]
        about = [words.get(f"{owner}.{field.name}", ""), words.get(descriptor.name, "") if descriptor else ""]
        rules = [_rule(rule) for rule in field.rules]
    else:
        about, rules = [words.get(owner, "")], []
    text = [line for line in (*about, *rules) if line]
    lines += ["DESCRIPTION:", *(f"  {line}" for line in text or ["(no words beside what its name says)"]), ""]
    if descriptor is not None:
        lines += ["FIELDS:", *_fields(descriptor, recursive, "  ", (descriptor.full_name,))]
    return lines


def _fields(descriptor: Descriptor, recursive: bool, indent: str, above: tuple[str, ...]) -> list[str]:
    lines = []
    words = comments()
    for name, (_, field) in schema_of(descriptor).names.items():
        lines.append(f"{indent}{name} <{_type(field)}>")
        if recursive:
            if field.child is not None and field.child.full_name not in above:
                lines += _fields(field.child, True, f"{indent}  ", (*above, field.child.full_name))
            continue
        about = words.get(f"{_owner(descriptor, name)}.{field.name}", "")
        lines += [f"{indent}  {line}" for line in (about, *map(_rule, field.rules)) if line]
    return lines


def _type(field: Field) -> str:
    one = field.child.name if field.child is not None else _WORDS.get(field.shape, field.shape.value)
    return f"map[string]{one}" if field.is_map else f"[]{one}" if field.repeated else one


def _rule(rule: options_pb2.Support) -> str:
    what = "Refused" if rule.level == options_pb2.REFUSED else "Accepted and not acted on"
    if rule.only:
        what += f" for {', '.join(rule.only)}"
    if rule.unless:
        what += f" unless it is {', '.join(rule.unless)}"
    return f"{what}{f': {rule.note}' if rule.note else ''}."
