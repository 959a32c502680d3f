"""Header blocks of HTTP/2 as they are read (RFC 7541): static and dynamic table, literals, Huffman code; no I/O."""

from __future__ import annotations

from collections import deque

TABLE_BYTES = 4096
"""What the dynamic table may hold: the size that holds when none is asked for (RFC 9113, 6.5.2)."""
# What an entry counts beyond its text (RFC 7541, 4.1).
_ENTRY_BYTES = 32
_LARGEST_INTEGER = 2**31 - 1

# RFC 7541, appendix A: names alone, and those that come with a value.
_STATIC: tuple[tuple[str, str], ...] = (
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
)

# RFC 7541, appendix B: of every byte and of the end mark how many bits its code has, "a" for 5 to "z" for 30. The code
# is canonical: those of one length follow on one another in the order of bytes, shorter ones come first.
_LENGTHS = (
    "isxxxxxxxtzxxzxxxxxxxxzxxxxxxxxxbffhibdgffdgdbbbaaabbbbbbbcdkbhfibccccccccccccccccccccccdcdioijbkaba"
    "babbbaccbbbabcbaabccccckgjixprpprrrsrssssststtrstssssqrsrsstrqprrssqsrrtqrssqqrqsrssprrrsrrsvvporsru"
    "vvvwwvtuoqvwwvwtqqvvxwwwptpqrqqsrruuttvsvwvvwwwwwxwwwwwvz"
)
_SHORTEST, _LONGEST = 5, 30
_END_MARK = 256


def _codes() -> dict[tuple[int, int], int]:
    """(bits, code) -> byte."""
    found: dict[tuple[int, int], int] = {}
    code = before = 0
    for length, byte in sorted((ord(letter) - ord("a") + _SHORTEST, byte) for byte, letter in enumerate(_LENGTHS)):
        code <<= length - before
        found[length, code] = byte
        before, code = length, code + 1
    return found


_CODES = _codes()


class HpackError(Exception):
    """A header block that is none; what follows on the connection cannot be read either."""


class Decoder:
    """Reads the header blocks of one connection, in their order. `most` bounds what one block's headers add up to."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._dynamic: deque[tuple[str, str]] = deque()
        self._held = 0
        self._room = TABLE_BYTES

    def decode(self, block: bytes) -> list[tuple[str, str]]:
        """Names and values, as ISO 8859-1 has their bytes. Raises HpackError."""
        found: list[tuple[str, str]] = []
        at = size = 0
        while at < len(block):
            first = block[at]
            if first & 0x80:
                index, at = _integer(block, at, 7)
                entry = self._entry(index)
            elif first & 0xE0 == 0x20:
                room, at = _integer(block, at, 5)
                if found or room > TABLE_BYTES:
                    raise HpackError(f"a table of {room} bytes; at most {TABLE_BYTES} were offered, before the headers")
                self._room = room
                self._evict()
                continue
            else:
                keeps = bool(first & 0x40)
                index, at = _integer(block, at, 6 if keeps else 4)
                if index:
                    name = self._entry(index)[0]
                else:
                    name, at = _string(block, at)
                value, at = _string(block, at)
                entry = (name, value)
                if keeps:
                    self._dynamic.appendleft(entry)
                    self._held += _size(entry)
                    self._evict()
            size += _size(entry)
            if size > self._most:
                raise HpackError(f"headers of more than {self._most} bytes")
            found.append(entry)
        return found

    def _entry(self, index: int) -> tuple[str, str]:
        if 1 <= index <= len(_STATIC):
            return _STATIC[index - 1]
        index -= len(_STATIC) + 1
        if 0 <= index < len(self._dynamic):
            return self._dynamic[index]
        raise HpackError("a header of an index that nothing has")

    def _evict(self) -> None:
        while self._held > self._room:
            self._held -= _size(self._dynamic.pop())


def _size(entry: tuple[str, str]) -> int:
    return len(entry[0]) + len(entry[1]) + _ENTRY_BYTES


def _integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    """A number that begins in the low `bits` of a byte, and where it ends."""
    mask = (1 << bits) - 1
    value = block[at] & mask
    at += 1
    if value < mask:
        return value, at
    shift = 0
    while at < len(block):
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        shift += 7
        if value > _LARGEST_INTEGER or shift > 35:
            raise HpackError("a number that is too large")
        if not byte & 0x80:
            return value, at
    raise HpackError("a number that does not end")


def _string(block: bytes, at: int) -> tuple[str, int]:
    if at >= len(block):
        raise HpackError("a string that is not there")
    coded = block[at] & 0x80
    size, at = _integer(block, at, 7)
    data = block[at : at + size]
    if len(data) < size:
        raise HpackError("a string that does not end")
    return (huffman(data) if coded else data).decode("latin-1"), at + size


def huffman(data: bytes) -> bytes:
    """The bytes that the code stands for. Raises HpackError."""
    out = bytearray()
    code = bits = 0
    for byte in data:
        for shift in range(7, -1, -1):
            code = code << 1 | byte >> shift & 1
            bits += 1
            if bits < _SHORTEST:
                continue
            found = _CODES.get((bits, code))
            if found is not None:
                if found == _END_MARK:
                    raise HpackError("a string with an end mark in it")
                out.append(found)
                code = bits = 0
            elif bits >= _LONGEST:
                raise HpackError("a string in a code that is none")
    # What fills the last byte are the first bits of the end mark, all ones.
    if bits > 7 or code != (1 << bits) - 1:
        raise HpackError("a string that ends within a byte")
    return bytes(out)
