"""Which forms a run of bench.proxy has, and in which order a round takes them; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

DIRECT, HAPROXY, NFTABLES = "direct", "HAProxy, 1 thread", "Sampan nftables"
# The client is a pod and the endpoint on another host, instead of all on the loopback device.
AWAY = ", to another host"
ONE_RULE, UNTRACKED = "kernel, one rule", "direct, untracked"
SAMPAN, BASELINE = "Sampan asyncio", "baseline asyncio"


@dataclass(frozen=True)
class Form:
    """One way from client to endpoint. `peer`: the form that it is compared with, "" for direct itself; `always`: part
    of every round, the others of every third; `bulk_only`: the rest of it is like its peer's."""

    name: str
    peer: str
    always: bool = False
    bulk_only: bool = False


def forms(cores: int, *, baseline: bool = False) -> list[Form]:
    """All of them, each after its peer."""
    found = [
        Form(DIRECT, "", always=True),
        Form(NFTABLES, DIRECT, always=True),
        Form(ONE_RULE, DIRECT, always=True),
        Form(UNTRACKED, DIRECT),
        Form(DIRECT + AWAY, "", always=True),
        Form(NFTABLES + AWAY, DIRECT + AWAY, always=True),
        Form(ONE_RULE + AWAY, DIRECT + AWAY, always=True),
        Form(HAPROXY, DIRECT, always=True),
    ]
    for number in (1, cores):
        words = f"{number} worker" if number == 1 else f"{number} workers"
        found.append(Form(f"{SAMPAN}, {words}", HAPROXY, always=True))
        if baseline:
            found.append(Form(f"{BASELINE}, {words}", HAPROXY, always=True))
    found += [
        Form(f"HAProxy, {cores} threads", HAPROXY),
        Form("HAProxy, 1 thread, splice", HAPROXY, bulk_only=True),
        Form(f"nginx stream, {cores} workers", HAPROXY),
        Form(f"Envoy, {cores} workers", HAPROXY),
    ]
    return list(dict.fromkeys(found))


def select(found: Sequence[Form], only: Sequence[str]) -> list[Form]:
    """Those that one of the words is a part of, and their peers. ValueError for a word that is part of none.

    Commas in names do not count, so that a list of words may be parted by them: "asyncio 1,nftables".
    """
    if not only:
        return list(found)
    plain = {form: form.name.lower().replace(",", "") for form in found}
    words = [" ".join(word.lower().split()) for word in only]
    for word in words:
        if not any(word in name for name in plain.values()):
            raise ValueError(f"--only: no form is called {word!r}; there are: {'; '.join(plain.values())}")
    named = [form for form in found if any(word in plain[form] for word in words)]
    # HAProxy's own peer is only a column; who asks for a relay alone need not wait for it.
    peers = {form.peer for form in named if form.name != HAPROXY}
    return [form for form in found if form in named or form.name in peers]


def turns(found: Sequence[Form], number: int) -> list[str]:
    """The names in the order in which round `number` takes slices of one kind: each next to a slice of its peer's.

    A peer, two that are compared with it, the peer again: who comes first changes from round to round.
    """
    here = [form for form in found if form.always or number % 3 == 0]
    names = [form.name for form in here]
    groups: list[tuple[str, list[str]]] = []
    for peer in dict.fromkeys(form.peer for form in here if form.peer in names):
        # HAProxy follows direct's group, which ends with direct.
        followers = [form.name for form in here if form.peer == peer and form.name != HAPROXY]
        pairs = [followers[at : at + 2] for at in range(0, len(followers), 2)]
        groups += [(peer, pair[::-1] if number % 2 else pair) for pair in pairs]
    order: list[str] = []
    for peer, pair in groups:
        if order[-1:] != [peer]:
            order.append(peer)
        order += [*pair, peer]
    order += [name for name in names if name not in order]
    return order[::-1] if number % 4 >= 2 else order
