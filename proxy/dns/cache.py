"""Answers from elsewhere, kept for as long as they may be: bounded by number, size and time; pure."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace

from proxy.dns import message as dns
from proxy.dns.message import Message, Question, Record

# Seconds. The first as CoreDNS' usual set-up has it for Kubernetes' zone: names move sooner than their TTL says.
LONGEST, LONGEST_NEGATIVE = 300, 30
# An answer with more records is passed on but not kept.
_MOST_RECORDS = 64


@dataclass(frozen=True, slots=True)
class _Kept:
    reply: Message
    since: float
    until: float


class Cache:
    """The last `size` answers by question, the case of whose name does not matter."""

    def __init__(self, size: int = 4096) -> None:
        self._size = size
        self._kept: OrderedDict[Question, _Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, question: Question, now: float) -> Message | None:
        """The answer with its TTLs counted down; None when there is none or it is too old."""
        kept = self._kept.get(question)
        if kept is None:
            return None
        if now >= kept.until:
            del self._kept[question]
            return None
        self._kept.move_to_end(question)
        return _aged(kept.reply, int(now - kept.since))

    def put(self, question: Question, reply: Message, now: float) -> None:
        """Keeps an answer if it may be kept at all."""
        seconds = lifetime(reply)
        if not seconds or len(reply.answers) + len(reply.authority) + len(reply.additional) > _MOST_RECORDS:
            return
        self._kept[question] = _Kept(reply, now, now + seconds)
        self._kept.move_to_end(question)
        while len(self._kept) > self._size:
            self._kept.popitem(last=False)


def lifetime(reply: Message) -> int:
    """For how many seconds an answer may be kept: the least of its TTLs, or by its SOA when it says "no" (RFC 2308)."""
    if reply.flags & dns.TC or reply.rcode not in (dns.NOERROR, dns.NXDOMAIN):
        return 0
    asked = reply.question.type
    if reply.rcode == dns.NOERROR and any(record.type == asked or asked == dns.ANY for record in reply.answers):
        return min(LONGEST, *(record.ttl for record in reply.answers))
    for record in reply.authority:
        if record.type == dns.SOA and isinstance(record.data[-1], bytes):
            minimum = int.from_bytes(record.data[-1][-4:], "big")
            return min(LONGEST_NEGATIVE, minimum, *(one.ttl for one in (record, *reply.answers)))
    return 0


def _aged(reply: Message, seconds: int) -> Message:
    if not seconds:
        return reply

    def older(records: tuple[Record, ...]) -> tuple[Record, ...]:
        return tuple(replace(record, ttl=max(0, record.ttl - seconds)) for record in records)

    return replace(
        reply,
        answers=older(reply.answers),
        authority=older(reply.authority),
        additional=older(reply.additional),
    )
