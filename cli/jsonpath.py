"""The part of kubectl's JSONPath templates people use: fields, indexes, slices, [*], filters, range and text; pure.

Not there: recursive descent (..), unions and arithmetic.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any


class PathError(ValueError):
    """A template that cannot be read; the sentence says what is wrong where."""


@dataclass(frozen=True)
class _Text:
    text: str


@dataclass(frozen=True)
class _Path:
    steps: tuple[_Step, ...]


@dataclass(frozen=True)
class _Range:
    path: _Path
    body: tuple[_Node, ...]


_Node = _Text | _Path | _Range
_Step = Callable[[Any, Any], Iterator[Any]]

_STEP = re.compile(
    r"""\.?\[(?P<quote>['"])(?P<quoted>.*?)(?P=quote)\]
      | \.?\[(?P<all>\*)\]
      | \.?\[(?P<slice>-?\d*:-?\d*)\]
      | \.?\[(?P<index>-?\d+)\]
      | \.(?P<every>\*)
      | \.(?P<field>(?:\\.|[^.\[\]\\\s{}()=!<>])+)""",
    re.VERBOSE,
)
_FILTER = re.compile(r"(?P<path>@[^=!<>]*?)\s*(?:(?P<sign>==|!=|<=|>=|<|>)\s*(?P<value>.+))?", re.DOTALL)
_ESCAPES = {r"\n": "\n", r"\t": "\t", r"\"": '"', r"\\": "\\", r"\'": "'"}
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda a, b: bool(a == b),
    "!=": lambda a, b: bool(a != b),
    "<": lambda a, b: bool(a < b),
    "<=": lambda a, b: bool(a <= b),
    ">": lambda a, b: bool(a > b),
    ">=": lambda a, b: bool(a >= b),
}


def find(path: str, data: Any) -> list[Any]:
    """Every value that one path (with or without braces, a leading dot or a leading $) leads to.

    Raises PathError.
    """
    text = path.strip()
    if text.startswith("{") and text.endswith("}"):
        text = text[1:-1].strip()
    return list(_walk(_path(text), data, data))


def render(template: str, data: Any) -> str:
    """The text of a template such as "{.metadata.name}: {.status.phase}". Raises PathError."""
    return "".join(_render(_parse(template), data, data))


def text_of(value: Any) -> str:
    """A value as a template prints it: text as it is, true and false in lower case, lists and mappings as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _render(nodes: tuple[_Node, ...], root: Any, here: Any) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, _Text):
            yield node.text
        elif isinstance(node, _Path):
            yield " ".join(text_of(value) for value in _walk(node, root, here))
        else:
            for item in _walk(node.path, root, here):
                yield from _render(node.body, root, item)


def _walk(path: _Path, root: Any, here: Any) -> Iterator[Any]:
    values: list[Any] = [here]
    for step in path.steps:
        values = [found for value in values for found in step(root, value)]
    return iter(values)


def _parse(template: str) -> tuple[_Node, ...]:
    # One list of nodes for each open {range}, the outermost first.
    open_lists: list[list[_Node]] = [[]]
    ranges: list[_Path] = []
    at = 0
    for start, inside, end in _actions(template):
        if start > at:
            open_lists[-1].append(_Text(template[at:start]))
        at = end
        if inside.startswith(("'", '"')):
            open_lists[-1].append(_Text(_literal(inside)))
        elif inside == "end":
            if not ranges:
                raise PathError("{end} without a {range} before it")
            body = tuple(open_lists.pop())
            open_lists[-1].append(_Range(ranges.pop(), body))
        elif inside.startswith("range ") or inside == "range":
            ranges.append(_path(inside[5:].strip()))
            open_lists.append([])
        else:
            open_lists[-1].append(_path(inside))
    if ranges:
        raise PathError("{range} without an {end} after it")
    if at < len(template):
        open_lists[-1].append(_Text(template[at:]))
    return tuple(open_lists[0])


def _actions(template: str) -> Iterator[tuple[int, str, int]]:
    """Each {…}: where it starts, what is in it, where it ends; braces inside quotes do not count."""
    at = 0
    while (start := template.find("{", at)) >= 0:
        quote, end = "", start + 1
        while end < len(template) and (quote or template[end] != "}"):
            char = template[end]
            if quote and char == "\\":
                end += 1
            elif char == quote:
                quote = ""
            elif not quote and char in "'\"":
                quote = char
            end += 1
        if end >= len(template):
            raise PathError(f"'{template[start:]}' has no closing brace")
        yield start, template[start + 1 : end].strip(), end + 1
        at = end + 1


def _literal(text: str) -> str:
    if len(text) < 2 or text[-1] != text[0]:
        raise PathError(f"{text} has no closing quote")
    return re.sub(r"\\[nt\"'\\]", lambda found: _ESCAPES[found.group()], text[1:-1])


def _path(text: str) -> _Path:
    rest = text.removeprefix("$").removeprefix("@")
    if rest and rest[0] not in ".[":
        rest = "." + rest
    steps: list[_Step] = []
    while rest and rest != ".":
        if rest.startswith(("[?(", ".[?(")):
            inside, rest = _filter_text(rest.removeprefix("."), text)
            steps.append(_filter(inside))
            continue
        found = _STEP.match(rest)
        if found is None:
            hint = " (recursive descent is not supported)" if rest.startswith("..") else ""
            raise PathError(f"'{text}': cannot read '{rest}'{hint}; write a path like {{.status.phase}}")
        steps.append(_step(found))
        rest = rest[found.end() :]
    return _Path(tuple(steps))


def _filter_text(rest: str, whole: str) -> tuple[str, str]:
    end = rest.find(")]")
    if end < 0:
        raise PathError(f"'{whole}': a filter ends with )]")
    return rest[rest.index("(") + 1 : end].strip(), rest[end + 2 :]


def _step(found: re.Match[str]) -> _Step:
    if found["all"] or found["every"]:
        return lambda root, value: iter(
            value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        )
    if found["slice"]:
        first, _, last = found["slice"].partition(":")
        cut = slice(int(first) if first else None, int(last) if last else None)
        return lambda root, value: iter(value[cut]) if isinstance(value, list) else iter(())
    if found["index"]:
        index = int(found["index"])
        return lambda root, value: (
            iter((value[index],)) if isinstance(value, list) and -len(value) <= index < len(value) else iter(())
        )
    name = found["quoted"] if found["quoted"] is not None else re.sub(r"\\(.)", r"\1", found["field"])
    return lambda root, value: iter((value[name],)) if isinstance(value, dict) and name in value else iter(())


def _filter(text: str) -> _Step:
    found = _FILTER.fullmatch(text)
    if found is None:
        raise PathError(f"'{text}': write a filter like [?(@.type==\"Ready\")]")
    left = _path(found["path"].strip())
    if not found["sign"]:
        return lambda root, value: (item for item in _items(value) if list(_walk(left, root, item)))
    compare, wanted = _COMPARE[found["sign"]], _value(found["value"].strip())

    def holds(root: Any, item: Any) -> bool:
        try:
            return any(compare(got, wanted) for got in _walk(left, root, item))
        except TypeError:  # text against a number: not equal, not ordered
            return False

    return lambda root, value: (item for item in _items(value) if holds(root, item))


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _value(text: str) -> Any:
    if text[:1] in ("'", '"'):
        return _literal(text)
    try:
        return json.loads(text)
    except ValueError:
        raise PathError(f"'{text}': compare with text in quotes, a number, true or false") from None
