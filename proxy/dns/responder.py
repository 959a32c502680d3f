"""From a query's bytes to an answer's: the zone for the cluster's names, the node's resolvers for the rest."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from proxy.dns import message as dns
from proxy.dns.forward import Forwarder
from proxy.dns.message import BadMessage, Edns, Message, Question, Record
from proxy.dns.zone import Answer, Zone

# Without EDNS, and the most that is sent in one datagram (it crosses any link in one piece).
PLAIN_UDP_BYTES, MOST_UDP_BYTES = 512, 1232

# Turns an answer from elsewhere into the bytes for the client.
Finish = Callable[[Message], bytes]
Pending = tuple[Awaitable[Message], Finish]


class Responder:
    """Answers queries for one zone; what the zone does not know goes to `forwarder`."""

    def __init__(self, zone: Zone, forwarder: Forwarder) -> None:
        self.zone = zone
        self._forwarder = forwarder
        self._turn = 0
        self.queries = self.faulty = 0

    def respond(self, data: bytes, *, udp: bool) -> bytes | Pending | None:
        """The answer; or what to wait for and how to finish it; or None: there is nothing to be said."""
        try:
            query = dns.parse(data)
        except BadMessage as error:
            self.faulty += 1
            return dns.refusal(error)
        if query.flags & dns.QR:
            # Never answer an answer: two servers would talk forever.
            self.faulty += 1
            return None
        self.queries += 1
        limit = _limit(query, udp)
        rcode = _unsupported(query)
        if rcode:
            return dns.build(_reply(query, rcode=rcode), limit)
        self._turn += 1
        answer = self.zone.answer(query.question, self._turn)
        if answer is None:
            return self._elsewhere(query, query.question, limit, None)
        if answer.elsewhere is not None:
            return self._elsewhere(query, answer.elsewhere, limit, answer)
        return dns.build(_from_zone(query, answer), limit)

    def _elsewhere(self, query: Message, question: Question, limit: int, chain: Answer | None) -> bytes | Pending:
        def finish(found: Message) -> bytes:
            reply = _reply(
                query,
                flags=dns.RA,
                rcode=found.rcode,
                answers=(*(chain.answers if chain else ()), *found.answers),
                authority=found.authority,
                additional=found.additional,
            )
            return dns.build(reply, limit)

        if not query.flags & dns.RD:
            # It did not ask us to ask others.
            if chain is not None:
                return dns.build(_from_zone(query, chain), limit)
            return dns.build(_reply(query, rcode=dns.REFUSED), limit)
        known = self._forwarder.known(question)
        if known is not None:
            return finish(known)
        return self._forwarder.ask(question), finish


def overloaded(data: bytes) -> bytes | None:
    """SERVFAIL for a query that there is no room for."""
    try:
        query = dns.parse(data)
    except BadMessage as error:
        return dns.refusal(error)
    return None if query.flags & dns.QR else dns.build(_reply(query, rcode=dns.SERVFAIL), PLAIN_UDP_BYTES)


def _unsupported(query: Message) -> int:
    """The response code for what is not served at all; 0 when it is."""
    if query.opcode:
        return dns.NOTIMP
    if query.edns is not None and query.edns.version:
        return dns.BADVERS
    if query.question.klass != dns.IN or query.question.type in (dns.AXFR, dns.IXFR, dns.OPT):
        return dns.REFUSED
    return 0


def _limit(query: Message, udp: bool) -> int:
    if not udp:
        return dns.MESSAGE_BYTES
    if query.edns is None:
        return PLAIN_UDP_BYTES
    return max(PLAIN_UDP_BYTES, min(query.edns.size, MOST_UDP_BYTES))


def _from_zone(query: Message, answer: Answer) -> Message:
    return _reply(
        query,
        flags=dns.AA | dns.RA,
        rcode=answer.rcode,
        answers=answer.answers,
        authority=answer.authority,
        additional=answer.additional,
    )


def _reply(
    query: Message,
    *,
    rcode: int,
    flags: int = dns.RA,
    answers: tuple[Record, ...] = (),
    authority: tuple[Record, ...] = (),
    additional: tuple[Record, ...] = (),
) -> Message:
    return Message(
        query.id,
        dns.QR | flags | query.flags & (dns.RD | 0x7800),
        query.question,
        rcode,
        answers,
        authority,
        additional,
        Edns(MOST_UDP_BYTES) if query.edns is not None else None,
    )
