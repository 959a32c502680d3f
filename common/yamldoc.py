"""YAML and JSON text to documents and back, read as kubectl does: YAML 1.1 words for booleans, no dates, no twins."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, ClassVar

import yaml

from common.errors import BadRequest

_YES = ("y", "yes", "true", "on")
# Wide enough that no line is folded.
_WIDTH = 1_000_000
# More values than any manifest has; aliases can multiply a few lines into billions.
_MOST_VALUES = 200_000
# The C composer calls itself for each level and would overrun its stack at some thousands.
_DEEPEST = 100


class YamlError(BadRequest):
    """Text that is no document; the message opens with ``file:line:column``."""


@dataclass(frozen=True)
class Document:
    """One document of a file: its content, and the line it starts at, counted from 1."""

    value: dict[Any, Any]
    source: str
    line: int

    def __str__(self) -> str:
        return f"{self.source}:{self.line}"


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Safe YAML with the scalar rules of Go's YAML 1.1 library, which kubectl uses."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, "a key must be text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f'the key "{key}" is there twice', key_node.start_mark
                )
            seen.add(key)
        result: dict[Hashable, Any] = super().construct_mapping(node, deep=deep)
        return result

    def construct_whole(self, node: yaml.ScalarNode) -> int:
        text = str(self.construct_scalar(node)).replace("_", "")
        sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
        # A leading zero means octal, as in file modes.
        octal = len(digits) > 1 and digits[0] == "0" and digits.isdigit()
        return sign * (int(digits, 8) if octal else int(digits, 0))


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Quotes every text that this loader, kubectl or a plain YAML 1.1 reader would take for something else."""

    yaml_implicit_resolvers: ClassVar[dict[str | None, list[tuple[str, re.Pattern[str]]]]] = {}

    def ignore_aliases(self, data: object) -> bool:
        return True

    def text(self, value: str) -> yaml.ScalarNode:
        style = "|" if "\n" in value.strip("\n") else None
        node: yaml.ScalarNode = self.represent_scalar("tag:yaml.org,2002:str", value, style=style)
        return node


def _rule(tag: str, pattern: str, first: str) -> None:
    # An empty `first` stands for the empty scalar.
    for letter in [*first] or [""]:
        rules = _Loader.yaml_implicit_resolvers.setdefault(letter, [])
        rules.append((f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$", re.ASCII)))


_rule("null", "~|null|Null|NULL", "~nN")
_rule("null", "", "")
_rule("bool", "y|Y|yes|Yes|YES|true|True|TRUE|on|On|ON", "yYtToO")
_rule("bool", "n|N|no|No|NO|false|False|FALSE|off|Off|OFF", "nNfFoO")
_rule("int", r"[-+]?(?:0[0-7_]*|[1-9][0-9_]*|0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+)", "-+0123456789")
_rule("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789")
_rule("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+.")
_rule("merge", "<<", "<")
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_whole)
_Loader.add_constructor("tag:yaml.org,2002:bool", lambda loader, node: node.value.lower() in _YES)
_Loader.add_constructor("tag:yaml.org,2002:float", lambda loader, node: _float(node.value))


_Dumper.yaml_implicit_resolvers.update(
    {letter: list(rules) for letter, rules in _Loader.yaml_implicit_resolvers.items()}
)
for _letter, _rules in yaml.SafeDumper.yaml_implicit_resolvers.items():
    _Dumper.yaml_implicit_resolvers.setdefault(_letter, []).extend(_rules)
_Dumper.add_representer(str, _Dumper.text)


def dump(value: Any) -> str:
    """A manifest (or a list of them) as YAML text, keys in their given order; ``load`` reads it back the same."""
    text: str = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, default_flow_style=False, allow_unicode=True, width=_WIDTH
    )
    return text


def load(text: str | bytes, source: str = "text") -> list[Document]:
    """Every document of a YAML or JSON text; empty ones are left out.

    Raises YamlError for a syntax error, a key given twice, a document that is no mapping, one that contains
    itself or grows beyond reason through aliases.
    """
    if isinstance(text, bytes):
        data = text
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise YamlError(f"{source}:{line}:1: the text is not UTF-8") from None
    text = text.removeprefix("\ufeff")
    value = _json(text)
    if value is not None:
        return [Document(value, source, _first_line(text))]
    try:
        return _yaml(text, source)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{mark.line + 1}:{mark.column + 1}" if mark is not None else "1:1"
        raise YamlError(f"{source}:{where}: {_problem(error)}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, int(error.position)) + 1
        raise YamlError(f"{source}:{line}:1: {error.reason} (character {error.character!r})") from None
    except (ValueError, OverflowError) as error:
        raise YamlError(f"{source}:1:1: {error}") from None


def _yaml(text: str, source: str) -> list[Document]:
    _check_depth(text, source)
    documents: list[Document] = []
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            line = node.start_mark.line + 1
            where = f"{source}:{line}:{node.start_mark.column + 1}"
            if _size(node, {}, set(), where) > _MOST_VALUES:
                raise YamlError(f"{where}: the document holds more than {_MOST_VALUES} values")
            value = loader.construct_document(node)
            if value is None:
                continue
            if not isinstance(value, dict):
                raise YamlError(f"{where}: a manifest must be a mapping (apiVersion: ..., kind: ...)")
            documents.append(Document(value, source, line))
    finally:
        loader.dispose()
    return documents


def _check_depth(text: str, source: str) -> None:
    """Reads the text as a flat row of events, which no nesting can hurt."""
    loader, depth = _Loader(text), 0
    try:
        while loader.check_event():
            event = loader.get_event()
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if depth > _DEEPEST:
                mark = event.start_mark
                raise YamlError(f"{source}:{mark.line + 1}:{mark.column + 1}: nested deeper than {_DEEPEST} levels")
    finally:
        loader.dispose()


def _size(node: yaml.Node, sizes: dict[int, int], open_nodes: set[int], where: str) -> int:
    """How many values the document has once aliases are written out."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) in open_nodes:
        raise YamlError(f"{where}: an alias refers to a value that contains it")
    if id(node) not in sizes:
        open_nodes.add(id(node))
        pairs = isinstance(node, yaml.MappingNode)
        children = [child for pair in node.value for child in pair] if pairs else node.value
        sizes[id(node)] = 1 + sum(_size(child, sizes, open_nodes, where) for child in children)
        open_nodes.discard(id(node))
    return sizes[id(node)]


def _json(text: str) -> dict[Any, Any] | None:
    """The document if the text is one plain JSON object; None leaves it to YAML, which explains mistakes better."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("twice the same key")
    return result


def _refuse(name: str) -> Any:
    raise ValueError(name)


def _float(text: str) -> float:
    return float(text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))


def _first_line(text: str) -> int:
    return text[: len(text) - len(text.lstrip())].count("\n") + 1


def _problem(error: yaml.MarkedYAMLError) -> str:
    text = error.problem or "not YAML"
    if error.context and error.context_mark is not None:
        text += f" {error.context} that begins in line {error.context_mark.line + 1}"
    return f"{text} (indent with spaces, not tabs)" if "cannot start any token" in text else text
