"""Header blocks: the examples of RFC 7541, its bounds, and that no bytes do more than be refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.hpack import Decoder, HpackError, huffman

# Appendix C.4 (requests with Huffman code) and C.3 (the same without): one connection's blocks each.
CODED = (
    "828684418cf1e3c2e5f23a6ba0ab90f4ff",
    "828684be5886a8eb10649cbf",
    "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
)
PLAIN = (
    "828684410f7777772e6578616d706c652e636f6d",
    "828684be58086e6f2d6361636865",
    "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
)
COMMON = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")]
REQUESTS = (
    COMMON,
    [*COMMON, ("cache-control", "no-cache")],
    [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ],
)


@pytest.mark.parametrize("blocks", [CODED, PLAIN])
def test_the_requests_of_the_rfc(blocks: tuple[str, ...]) -> None:
    decoder = Decoder(16_384)
    assert [decoder.decode(bytes.fromhex(block)) for block in blocks] == list(REQUESTS)


def test_the_table_forgets_what_has_no_room() -> None:
    decoder = Decoder(1 << 20)
    # Two entries of which only one has room, and the index of the one that has not.
    for letter in (b"a", b"b"):
        decoder.decode(b"\x40\x01" + letter + b"\x7f\xf1\x0f" + bytes(2160))
    assert decoder.decode(b"\xbe")[0][0] == "b"
    with pytest.raises(HpackError, match="nothing has"):
        decoder.decode(b"\xbf")
    # The other end makes it small: nothing is left.
    with pytest.raises(HpackError, match="nothing has"):
        decoder.decode(b"\x20\xbe")
    assert decoder.decode(b"\x3f\xe1\x1f\x82") == [(":method", "GET")], "4096 again"


@pytest.mark.parametrize(
    ("block", "says"),
    [
        ("80", "nothing has"),
        ("ff80808080808001", "too large"),
        ("ff", "does not end"),
        ("0085", "a string that does not end"),
        ("0001", "a string that does not end"),
        ("00", "not there"),
        ("00816100", "within a byte"),
        ("0084fffffffc00", "end mark"),
        ("3fe21f", "at most 4096"),
        ("8220", "before the headers"),
    ],
)
def test_what_is_no_header_block_is_refused(block: str, says: str) -> None:
    with pytest.raises(HpackError, match=says):
        Decoder(16_384).decode(bytes.fromhex(block))


def test_few_bytes_cannot_stand_for_many() -> None:
    decoder = Decoder(16_384)
    decoder.decode(b"\x40\x01x\x7f\xa1\x1e" + b"y" * 4000)
    with pytest.raises(HpackError, match="more than 16384"):
        decoder.decode(b"\xbe" * 5)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_be_refused(block: bytes) -> None:
    decoder = Decoder(16_384)
    try:
        found = decoder.decode(block)
    except HpackError:
        found = []
    assert sum(len(name) + len(value) for name, value in found) <= 16_384
    try:
        assert len(huffman(block)) <= len(block) * 8 / 5
    except HpackError:
        pass
