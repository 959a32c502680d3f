"""The wire format: what is built is read back, and no bytes do more than raise BadMessage."""

from __future__ import annotations

import struct
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.dns import message as dns
from proxy.dns.message import BadMessage, BadName, Edns, Message, Question, Record, build, name_of, parse, refusal

labels = st.sampled_from([b"web", b"Web", b"a", b"svc", b"cluster", b"local", b"x" * 63]) | st.binary(
    min_size=1, max_size=20
)
names = st.lists(labels, max_size=3).map(tuple)
plain = st.builds(
    Record, names, st.sampled_from([dns.A, dns.TXT, 64]), st.integers(0, 9999), st.tuples(st.binary(max_size=40))
)
named = st.builds(Record, names, st.sampled_from([dns.NS, dns.CNAME, dns.PTR, dns.DNAME]), st.just(5), st.tuples(names))
others = st.one_of(
    st.builds(Record, names, st.just(dns.SRV), st.just(5), st.tuples(st.binary(min_size=6, max_size=6), names)),
    st.builds(Record, names, st.just(dns.MX), st.just(5), st.tuples(st.binary(min_size=2, max_size=2), names)),
    st.builds(
        Record, names, st.just(dns.SOA), st.just(5), st.tuples(names, names, st.binary(min_size=20, max_size=20))
    ),
)
records = st.lists(st.one_of(plain, named, others), max_size=5).map(tuple)
messages = st.builds(
    Message,
    st.integers(0, 65535),
    st.sampled_from([0, dns.RD, dns.QR | dns.AA, dns.QR | dns.RA]),
    st.builds(Question, names, st.integers(1, 255)),
    st.integers(0, 15),
    records,
    records,
    records,
    st.none() | st.builds(Edns, st.integers(512, 65535), st.integers(0, 1)),
)


@given(messages)
@settings(max_examples=150, deadline=None)
def test_what_is_built_is_read_back(message: Message) -> None:
    assert parse(build(message)) == message


@given(messages, st.integers(512, 1400))
@settings(max_examples=100, deadline=None)
def test_a_limit_is_kept_and_what_is_missing_is_said(message: Message, limit: int) -> None:
    data = build(message, limit)
    assert len(data) <= max(limit, 512)
    read = parse(data)
    assert (read.id, read.question, read.edns, read.rcode) == (
        message.id,
        message.question,
        message.edns,
        message.rcode,
    )
    assert read.answers == message.answers[: len(read.answers)]
    missing = len(read.answers) < len(message.answers) or len(read.authority) < len(message.authority)
    assert bool(read.flags & dns.TC) == missing


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_random_bytes_are_a_message_or_bad(data: bytes) -> None:
    _read(data)


@given(messages, st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=6), st.integers(0, 2000))
@settings(max_examples=200, deadline=None)
def test_damaged_messages_are_a_message_or_bad(message: Message, damage: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(build(message))
    for place, value in damage:
        data[place % len(data)] = value
    _read(bytes(data))
    _read(bytes(data[: cut % len(data)]))


def _read(data: bytes) -> None:
    try:
        message = parse(data)
    except BadMessage as error:
        answer = refusal(error)
        assert answer is None or len(answer) == 12
        return
    if message.rcode < 16 or message.edns:
        again = build(message)
        # A message whose names were compressed better than we do may not fit any more.
        assert again[:2] == data[:2]


def test_names_that_point_at_each_other_end_at_once() -> None:
    head = struct.pack("!HHHHHH", 1, 0, 1, 0, 0, 0)
    for loop in (b"\xc0\x0c", b"\x01a\xc0\x0c", b"\xc0\x0e\xc0\x0c", b"\xc0\xff"):
        with pytest.raises(BadMessage):
            parse(head + loop + b"\0\x01\0\x01")


def test_a_message_made_to_be_slow_is_not() -> None:
    """Thousands of records whose names each are a chain of pointers."""
    chain = b"\x01a\0\0\x01\0\x01" + b"".join(struct.pack("!H", 0xC00C + 2 * i) for i in range(30))
    record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 0, 0)
    data = struct.pack("!HHHHHH", 1, 0, 1, 4000, 0, 0) + chain + record * 4000
    start = time.process_time()
    _read(data[:65535])
    assert time.process_time() - start < 5.0


@pytest.mark.parametrize("questions", [0, 2])
def test_one_question_and_no_other_number(questions: int) -> None:
    data = struct.pack("!HHHHHH", 9, dns.RD, questions, 0, 0, 0) + b"\x01a\0\0\x01\0\x01" * questions
    with pytest.raises(BadMessage) as caught:
        parse(data)
    answer = refusal(caught.value)
    assert answer is not None
    id, flags, *_ = struct.unpack("!HHHHHH", answer)
    assert (id, flags & 0xF, flags & dns.QR) == (9, dns.FORMERR, dns.QR)


def test_an_answer_and_a_torn_header_are_not_answered() -> None:
    for data in (b"\0\1", struct.pack("!HHHHHH", 9, dns.QR, 0, 0, 0, 0)):
        with pytest.raises(BadMessage) as caught:
            parse(data)
        assert refusal(caught.value) is None


def test_equal_names_are_written_once() -> None:
    name = name_of("web.default.svc.cluster.local")
    message = Message(
        1, dns.QR, Question(name, dns.A), answers=tuple(Record(name, dns.A, 5, (b"1234",)) for _ in range(9))
    )
    assert len(build(message)) == len(build(Message(1, dns.QR, Question(name, dns.A)))) + 9 * 16


@pytest.mark.parametrize("text", ["a..b", "x" * 64, ".".join(["x" * 60] * 5), "ü.de"])
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(BadName):
        name_of(text)


def test_the_root_and_the_final_dot() -> None:
    assert name_of("") == name_of(".") == ()
    assert name_of("a.b.") == (b"a", b"b")
