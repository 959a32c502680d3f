"""Collects everything wrong with an object, each fault under the exact path of its field."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Iterable
from typing import Any

from common.errors import Fault


class Faults:
    """A list of faults that checks add to; nothing here raises, so that all of them are told at once."""

    def __init__(self) -> None:
        self.found: list[Fault] = []

    def add(self, path: str, message: str) -> None:
        fault = Fault(path, message)
        if fault not in self.found:
            self.found.append(fault)

    def check(self, path: str, value: str, rule: Callable[[str], str | None]) -> None:
        """Applies one of common.names' rules."""
        message = rule(value)
        if message:
            self.add(path, message)

    def required(self, path: str, value: str, example: str, rule: Callable[[str], str | None] | None = None) -> None:
        """The text must be there, and follow the rule where one is given."""
        if not value:
            self.add(path, f"is required ({example})")
        elif rule is not None:
            self.check(path, value, rule)

    def one_of(self, path: str, value: str, allowed: Collection[str], *, empty: bool = False) -> None:
        if value in allowed or (empty and not value):
            return
        listed = ", ".join(allowed)
        self.add(path, f"must be one of {listed}, got {value!r}" if value else f"is required (one of {listed})")

    def port(self, path: str, value: int) -> None:
        if not 1 <= value <= 65535:
            self.add(path, f"must be 1-65535, got {value}")

    def at_least(self, path: str, value: int, least: int) -> None:
        if value < least:
            self.add(path, f"must be {least} or more, got {value}")

    def address(self, path: str, value: str) -> None:
        """An IPv4 address in its usual form."""
        try:
            ipaddress.IPv4Address(value)
        except ValueError:
            self.add(path, f"must be an IPv4 address (like 10.0.0.1), got {value!r}")

    def unique(self, path: Callable[[int], str], values: Iterable[str], *, skip_empty: bool = True) -> None:
        """`path(i)` is where the i-th value stands; the second of two equals is the fault."""
        first: dict[str, int] = {}
        for index, value in enumerate(values):
            if skip_empty and not value:
                continue
            if value in first:
                self.add(path(index), f"must be unique, {value!r} is already at {path(first[value])}")
            else:
                first[value] = index

    def exactly_one(self, path: str, given: Collection[str], allowed: Iterable[str]) -> None:
        """Of a union of fields one must be set, and not two."""
        if len(given) == 1:
            return
        if given:
            self.add(path, f"must have only one of {', '.join(allowed)}, has {' and '.join(given)}")
        else:
            self.add(path, f"must have one of {', '.join(allowed)}")


def present(message: Any, fields: Iterable[str]) -> list[str]:
    """Which of a message's fields are set."""
    return [field for field in fields if message.HasField(field)]
