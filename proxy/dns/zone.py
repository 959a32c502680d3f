"""What the cluster's names stand for, by Kubernetes' DNS specification: answers from the routing table alone; pure.

Every answer comes from an index that a change of one service touches in one place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import AddressValueError, IPv4Address, IPv4Network

from common.routing import NodeInfo, Route
from proxy.dns import message as dns
from proxy.dns.message import BadName, Name, Question, Record
from proxy.dns.services import Entry, entry_of

# Seconds: how long a resolver may keep an answer, also one that there is nothing.
TTL = 5
# A chain of ExternalName services longer than this is taken for a loop.
_MAX_CHAIN = 8
_SCHEMA_VERSION = b"1.1.0"
_REVERSE = (b"in-addr", b"arpa")


@dataclass(frozen=True)
class Answer:
    """What the zone says. With `elsewhere`, a name outside the cluster is to be asked for and its records added."""

    rcode: int = dns.NOERROR
    answers: tuple[Record, ...] = ()
    authority: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()
    elsewhere: Question | None = None


class Zone:
    """The names of one cluster as a node answers them."""

    def __init__(self, node: NodeInfo) -> None:
        """`node` gives the domain, the DNS address and the ranges whose reverse names are the cluster's own."""
        self.node = node
        self.revision = 0
        self._domain = dns.lower(dns.name_of(node.domain))
        self._ranges = [IPv4Network(cidr) for cidr in (node.service_cidr, node.cluster_cidr) if cidr]
        self._entries: dict[tuple[bytes, bytes], Entry] = {}
        self._namespaces: dict[bytes, int] = {}
        # Names of an address, by the service they come from.
        self._reverse: dict[str, dict[tuple[bytes, bytes], tuple[Name, ...]]] = {}
        self._server = (b"ns", b"dns", *self._domain)

    def __len__(self) -> int:
        return len(self._entries)

    # The index

    def put(self, route: Route) -> None:
        """A service was added or changed."""
        entry = entry_of(route, self._domain)
        self.remove(route.key)
        self._entries[entry.key] = entry
        self._namespaces[entry.key[0]] = self._namespaces.get(entry.key[0], 0) + 1
        for ip, names in entry.reverse.items():
            self._reverse.setdefault(ip, {})[entry.key] = names

    def remove(self, key: str) -> None:
        """A service ("namespace/name") is gone; nothing happens when it was not there."""
        namespace, _, name = key.lower().partition("/")
        entry = self._entries.pop((namespace.encode(), name.encode()), None)
        if entry is None:
            return
        left = self._namespaces[entry.key[0]] - 1
        if left:
            self._namespaces[entry.key[0]] = left
        else:
            del self._namespaces[entry.key[0]]
        for ip in entry.reverse:
            named = self._reverse[ip]
            del named[entry.key]
            if not named:
                del self._reverse[ip]

    # Answers

    def answer(self, question: Question, turn: int = 0) -> Answer | None:
        """The answer; None for a name that is not the cluster's. `turn` says which of a set comes first."""
        name = dns.lower(question.name)
        if name[-len(self._domain) :] == self._domain:
            return self._forward(question, name, turn)
        if name[-2:] == _REVERSE and len(name) == 6:
            return self._backward(question, name)
        return None

    def _forward(self, question: Question, name: Name, turn: int) -> Answer:
        chain: list[Record] = []
        owner = question.name
        for _ in range(_MAX_CHAIN):
            found = self._entry(name)
            if found is None or not found.external_name:
                records, exists, additional = self._records(name, owner, question.type, turn)
                rcode = dns.NOERROR if exists else dns.NXDOMAIN
                authority = () if records else self._soa(self._domain)
                return Answer(rcode, (*chain, *records), authority, additional)
            try:
                target = dns.name_of(found.external_name)
            except BadName:
                return Answer(dns.SERVFAIL)
            chain.append(Record(owner, dns.CNAME, TTL, (target,)))
            if question.type in (dns.CNAME, dns.ANY):
                return Answer(answers=tuple(chain))
            owner, name = target, dns.lower(target)
            if name[-len(self._domain) :] != self._domain:
                return Answer(answers=tuple(chain), elsewhere=replace(question, name=target))
        return Answer(dns.SERVFAIL)

    def _entry(self, name: Name) -> Entry | None:
        """The service whose own name this is."""
        below = name[: -len(self._domain)]
        if len(below) == 3 and below[2] == b"svc":
            return self._entries.get((below[1], below[0]))
        return None

    def _records(
        self, name: Name, owner: Name, type: int, turn: int
    ) -> tuple[tuple[Record, ...], bool, tuple[Record, ...]]:
        """Records of `type`, whether the name exists at all, and what helps beside it."""
        below = name[: -len(self._domain)]
        if below and below[-1] == b"svc":
            if len(below) <= 2:
                return (), len(below) == 1 or below[0] in self._namespaces, ()
            entry = self._entries.get((below[-2], below[-3]))
            if entry is None:
                return (), False, ()
            return entry.find(below[:-3], owner, type, turn, TTL)
        if below and below[-1] == b"pod":
            return self._pod(below[:-1], owner, type)
        return self._own(below, owner, type)

    def _pod(self, below: Name, owner: Name, type: int) -> tuple[tuple[Record, ...], bool, tuple[Record, ...]]:
        """`10-244-1-5.namespace.pod`: the address itself, as long as it is one of the cluster's."""
        if len(below) < 2:
            return (), True, ()
        address = _address(below[0].replace(b"-", b".")) if len(below) == 2 else None
        if address is None or not (str(address) in self._reverse or any(address in one for one in self._ranges)):
            return (), False, ()
        return _typed(type, dns.A, Record(owner, dns.A, TTL, (address.packed,))), True, ()

    def _own(self, below: Name, owner: Name, type: int) -> tuple[tuple[Record, ...], bool, tuple[Record, ...]]:
        """The zone itself, its server and the version of the scheme."""
        if not below:
            records = {dns.SOA: self._soa(owner)[0], dns.NS: Record(owner, dns.NS, TTL, (self._server,))}
            return (records[type],) if type in records else (), True, ()
        if below == (b"dns-version",):
            text = bytes([len(_SCHEMA_VERSION)]) + _SCHEMA_VERSION
            return _typed(type, dns.TXT, Record(owner, dns.TXT, TTL, (text,))), True, ()
        if below == (b"ns", b"dns") and self.node.dns:
            return _typed(type, dns.A, Record(owner, dns.A, TTL, (IPv4Address(self.node.dns).packed,))), True, ()
        return (), below == (b"dns",), ()

    def _backward(self, question: Question, name: Name) -> Answer | None:
        address = _address(b".".join(name[3::-1]))
        if address is None:
            return None
        named = self._reverse.get(str(address))
        if named is None:
            for one in self._ranges:
                if address in one:
                    apex = name[4 - one.prefixlen // 8 :]
                    return Answer(dns.NXDOMAIN, authority=self._soa(apex))
            return None
        if question.type not in (dns.PTR, dns.ANY):
            return Answer(authority=self._soa(name[1:]))
        targets = dict.fromkeys(target for key in sorted(named) for target in named[key])
        return Answer(answers=tuple(Record(question.name, dns.PTR, TTL, (target,)) for target in targets))

    def _soa(self, apex: Name) -> tuple[Record, ...]:
        """Makes resolvers remember that there is nothing, for TTL seconds."""
        figures = (self.revision & 0xFFFFFFFF, 7200, 1800, 86400, TTL)
        data = b"".join(figure.to_bytes(4, "big") for figure in figures)
        return (Record(apex, dns.SOA, TTL, (self._server, (b"hostmaster", *self._domain), data)),)


def _typed(asked: int, type: int, *records: Record) -> tuple[Record, ...]:
    return records if asked in (type, dns.ANY) else ()


def _address(text: bytes) -> IPv4Address | None:
    try:
        return IPv4Address(text.decode("ascii"))
    except (AddressValueError, UnicodeDecodeError):
        return None
