"""One gRPC call's bytes: both ends against each other in any pieces, and what is not understood."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.grpcwire import FRAME_BYTES, PREFACE, Message, Status, Wire, WireError

MOST = 1_000_000


def ends(window: int = 65_535) -> tuple[Wire, Wire]:
    client, server = Wire(serves=False, most=MOST, window=window), Wire(serves=True, most=MOST)
    client.request("/a.B/C", "master:7444")
    return client, server


def pass_on(source: Wire, target: Wire, pieces: int = 65_536) -> list[bytes]:
    """Everything that `source` may send now, a piece at a time; the messages that are complete at `target`."""
    got: list[bytes] = []
    while data := source.take():
        for at in range(0, len(data), pieces):
            got += target.receive(data[at : at + pieces])
    return got


def settle(client: Wire, server: Wire, pieces: int = 65_536) -> tuple[list[bytes], list[bytes]]:
    """Until neither has anything to say: what came to the server, and to the client."""
    up: list[bytes] = []
    down: list[bytes] = []
    for _ in range(100):
        before = len(up) + len(down)
        up += pass_on(client, server, pieces)
        down += pass_on(server, client, pieces)
        if len(up) + len(down) == before and not client.waits and not server.waits:
            return up, down
    raise AssertionError("the two wait for each other")


SIZES = st.lists(
    st.sampled_from([0, 1, 100, FRAME_BYTES - 5, FRAME_BYTES - 4, FRAME_BYTES + 1, 70_000, 200_000]), max_size=5
)


@settings(deadline=None, max_examples=25)
@given(SIZES, SIZES, st.sampled_from([1, 7, 9, 1000, 65_536]), st.sampled_from([65_535, 10_000_000]))
def test_messages_arrive_whole_and_in_order_whatever_the_pieces(
    up: list[int], down: list[int], pieces: int, window: int
) -> None:
    if pieces < 100:
        up, down = [min(size, 17_000) for size in up], [min(size, 17_000) for size in down]
    client, server = ends(window)
    sent_up, sent_down = ([bytes([i]) * n for i, n in enumerate(sizes)] for sizes in (up, down))
    for message in sent_up:
        assert client.at_once(Message(message)) == b"", "overtook what opens the call"
    for message in sent_down:
        server.at_once(Message(message))
    assert settle(client, server, pieces) == (sent_up, sent_down)
    assert server.opened and client.ended is None and server.ended is None


def test_a_message_goes_at_once_when_the_other_end_has_room_and_waits_otherwise() -> None:
    client, server = ends()
    settle(client, server)
    message = Message(b"x" * 10_000)
    sent = [server.at_once(message) for _ in range(8)]
    assert [len(data) for data in sent] == [10_014] * 6 + [0, 0], "65,535 bytes are the window"
    assert server.waits
    got = client.receive(b"".join(sent))
    assert got == [b"x" * 10_000] * 6
    up, down = settle(client, server)
    assert (up, down) == ([], [b"x" * 10_000] * 2)


def test_the_server_ends_the_call_with_a_status_after_what_waits() -> None:
    client, server = ends()
    settle(client, server)
    server.at_once(Message(b"last" * 10_000))
    server.end(Status(14, "the master is shutting down: 100 % sure, naïvely"))
    assert settle(client, server)[1] == [b"last" * 10_000]
    assert client.ended == Status(14, "the master is shutting down: 100 % sure, naïvely")


def test_a_call_that_is_refused_before_it_has_begun_has_a_status_too() -> None:
    client, server = ends()
    server.end(Status(16, "who are you?"))
    settle(client, server)
    assert client.ended == Status(16, "who are you?")


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


HEADERS = b"\x83\x86\x04\x06/a.B/C\x0f\x10\x10application/grpc"
CALL = frame(1, 4, 1, HEADERS)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "does not speak HTTP/2"),
        (PREFACE + b"\xff\xff\xff\0\0\0\0\0\0", "at most 16384"),
        (PREFACE + CALL + frame(0, 0, 1, b"\1\0\0\0\0"), "compressed"),
        (PREFACE + CALL + frame(0, 0, 1, b"\0\xff\0\0\0"), "at most 1000000"),
        (PREFACE + CALL + frame(0, 8, 1, b"\5abc"), "padding"),
        (PREFACE + frame(8, 0, 0, b"\0"), "has 4 bytes"),
        (PREFACE + frame(5, 0, 1, b""), "pushed"),
        (PREFACE + frame(8, 0, 0, bytes(4)), "by nothing"),
        (PREFACE + frame(8, 0, 0, b"\x7f\xff\xff\xff"), "larger than there may be"),
        (PREFACE + frame(6, 0, 0, b"short"), "has 8 bytes, got 5"),
        (PREFACE + frame(6, 0, 1, b"12345678"), "kind 6 on stream 1"),
        (PREFACE + frame(4, 0, 0, b"12345"), "settings that do not end"),
        (PREFACE + frame(0, 0, 0, b"x"), "no stream"),
        (PREFACE + frame(0, 0, 1, b"x"), "before the call's headers"),
        (PREFACE + CALL + frame(0, 1, 1, b"") + frame(0, 0, 1, b"x"), "after its end"),
        (PREFACE + CALL + CALL, "in the midst of a call"),
        (PREFACE + frame(1, 4, 0, b""), "kind 1 on stream 0"),
        (PREFACE + frame(1, 4, 2, b"\x83"), "may not begin"),
        (PREFACE + b"".join(frame(1, 4, n, b"\x83") for n in range(3, 303, 2)), "too many of them"),
        (PREFACE + frame(1, 4, 1, b""), "must be a POST with a path"),
        (PREFACE + frame(1, 4, 1, HEADERS.replace(b"grpc", b"json")), "must be application/grpc"),
        (PREFACE + frame(1, 0, 1, HEADERS) + frame(6, 0, 0, b"12345678"), "broken off by another frame"),
        (PREFACE + frame(9, 4, 1, b""), "without a beginning"),
        (PREFACE + frame(1, 0, 1, b"\0") + frame(9, 0, 1, b"x" * 16_384), "headers of more than"),
        (PREFACE + frame(1, 0, 1, b"\x83") + frame(9, 0, 1, b""), "of no end"),
        (PREFACE + frame(1, 4, 1, b"\xff\xff\xff\xff\xff\xff"), "too large"),
        (PREFACE + b"".join(frame(6, 0, 0, b"12345678") for _ in range(20_000)), "does not read the answers"),
        (PREFACE + frame(4, 0, 0, b"\0\4\xff\xff\xff\xff"), "more than there may be"),
    ],
)
def test_what_is_not_understood_is_said(data: bytes, says: str) -> None:
    with pytest.raises(WireError, match=says):
        Wire(serves=True, most=MOST).receive(data)


FRAMES = st.builds(
    frame,
    st.integers(0, 11),
    st.sampled_from([0, 1, 4, 5, 8, 12, 32, 36, 255]),
    st.sampled_from([0, 1, 1, 1, 2, 3, 5, 2**31 - 1]),
    st.one_of(st.binary(max_size=40), st.sampled_from([HEADERS, HEADERS[:5], bytes(4), bytes(8), b"\0\0\0\0\5hello"])),
)


@settings(deadline=None, max_examples=150)
@given(
    st.one_of(st.binary(max_size=300), st.lists(FRAMES, max_size=12).map(b"".join)),
    st.sampled_from([1, 9, 50, 65_536]),
    st.booleans(),
)
def test_no_bytes_do_more_than_be_refused_and_little_is_kept_of_them(data: bytes, pieces: int, serves: bool) -> None:
    wire = Wire(serves=serves, most=MOST, path="/a.B/C")
    wire.take()
    data = (PREFACE + data) if serves else data
    try:
        for at in range(0, len(data), pieces):
            wire.receive(data[at : at + pieces])
        assert len(wire.take()) < 2000 + 2 * len(data)
        assert wire.take() == b"", "there is an end to what is said"
    except WireError as error:
        last = wire.goodbye(error)
        assert last[3] == 7 and len(last) < 250, "GOAWAY"
    assert len(wire._unread) < FRAME_BYTES + 9 and len(wire._body) < MOST + FRAME_BYTES


def test_a_call_of_another_method_is_unimplemented_and_of_this_one_is_served() -> None:
    for path, code in (("/a.B/C", None), ("/a.B/Other", 12), ("/grpc.health.v1.Health/Check", 12)):
        client, server = Wire(serves=False, most=MOST), Wire(serves=True, most=MOST, path="/a.B/C")
        client.request(path, "master:7444")
        client.at_once(Message(b"asked"))
        up, _ = settle(client, server)
        assert up == ([b"asked"] if code is None else [])
        assert (client.ended.code if client.ended is not None else None) == code
        assert code is None or path in str(client.ended)


def test_headers_in_several_frames_padded_and_with_a_priority_are_one() -> None:
    server = Wire(serves=True, most=MOST, path="/a.B/C")
    padded = b"\3" + bytes(5) + HEADERS[:7] + bytes(3)
    server.receive(PREFACE + frame(1, 8 | 32, 1, padded) + frame(9, 0, 1, HEADERS[7:9]) + frame(9, 4, 1, HEADERS[9:]))
    assert server.opened and server.ended is None


def test_a_second_call_is_refused_and_a_ping_answered() -> None:
    client, server = ends()
    settle(client, server)
    assert server.receive(frame(1, 4, 3, b"\x83")) == []  # POST, by its index
    assert server.take() == frame(3, 0, 3, (7).to_bytes(4, "big"))
    server.receive(frame(6, 0, 0, b"12345678"))
    assert server.take() == frame(6, 1, 0, b"12345678")
