"""Tables on standard output: plain aligned columns for scripts, the same columns in colour on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from cli.columns.table import Column

# Columns stand this far apart, as in kubectl's tables.
_GAP = 3
_COLOURED = {"STATUS", "TYPE", "REASON", "READY"}
_GOOD = {"Running", "Ready", "Active", "Completed", "Succeeded", "Normal"}
_PASSING = {
    "Pending",
    "ContainerCreating",
    "PodInitializing",
    "Terminating",
    "Warning",
    "NotReady",
    "Ready,SchedulingDisabled",
}
_BAD = ("Err", "BackOff", "Failed", "Unknown", "OOM", "Evicted", "NotReady,", "ExitCode", "Signal", "Invalid")


def colour_of(heading: str, cell: str) -> str:
    """A style for a cell by what it says; empty for none."""
    if heading not in _COLOURED:
        return ""
    if cell in _GOOD:
        return "green"
    if cell in _PASSING or (cell.startswith("Init:") and not any(mark in cell for mark in _BAD)):
        return "yellow"
    return "red" if any(mark in cell for mark in _BAD) else ""


class Table:
    """Prints rows under one heading; column widths only grow, so that rows of a watch stay in line."""

    def __init__(self, columns: Sequence[Column], *, headings: bool = True) -> None:
        self._columns = columns
        self._headings = headings
        self._widths = [len(column.heading) if headings else 0 for column in columns]

    def show(self, objects: Iterable[Any], now: float) -> None:
        """Prints a row for each object, below the headings the first time."""
        rows = [[column.cell(obj, now) for column in self._columns] for obj in objects]
        for row in rows:
            self._widths = [max(width, len(cell)) for width, cell in zip(self._widths, row)]
        headings = [column.heading for column in self._columns]
        if self._headings:
            self._headings = False
            self._print(headings, bold=True)
        for row in rows:
            self._print(row)
        sys.stdout.flush()

    def _print(self, cells: Sequence[str], *, bold: bool = False) -> None:
        padded = [cell.ljust(width + _GAP) for cell, width in zip(cells, self._widths)]
        padded[-1] = padded[-1].rstrip()
        if not sys.stdout.isatty():
            sys.stdout.write("".join(padded).rstrip() + "\n")
            return
        from rich.console import Console
        from rich.text import Text

        styles = ["bold" if bold else colour_of(column.heading, cell) for column, cell in zip(self._columns, cells)]
        Console(file=sys.stdout, highlight=False).print(
            Text.assemble(*zip(padded, styles)), soft_wrap=True, markup=False
        )


def rows(headings: Sequence[str], cells: Iterable[Sequence[str]], *, show_headings: bool = True) -> None:
    """Prints a table of plain texts."""
    columns = [Column(heading, lambda row, now, i=i: row[i]) for i, heading in enumerate(headings)]  # type: ignore[misc]
    Table(columns, headings=show_headings).show(list(cells), 0)
