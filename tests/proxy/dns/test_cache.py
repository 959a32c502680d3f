"""How long answers from elsewhere are kept, and how many."""

from __future__ import annotations

from dataclasses import replace

from proxy.dns import message as dns
from proxy.dns.cache import LONGEST, LONGEST_NEGATIVE, Cache, lifetime
from proxy.dns.message import Message, Question, Record, name_of
from tests.proxy.dns.support import a

ASKED = Question(name_of("www.example.com"), dns.A)
REPLY = Message(
    1, dns.QR, ASKED, answers=(a("www.example.com", "192.0.2.1", 60), a("www.example.com", "192.0.2.2", 30))
)


def soa(ttl: int, minimum: int) -> Record:
    data = b"\0" * 16 + minimum.to_bytes(4, "big")
    return Record(name_of("example.com"), dns.SOA, ttl, (name_of("ns"), name_of("me"), data))


def test_an_answer_is_kept_for_its_shortest_ttl_and_ages() -> None:
    cache = Cache()
    cache.put(ASKED, REPLY, 100.0)
    kept = cache.get(ASKED, 110.5)
    assert kept is not None and [record.ttl for record in kept.answers] == [50, 20]
    assert cache.get(ASKED, 130.0) is None
    assert len(cache) == 0


def test_how_long() -> None:
    assert lifetime(REPLY) == 30
    assert lifetime(replace(REPLY, answers=(a("www.example.com", "192.0.2.1", 86400),))) == LONGEST
    nothing = replace(REPLY, rcode=dns.NXDOMAIN, answers=(), authority=(soa(20, 10),))
    assert lifetime(nothing) == 10
    assert lifetime(replace(nothing, authority=(soa(7, 10),))) == 7
    assert lifetime(replace(nothing, authority=(soa(9999, 9999),))) == LONGEST_NEGATIVE
    assert lifetime(replace(nothing, rcode=dns.NOERROR)) == 10
    assert lifetime(replace(nothing, authority=())) == 0
    assert lifetime(replace(REPLY, rcode=dns.SERVFAIL)) == 0
    assert lifetime(replace(REPLY, flags=dns.QR | dns.TC)) == 0
    assert lifetime(replace(REPLY, answers=(a("x", "192.0.2.1", 0),))) == 0


def test_the_oldest_makes_room() -> None:
    cache = Cache(size=2)
    questions = [Question(name_of(f"{label}.example.com"), dns.A) for label in "abc"]
    cache.put(questions[0], REPLY, 0.0)
    cache.put(questions[1], REPLY, 0.0)
    assert cache.get(questions[0], 1.0) is not None
    cache.put(questions[2], REPLY, 0.0)
    assert [cache.get(question, 1.0) is not None for question in questions] == [True, False, True]


def test_a_huge_answer_is_not_kept() -> None:
    cache = Cache()
    cache.put(ASKED, replace(REPLY, answers=tuple(a("www.example.com", f"192.0.2.{i}") for i in range(100))), 0.0)
    assert len(cache) == 0
