"""What the node's own processes say to services in user space is not followed by conntrack; pure.

On a Docker host every connection is looked up, and remembered, for the sake of translation. A relayed connection is
never translated: for the node's own processes, which reach the service range over the loopback device, this is dropped,
a sixteenth of what a request costs there in all (docs/adr/0005-nftables.md), and no place in the kernel's table of
connections is taken. What pods and clients outside send is left as it is: firewalls that accept what is established
may stand in its way.

The kernel's own services need to be followed, and whoever was connected through one must stay so after it went to user
space or went away: for as long as the kernel remembers an idle connection.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from proxy.nft import expressions as x
from proxy.nft import skeleton as s
from proxy.nft import steps as r
from proxy.nft.encode import plain_elements, without_elements
from proxy.nft.wire import Message
from proxy.plan import Place

# Places that the kernel serves, and places that it served.
TRACKED, FORMER = "tracked", "former"
# Seconds: nf_conntrack_tcp_timeout_established, as Linux has it by default.
REMEMBERED = 432_000
# Before conntrack looks (-200).
_RAW = -300


def table_of(table: str) -> str:
    """The name of the table that belongs to a table of services."""
    return f"{table}_untracked"


def make(table: str, service_cidr: str, served: Collection[Place], former: Collection[Place]) -> list[Message]:
    """The table beside `table`. Without places it looks nothing up, which is cheaper; `follow` is for others."""
    name = table_of(table)
    mixed = bool(served or former)
    messages = [s.new_table(name)]
    if mixed:
        messages += [s.set_of_places(name, 1, TRACKED), s.set_of_places(name, 2, FORMER, passing=True)]
    messages.append(s.base_chain(name, "output", "filter", s.OUTPUT, _RAW))
    messages.append(s.rule(name, "output", _passing(service_cidr, mixed)))
    messages += plain_elements(name, TRACKED, served)
    return [*messages, *plain_elements(name, FORMER, former, seconds=REMEMBERED)]


def follow(table: str, steps: Iterable[r.Step]) -> list[Message]:
    """What the steps of the services' table mean here."""
    name = table_of(table)
    messages: list[Message] = []
    for step in steps:
        if isinstance(step, r.Lead):
            messages += plain_elements(name, TRACKED, [place for place, _ in step.places])
        elif isinstance(step, r.Unlead):
            messages += without_elements(name, TRACKED, step.places)
            # One that is there already from a former life keeps its time on kernels before 6.12.
            messages += plain_elements(name, FORMER, step.places, seconds=REMEMBERED)
    return messages


def _passing(service_cidr: str, mixed: bool) -> bytes:
    """Only from the range to the range: a process of the node speaks to a service from the service's own address.

    An endpoint of a service in the kernel that is such a process, too, answers to that address from its own, and those
    answers are to be translated back.
    """
    rule = x.destination(0) + x.within(0, x.EQUAL, service_cidr) + x.source(0) + x.within(0, x.EQUAL, service_cidr)
    rule += x.meta(0, x.META_OIFNAME) + x.compare(0, x.EQUAL, b"lo\0")
    if mixed:
        for end in (False, True):
            rule += s.place_of_packet(origin=end) + x.missing(TRACKED, 0) + x.missing(FORMER, 0)
    return rule + x.untracked()
