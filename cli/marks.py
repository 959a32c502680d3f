"""Changes of labels and annotations as written on the command line; pure."""

from __future__ import annotations

import re
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, field

_KEY = re.compile(r"[A-Za-z0-9][\w./-]*")


@dataclass(frozen=True)
class Change:
    """What to set and which keys to remove."""

    values: dict[str, str] = field(default_factory=dict)
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.values or self.removed)

    def carry_out(self, marks: MutableMapping[str, str], *, overwrite: bool) -> None:
        """Changes the map in place. Raises ValueError for a key that has another value, unless `overwrite`."""
        for key, value in self.values.items():
            if key in marks and marks[key] != value and not overwrite:
                raise ValueError(f'"{key}" is "{marks[key]}" already: give --overwrite to change it')
        for key in self.removed:
            if key in marks:
                del marks[key]
        for key, value in self.values.items():
            marks[key] = value


def split(args: Sequence[str]) -> tuple[list[str], Change]:
    """Parts the objects from the changes. Raises ValueError for a key that is set and removed, or set twice."""
    what: list[str] = []
    values: dict[str, str] = {}
    removed: list[str] = []
    for arg in args:
        key, sign, value = arg.partition("=")
        if sign:
            if not _KEY.fullmatch(key):
                raise ValueError(f'"{arg}": write KEY=VALUE with a key such as app or example.com/app')
            if key in values:
                raise ValueError(f'"{key}" is set twice')
            values[key] = value
        elif arg.endswith("-") and len(arg) > 1:
            removed.append(arg[:-1])
        else:
            if values or removed:
                raise ValueError(f'"{arg}": objects come first, then KEY=VALUE and KEY-')
            what.append(arg)
    both = sorted(set(values) & set(removed))
    if both:
        raise ValueError(f'"{both[0]}" is both set and removed')
    return what, Change(values, tuple(removed))
