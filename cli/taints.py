"""Taints on the command line: KEY=VALUE:EFFECT, KEY:EFFECT, KEY:EFFECT- and KEY-; pure. Rules: kubectl taint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


@dataclass(frozen=True)
class Mark:
    """One taint to set."""

    key: str
    value: str
    effect: str


@dataclass(frozen=True)
class Removal:
    """Taints to remove: of a key, with an empty effect all of them."""

    key: str
    effect: str

    def __str__(self) -> str:
        return f"{self.key}:{self.effect}" if self.effect else self.key


@dataclass(frozen=True)
class Wish:
    """What the command line asks for."""

    marks: tuple[Mark, ...]
    removals: tuple[Removal, ...]

    def carry_out(self, node: Any, *, overwrite: bool) -> None:
        """Changes a node's taints. Raises ValueError when one is there already, or is not there."""
        name, taints = node.metadata.name, node.spec.taints
        for removal in self.removals:
            kept = [t for t in taints if t.key != removal.key or removal.effect not in ("", t.effect)]
            if len(kept) == len(taints):
                raise ValueError(f'node {name} has no taint "{removal}"')
            del taints[:]
            taints.extend(kept)
        for mark in self.marks:
            found = next((t for t in taints if (t.key, t.effect) == (mark.key, mark.effect)), None)
            if found is None:
                taints.add(key=mark.key, value=mark.value, effect=mark.effect)
            elif overwrite:
                found.value = mark.value
            elif found.value != mark.value:
                raise ValueError(
                    f"node {name} has a taint {mark.key} with effect {mark.effect} already: --overwrite changes it"
                )


def split(args: Sequence[str]) -> tuple[list[str], Wish]:
    """Names first, taints behind them. Raises ValueError with a sentence that says what would be right."""
    names: list[str] = []
    marks: list[Mark] = []
    removals: list[Removal] = []
    for arg in args:
        if ":" not in arg and "=" not in arg and not arg.endswith("-"):
            names.append(arg)
        elif arg.endswith("-"):
            key, _, effect = arg[:-1].partition(":")
            removals.append(Removal(key.partition("=")[0], _effect(effect, arg) if effect else ""))
        else:
            pair, _, effect = arg.partition(":")
            key, _, value = pair.partition("=")
            marks.append(Mark(key, value, _effect(effect, arg)))
    for key in {mark.key for mark in marks} | {removal.key for removal in removals}:
        if not key:
            raise ValueError("a taint needs a key: write it like dedicated=db:NoSchedule")
    return names, Wish(tuple(marks), tuple(removals))


def _effect(text: str, arg: str) -> str:
    if text not in EFFECTS:
        raise ValueError(f'"{arg}": the effect must be one of {", ".join(EFFECTS)}, like dedicated=db:NoSchedule')
    return text
