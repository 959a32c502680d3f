"""What a table of one kind is: its columns, each a heading and a function from an object to a cell; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cli.ages import age

NONE = "<none>"


@dataclass(frozen=True)
class Column:
    """`cell(object, now)` gives the text, `now` in seconds since the epoch. `wide`: only with -o wide."""

    heading: str
    cell: Callable[[Any, float], str]
    wide: bool = False


NAME = Column("NAME", lambda o, now: str(o.metadata.name))
AGE = Column("AGE", lambda o, now: age(o.metadata.creationTimestamp, now))


def pairs(items: Mapping[str, str]) -> str:
    """Labels or a selector as kubectl writes them: "app=web,tier=front", or "<none>"."""
    return ",".join(f"{key}={items[key]}" for key in sorted(items)) or NONE


def listed(items: Iterable[str]) -> str:
    """Items with commas between them, or "<none>"."""
    return ",".join(items) or NONE
