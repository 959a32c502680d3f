"""Writes docs/fields.md: every field of every kind, and whether Sampan acts on it, warns or refuses.

``python -m common.fieldtable`` writes; with ``--check`` it exits 1 when the page is stale.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from google.protobuf.descriptor import Descriptor

from common.kinds import KINDS, NOT_YET
from common.schema import Field, Schema, schema_of, walk
from common.support import REFUSAL, WARNING
from protos import options_pb2

PAGE = Path(__file__).resolve().parent.parent / "docs" / "fields.md"

_HEAD = f"""# Fields

Made from protos/ by `python -m common.fieldtable`; do not edit.

What a manifest may say, and what Sampan does with it:

- **yes**: acted on, as in Kubernetes.
- **warns**: accepted with a warning, "{WARNING}" unless the table says more.
- **refused**: an error that names the field, "{REFUSAL}".

A field that is in no table is an error too, with the nearest known name.
"""


def render() -> str:
    """The whole page."""
    kinds = [kind.message.DESCRIPTOR for kind in KINDS]
    names = {descriptor.full_name for descriptor in kinds}
    inlined = {
        field.child.full_name
        for kind in kinds
        for descriptor in walk(kind)
        for field in schema_of(descriptor).fields
        if field.inline and field.child is not None
    }
    parts = {
        descriptor.name: descriptor
        for kind in kinds
        for descriptor in walk(kind)
        # An inlined message has no name in a manifest unless it also stands alone.
        if descriptor.full_name not in names and (descriptor.full_name not in inlined or _alone(descriptor, kinds))
    }
    lines = [_HEAD, "## Kinds", ""]
    for kind in KINDS:
        short = f", short {', '.join(kind.short_names)}" if kind.short_names else ""
        place = "in a namespace" if kind.namespaced else "outside namespaces"
        lines += [f"### {kind.kind}", "", f"`{kind.api_version}`, {kind.plural}{short}; {place}.", ""]
        lines += _table(schema_of(kind.message.DESCRIPTOR))
    lines += ["## Parts", ""]
    for name in sorted(parts):
        lines += [f"### {name}", "", *_table(schema_of(parts[name]))]
    lines += ["## Kinds of Kubernetes that are not served", ""]
    lines += [f"- {kind} (`{api_version}`)" for kind, (api_version, _, _) in sorted(NOT_YET.items())]
    return "\n".join(lines) + "\n"


def _alone(descriptor: Descriptor, kinds: list[Descriptor]) -> bool:
    return any(
        field.child is not None and field.child.full_name == descriptor.full_name and not field.inline
        for kind in kinds
        for parent in walk(kind)
        for field in schema_of(parent).fields
    )


def _table(schema: Schema) -> list[str]:
    lines = ["| field | type | |", "|---|---|---|"]
    lines += [f"| {name} | {_type(field)} | {_support(field)} |" for name, (_, field) in schema.names.items()]
    for level, text in ((options_pb2.REFUSED, "Refused"), (options_pb2.WARN, "Dropped with a warning")):
        known = sorted(item.name for item in schema.known.values() if item.level == level)
        if known:
            lines += ["", f"{text}: {', '.join(known)}."]
    return [*lines, ""]


def _type(field: Field) -> str:
    one = f"[{field.child.name}](#{field.child.name.lower()})" if field.child is not None else field.shape.value
    if field.is_map:
        return f"map of {one}"
    return f"list of {one}" if field.repeated else one


def _support(field: Field) -> str:
    if not field.rules:
        return "yes"
    return "; ".join(_rule(rule) for rule in field.rules)


def _rule(rule: options_pb2.Support) -> str:
    text = "refused" if rule.level == options_pb2.REFUSED else "warns"
    if rule.only:
        text += f" for {_values(rule.only)}"
    if rule.unless:
        text += f" unless {_values(rule.unless)}"
    return f"{text}: {rule.note}" if rule.note else text


def _values(values: Iterable[str]) -> str:
    return ", ".join(f"`{value}`" for value in values)


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 1 when ``--check`` finds the page stale."""
    parser = argparse.ArgumentParser(prog="python -m common.fieldtable", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is stale")
    check: bool = parser.parse_args(arguments).check
    page = render()
    if check:
        if not PAGE.exists() or PAGE.read_text() != page:
            print("docs/fields.md is stale; run: python -m common.fieldtable", file=sys.stderr)  # noqa: T201
            return 1
        return 0
    PAGE.write_text(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
