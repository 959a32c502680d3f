"""A page of keys and values in sections, with the values of one section in line; pure."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

_INDENT = 2
NONE = "<none>"


@dataclass(frozen=True)
class _Entry:
    section: int
    indent: int
    key: str
    value: str


class Page:
    """Written from top to bottom; `str()` gives the text."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []
        self._indent = 0
        self._section = 0
        self._sections = 0

    def field(self, key: str, value: object) -> None:
        """One key with its value; further lines of the value stand below the first."""
        first, *rest = str(value).split("\n")
        self._add(key + ":", first)
        for line in rest:
            self._add("", line)

    def fields(self, values: Mapping[str, object]) -> None:
        """Several keys; empty values are left out."""
        for key, value in values.items():
            if value not in ("", None):
                self.field(key, value)

    def several(self, key: str, values: Iterable[str]) -> None:
        """A key with one value a line, "<none>" where there are none."""
        self.field(key, "\n".join(values) or NONE)

    def mapping(self, key: str, values: Mapping[str, str], sign: str = "=") -> None:
        """A map, one entry a line, sorted: "app=web"."""
        self.several(key, (f"{name}{sign}{values[name]}" for name in sorted(values)))

    def line(self, text: str) -> None:
        """A line of its own."""
        self._entries.append(_Entry(-1, self._indent, text, ""))

    @contextlib.contextmanager
    def section(self, key: str, value: str = "") -> Iterator[None]:
        """A heading; what is written inside the block is indented below it."""
        self._add(key + ":", value)
        was, self._sections = self._section, self._sections + 1
        self._section, self._indent = self._sections, self._indent + _INDENT
        try:
            yield
        finally:
            self._section, self._indent = was, self._indent - _INDENT

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """A table with its headings underlined."""
        lines = [headings, ["-" * len(heading) for heading in headings], *rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(headings))]
        for cells in lines:
            self.line("  ".join(cell.ljust(width) for cell, width in zip(cells, widths)).rstrip())

    def _add(self, key: str, value: str) -> None:
        self._entries.append(_Entry(self._section, self._indent, key, value))

    def __str__(self) -> str:
        widths: dict[int, int] = {}
        for entry in self._entries:
            if entry.value:
                widths[entry.section] = max(widths.get(entry.section, 0), len(entry.key) + _INDENT)
        return "".join(
            (" " * entry.indent + entry.key.ljust(widths.get(entry.section, 0)) + entry.value).rstrip() + "\n"
            for entry in self._entries
        )
