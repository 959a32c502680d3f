"""What a change of the kernel's table consists of; pure data, which `rules` decides and `encode` writes.

A step names only what it changes: an endpoint that comes or goes costs an element or two and, when the number of
endpoints differs, the service port's own rule.
"""

from __future__ import annotations

from dataclasses import dataclass

from proxy.nft.slots import Target
from proxy.plan import Place


@dataclass(frozen=True)
class MakeTurns:
    """The chain of the rules of the service ports from this number on."""

    shared: int


@dataclass(frozen=True)
class RemoveTurns:
    """With all rules in it."""

    shared: int


@dataclass(frozen=True)
class MakeSticky:
    """The rules that keep clients for so long."""

    seconds: int


@dataclass(frozen=True)
class RemoveSticky:
    seconds: int


@dataclass(frozen=True)
class AddRule:
    """The rule of a service port: `count` endpoints in turn, none: refused."""

    id: int
    name: str
    count: int


@dataclass(frozen=True)
class ChangeRule:
    id: int
    name: str
    count: int


@dataclass(frozen=True)
class RemoveRule:
    id: int
    name: str


@dataclass(frozen=True)
class Stick:
    """A service port keeps its clients for so long."""

    id: int
    seconds: int


@dataclass(frozen=True)
class Unstick:
    id: int


@dataclass(frozen=True)
class PutSlots:
    """Endpoints of a service port, each in its slot."""

    id: int
    slots: tuple[tuple[int, Target], ...]


@dataclass(frozen=True)
class DropSlots:
    id: int
    slots: tuple[int, ...]


@dataclass(frozen=True)
class AllowHairpin:
    ips: tuple[str, ...]


@dataclass(frozen=True)
class DenyHairpin:
    ips: tuple[str, ...]


@dataclass(frozen=True)
class Lead:
    """These places lead to the service ports of these numbers."""

    places: tuple[tuple[Place, int], ...]


@dataclass(frozen=True)
class Unlead:
    places: tuple[Place, ...]


Step = (
    MakeTurns
    | RemoveTurns
    | MakeSticky
    | RemoveSticky
    | AddRule
    | ChangeRule
    | RemoveRule
    | Stick
    | Unstick
    | PutSlots
    | DropSlots
    | AllowHairpin
    | DenyHairpin
    | Lead
    | Unlead
)
