"""From what the services in the kernel shall be to the steps that change one kernel table; pure."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import TypeVar

from common.routing import NodeInfo, Route
from proxy.nft.skeleton import SLOT_BITS, shared
from proxy.nft.slots import Target, fit, fit_in_place, moved
from proxy.nft.steps import (
    AddRule,
    AllowHairpin,
    ChangeRule,
    DenyHairpin,
    DropSlots,
    Lead,
    MakeSticky,
    MakeTurns,
    PutSlots,
    RemoveRule,
    RemoveSticky,
    RemoveTurns,
    Step,
    Stick,
    Unlead,
    Unstick,
)
from proxy.plan import Moves, Place, PortKey, Serving


def in_kernel(route: Route, node: NodeInfo) -> bool:
    """Whether the kernel serves the route. What it cannot give stays in user space, also on a node of nftables."""
    if (route.mode or node.mode) != "nftables" or route.balance != "RoundRobin":
        return False
    return not any(port.protocol == "TCP" and (port.send_proxy or port.accept_proxy) for port in route.ports)


# As many fit into the bits of a number (skeleton.SLOT_BITS): what a service has beyond them gets no connections.
MOST_ENDPOINTS, MOST_PORTS = 1 << SLOT_BITS, 1 << 32 - SLOT_BITS


T = TypeVar("T")


@dataclass
class _Port:
    """A service port that some place leads to."""

    id: int
    name: str
    slots: list[Target] = field(default_factory=list)
    affinity_seconds: int = 0
    places: dict[Place, None] = field(default_factory=dict)


@dataclass
class _Draft:
    """The steps of one change, in the order in which no one refers to what is not there."""

    chains: list[Step] = field(default_factory=list)
    elements: list[Step] = field(default_factory=list)
    rules: list[Step] = field(default_factory=list)
    leads: list[Step] = field(default_factory=list)
    ends: list[Step] = field(default_factory=list)
    hairpins: dict[str, int] = field(default_factory=dict)
    # More or fewer users of chains than before: rules that keep clients for so long, rules of service ports.
    sticky: dict[int, int] = field(default_factory=dict)
    turns: dict[int, int] = field(default_factory=dict)


class Rules:
    """What the kernel's table holds, service by service. The planner's moves go in, steps come out."""

    def __init__(self, pod_cidr: str = "") -> None:
        self._pods = IPv4Network(pod_cidr) if pod_cidr else None
        self._ports: dict[PortKey, _Port] = {}
        self._places: dict[Place, PortKey] = {}
        self._hairpins: dict[str, int] = {}
        # How many service ports keep clients for so many seconds, and how many have their rule in each chain.
        self._sticky: dict[int, int] = {}
        self._turns: dict[int, int] = {}
        # A number is free again only when all others were used: packets and clients may still carry it.
        self._next_id = 1
        self._free_ids: deque[int] = deque()

    @property
    def places(self) -> Mapping[Place, PortKey]:
        """Which service port each place leads to."""
        return self._places

    def places_of(self, keys: Collection[PortKey]) -> Iterable[Place]:
        """The places that lead to some service ports."""
        return [place for key in keys if key in self._ports for place in self._ports[key].places]

    def targets(self, key: PortKey) -> frozenset[Target]:
        """The endpoints of a service port that is served."""
        port = self._ports.get(key)
        return frozenset(port.slots) if port else frozenset()

    def update(self, moves: Moves, services: Mapping[PortKey, Serving]) -> list[Step]:
        """The steps of one transaction. `services`: all that are wanted, after the moves."""
        draft = _Draft()
        # An element's value cannot be changed: the old one goes as the new one comes.
        old = tuple(sorted(place for place in (*moves.unlisten, *moves.listen) if place in self._places))
        affected = dict.fromkeys(moves.serve)
        for place in old:
            key = self._places.pop(place)
            del self._ports[key].places[place]
            affected[key] = None
        for place, key in moves.listen.items():
            self._ports.setdefault(key, _Port(0, "")).places[place] = None
            self._places[place] = key
            affected[key] = None
        for key in affected:
            self._settle(key, services.get(key), draft)
        if old:
            draft.leads.append(Unlead(old))
        if moves.listen:
            draft.leads.append(Lead(tuple((place, self._ports[key].id) for place, key in sorted(moves.listen.items()))))
        self._settle_hairpins(draft)
        come, gone = _settle_users(self._sticky, draft.sticky)
        draft.chains += map(MakeSticky, come)
        draft.ends += map(RemoveSticky, gone)
        come, gone = _settle_users(self._turns, draft.turns)
        draft.chains += map(MakeTurns, come)
        # Its rules go with a chain.
        draft.ends = [end for end in draft.ends if not (isinstance(end, RemoveRule) and shared(end.id) in gone)]
        draft.ends += map(RemoveTurns, gone)
        return [*draft.chains, *draft.elements, *draft.rules, *draft.leads, *draft.ends]

    def _settle(self, key: PortKey, serving: Serving | None, draft: _Draft) -> None:
        port = self._ports.get(key)
        if port is None:
            return
        new = not port.id
        if new:
            port.id, port.name = self._take_id(), rule_name(key)
        endpoints = serving.endpoints[:MOST_ENDPOINTS] if serving and port.places else ()
        wanted = dict.fromkeys(Target(endpoint.ip, endpoint.port) for endpoint in endpoints)
        seconds = serving.affinity_seconds if serving and port.places else 0
        before = list(port.slots)
        (fit_in_place if seconds else fit)(port.slots, wanted)
        dropped, put = moved(before, port.slots)
        if dropped:
            draft.elements.append(DropSlots(port.id, dropped))
        if put:
            draft.elements.append(PutSlots(port.id, put))
        self._count_hairpins(set(before), wanted, draft)
        if seconds != port.affinity_seconds:
            _stick(port, seconds, draft)
        if not port.places:
            del self._ports[key]
            self._free_ids.append(port.id)
            if not new:
                draft.ends.append(RemoveRule(port.id, port.name))
                _count(draft.turns, shared(port.id), -1)
            return
        if new:
            draft.rules.append(AddRule(port.id, port.name, len(port.slots)))
            _count(draft.turns, shared(port.id), 1)
        elif len(before) != len(port.slots):
            draft.rules.append(ChangeRule(port.id, port.name, len(port.slots)))

    def _take_id(self) -> int:
        if self._next_id < MOST_PORTS:
            self._next_id += 1
            return self._next_id - 1
        return self._free_ids.popleft()

    def _count_hairpins(self, before: Iterable[Target], wanted: Iterable[Target], draft: _Draft) -> None:
        if self._pods is None:
            return
        for targets, step in ((before, -1), (wanted, 1)):
            for target in targets:
                if IPv4Address(target.ip) in self._pods:
                    _count(draft.hairpins, target.ip, step)

    def _settle_hairpins(self, draft: _Draft) -> None:
        come, gone = _settle_users(self._hairpins, draft.hairpins)
        if gone:
            draft.elements.append(DenyHairpin(tuple(sorted(gone))))
        if come:
            draft.elements.append(AllowHairpin(tuple(sorted(come))))


def _stick(port: _Port, seconds: int, draft: _Draft) -> None:
    # An element's value cannot be changed here either: first it goes.
    if port.affinity_seconds:
        draft.elements.append(Unstick(port.id))
        _count(draft.sticky, port.affinity_seconds, -1)
    if seconds:
        draft.elements.append(Stick(port.id, seconds))
        _count(draft.sticky, seconds, 1)
    port.affinity_seconds = seconds


def _count(users: dict[T, int], what: T, step: int) -> None:
    users[what] = users.get(what, 0) + step


def _settle_users(users: dict[T, int], steps: Mapping[T, int]) -> tuple[list[T], list[T]]:
    """Counts users of something after a change as a whole, in which one may take up what another gives up: what has
    users now and had none, and the other way round."""
    come, gone = [], []
    for what, step in steps.items():
        before = users.get(what, 0)
        users[what] = before + step
        if before and not before + step:
            gone.append(what)
        elif step and not before:
            come.append(what)
        if not before + step:
            del users[what]
    return come, gone


def rule_name(key: PortKey) -> str:
    """Readable in `nft list`, of at most 127 characters as that wants it, and nobody else's."""
    full = f"{key.key}/{key.protocol.lower()}/{key.port}{'/outside' if key.outside else ''}"
    return f"{zlib.crc32(full.encode()):08x}-{full}"[:120]
