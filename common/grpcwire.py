"""One gRPC call on one connection: as much of HTTP/2 as a single stream of messages each way needs; no I/O.

grpc.aio costs some 130 us of CPU for each message that is written or read; where one change goes to every node that is
most of the time (docs/adr/0008-fan-out.md). Frames and their meaning: RFC 9113, headers: RFC 7541, messages in them:
gRPC's "HTTP2 protocol" page. Any gRPC client or server can be the other end. What is not here: a second call on the
connection (it is refused) and compression. Whatever the other end sends, what is kept of it is bounded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from struct import Struct
from types import MappingProxyType
from urllib.parse import quote, unquote

from common.hpack import Decoder, HpackError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_BYTES = 16_384
"""No frame is larger: the least that every peer must take, and the most that is taken."""

_DATA, _HEADERS, _PRIORITY, _RESET, _SETTINGS, _PUSH, _PING, _GOAWAY, _WINDOW, _CONTINUATION = range(10)
_END_STREAM = _ACK = 0x1
_END_HEADERS, _PADDED, _PRIORITISED = 0x4, 0x8, 0x20
_INITIAL_WINDOW_SIZE, _MAX_CONCURRENT_STREAMS, _MAX_HEADER_LIST_SIZE = 4, 3, 6
_DEFAULT_WINDOW = 65_535
_LARGEST_WINDOW = 2**31 - 1
_STREAM = 1
_NO_ERROR, _PROTOCOL_ERROR, _REFUSED_STREAM = 0, 1, 7
_UNKNOWN, _UNIMPLEMENTED = 2, 12
# One call's headers, as they travel and as they are read.
_HEADER_BYTES = 16_384
# Answers (to pings, settings, refused streams) that the other end lets pile up, and streams that it may try in vain.
_ANSWER_BYTES = 256 * 1024
_REFUSALS = 100
# What a frame of these kinds has as its payload.
_SIZES = {_PRIORITY: 5, _RESET: 4, _PING: 8, _WINDOW: 4}
# These are of the connection, those of a stream.
_OF_CONNECTION = frozenset((_SETTINGS, _PING, _GOAWAY))
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_OF_STREAM = frozenset((_DATA, _HEADERS, _PRIORITY, _RESET, _CONTINUATION))


class WireError(Exception):
    """The other end does not speak this; the connection is of no use any more."""


@dataclass(frozen=True)
class Status:
    """How the call ended; `code` is gRPC's number (0: well)."""

    code: int
    message: str


class Message:
    """A message's bytes as they travel, made once for all connections that it goes to."""

    __slots__ = ("_payload", "framed")

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        size = len(payload) + 5
        # Most messages are one frame.
        self.framed = b""
        if size <= FRAME_BYTES:
            self.framed = _HEADS.pack(0, size, _DATA, 0, _STREAM, 0, size - 5) + payload

    @property
    def parts(self) -> tuple[bytes, ...]:
        """What of it fits into one frame each."""
        if self.framed:
            return (self.framed[9:],)
        body = _HEAD.pack(0, len(self._payload)) + self._payload
        return tuple(body[at : at + FRAME_BYTES] for at in range(0, len(body), FRAME_BYTES))


# A frame's head (size in three bytes, kind, flags, stream), a message's (compressed or not, size), and both.
_FRAME, _HEAD, _HEADS = Struct(">BHBBI"), Struct(">BI"), Struct(">BHBBIBI")


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _text(text: str) -> bytes:
    """A string without Huffman code; its length as RFC 7541 (5.1) has numbers."""
    data = text.encode("ascii")
    if len(data) < 127:
        return bytes((len(data),)) + data
    head, rest = bytearray(b"\x7f"), len(data) - 127
    while rest >= 128:
        head.append(rest & 0x7F | 0x80)
        rest >>= 7
    head.append(rest)
    return bytes(head) + data


def _literal(name: str, value: str) -> bytes:
    return b"\0" + _text(name) + _text(value)


class Wire:
    """One end of the connection. `receive` takes bytes, `take` gives those that are to be sent.

    `most` is the largest message that is taken, `window` how many bytes may be under way to this end, `path` the one
    method that is served (empty: whichever): a call of another is ended as unimplemented.
    """

    def __init__(self, *, serves: bool, most: int, window: int = _DEFAULT_WINDOW, path: str = "") -> None:
        self._serves, self.most = serves, most
        self._window = window
        self._path = path
        self._decoder = Decoder(_HEADER_BYTES)
        # Headers whose end has not come: stream, flags of their first frame, bytes.
        self._block: tuple[int, int, bytearray] | None = None
        self._refused = 0
        self._unread = b""
        self._preface = len(PREFACE) if serves else 0
        # Set when the call has begun, ended for the other end's part, and ended at all.
        self.opened = not serves
        self.half_closed = False
        self.ended: Status | None = None
        # It was this end that ended it.
        self.closing = False
        self._body = bytearray()
        self._taken = 0
        # What may be sent before the other end has said that it wants more.
        self._connection_window = self._stream_window = self._initial_window = _DEFAULT_WINDOW
        self._control = bytearray()
        self._waiting: deque[bytes] = deque()
        self._trailers = b""
        settings = _setting(_MAX_CONCURRENT_STREAMS, 1) + _setting(_MAX_HEADER_LIST_SIZE, _HEADER_BYTES)
        settings = settings if serves else b""
        if window != _DEFAULT_WINDOW:
            settings += _setting(_INITIAL_WINDOW_SIZE, window)
        if not serves:
            self._control += PREFACE
        self._control += _frame(_SETTINGS, 0, 0, settings)
        if window > _DEFAULT_WINDOW:
            self._control += _frame(_WINDOW, 0, 0, (window - _DEFAULT_WINDOW).to_bytes(4, "big"))

    # -- sending --------------------------------------------------------------------------------

    def request(self, path: str, authority: str, headers: Mapping[str, str] = _NO_HEADERS) -> None:
        """Begins the call, at the end that does not serve. Names of headers are in lower case, values in ASCII."""
        # Indices of RFC 7541's static table: POST, http, then names of :path, :authority and content-type.
        block = b"\x83\x86" + b"\x04" + _text(path) + b"\x01" + _text(authority)
        block += b"\x0f\x10" + _text("application/grpc") + _literal("te", "trailers")
        block += b"".join(_literal(name, value) for name, value in headers.items())
        self._control += _frame(_HEADERS, _END_HEADERS, _STREAM, block)

    def send(self, message: Message) -> None:
        """The message goes with the next `take`s, as the other end's windows allow."""
        self._waiting.extend(message.parts)

    def finish(self) -> None:
        """Nothing more comes from the end that does not serve, after what waits."""
        self._trailers = _frame(_DATA, _END_STREAM, _STREAM, b"")

    def ping(self) -> None:
        """Asks the other end for a sign of life with the next `take`."""
        self._control += _frame(_PING, 0, 0, bytes(8))

    def at_once(self, message: Message) -> bytes:
        """The message's bytes when it may go now and before all else; otherwise it waits for `take`, and b""."""
        framed = message.framed
        size = len(framed) - 9
        if (
            framed
            and size <= self._stream_window
            and size <= self._connection_window
            and not (self._waiting or self._control)
        ):
            self._stream_window -= size
            self._connection_window -= size
            return framed
        self._waiting.extend(message.parts)
        return b""

    def end(self, status: Status) -> None:
        """Ends the call, at the end that serves, after what waits."""
        if self.ended is None:
            self.ended, self.closing = status, True
            headers = b"" if self.opened else _RESPONSE
            said = quote(status.message, safe=" !\"#$&'()*+,-./:;<=>?@[]^_`{|}~")
            block = headers + _literal("grpc-status", str(status.code)) + _literal("grpc-message", said[:126])
            self._trailers = _frame(_HEADERS, _END_HEADERS | _END_STREAM, _STREAM, block)
            # There is no second call: who wants one makes a connection for it.
            self._trailers += _frame(_GOAWAY, 0, 0, _STREAM.to_bytes(4, "big") + _NO_ERROR.to_bytes(4, "big"))

    def goodbye(self, error: WireError) -> bytes:
        """What is sent last to an end that was not understood: GOAWAY; nothing when it speaks something else."""
        if self._preface:
            return b""
        stream = _STREAM if self.opened else 0
        said = str(error).encode("ascii", "replace")[:200]
        return _frame(_GOAWAY, 0, 0, stream.to_bytes(4, "big") + _PROTOCOL_ERROR.to_bytes(4, "big") + said)

    @property
    def even(self) -> bool:
        """Whether the call goes on and nothing is to be said: no answer, no message, no end."""
        return not (self._control or self._waiting or self._trailers or self.half_closed or self.ended)

    @property
    def waits(self) -> bool:
        """Whether there are messages that have not gone."""
        return bool(self._waiting)

    def take(self, limit: int = 65_536) -> bytes:
        """Up to about `limit` bytes that may be sent now."""
        if not (self._control or self._waiting or self._trailers):
            return b""
        out, self._control = self._control, bytearray()
        while self._waiting and len(out) < limit:
            part = self._waiting[0]
            room = min(len(part), self._stream_window, self._connection_window)
            if room <= 0:
                break
            if room < len(part):
                part, self._waiting[0] = part[:room], part[room:]
            else:
                self._waiting.popleft()
            self._stream_window -= room
            self._connection_window -= room
            out += _frame(_DATA, 0, _STREAM, part)
        if self._trailers and not self._waiting:
            out += self._trailers
            self._trailers = b""
        return bytes(out)

    # -- receiving ------------------------------------------------------------------------------

    def receive(self, data: bytes) -> list[bytes]:
        """The messages that are complete with these bytes; answers to them wait for `take`. Raises WireError."""
        if self._unread:
            data = self._unread + data
        at = 0
        if self._preface:
            if not data.startswith(PREFACE[: len(data)]):
                raise WireError("the other end does not speak HTTP/2")
            if len(data) < len(PREFACE):
                self._unread = data
                return []
            at, self._preface = len(PREFACE), 0
        messages: list[bytes] = []
        whole = len(data)
        while whole - at >= 9:
            high, low, kind, flags, stream = _FRAME.unpack_from(data, at)
            size = high << 16 | low
            if size > FRAME_BYTES:
                raise WireError(f"a frame of {size} bytes; at most {FRAME_BYTES} are taken")
            end = at + 9 + size
            if end > whole:
                break
            stream &= _LARGEST_WINDOW
            if self._block is not None and (kind != _CONTINUATION or stream != self._block[0]):
                raise WireError("headers that are broken off by another frame")
            if kind == _DATA:
                self._data(flags, stream, data[at + 9 : end], messages)
            else:
                self._other(kind, flags, stream, data[at + 9 : end])
            at = end
        self._unread = data[at:]
        return messages

    def _data(self, flags: int, stream: int, payload: bytes, messages: list[bytes]) -> None:
        self._taken += len(payload)
        if self._taken > self._window // 2:
            more = self._taken.to_bytes(4, "big")
            self._answer(_frame(_WINDOW, 0, 0, more) + _frame(_WINDOW, 0, _STREAM, more))
            self._taken = 0
        if not stream:
            raise WireError("data that belong to no stream")
        if stream != _STREAM or self.ended is not None:
            return
        if self.half_closed or not self.opened:
            raise WireError("data before the call's headers, or after its end")
        body = self._body
        if not (body or flags) and len(payload) >= 5:
            compressed, size = _HEAD.unpack_from(payload)
            if size == len(payload) - 5 <= self.most and not compressed:
                # A frame that is a message, as nearly all are.
                messages.append(payload[5:])
                return
        body += _unpadded(flags, payload)
        at = 0
        while len(body) - at >= 5:
            size = int.from_bytes(body[at + 1 : at + 5], "big")
            if body[at]:
                raise WireError("a compressed message; none was asked for")
            if size > self.most:
                raise WireError(f"a message of {size} bytes; at most {self.most} are taken")
            if len(body) - at - 5 < size:
                break
            messages.append(bytes(body[at + 5 : at + 5 + size]))
            at += 5 + size
        del body[:at]
        if flags & _END_STREAM:
            self._other_end_is_done({})

    def _other(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind in _SIZES and len(payload) != _SIZES[kind]:
            raise WireError(f"a frame of kind {kind} has {_SIZES[kind]} bytes, got {len(payload)}")
        if bool(stream) != (kind in _OF_STREAM) and (kind in _OF_STREAM or kind in _OF_CONNECTION):
            raise WireError(f"a frame of kind {kind} on stream {stream}")
        if kind == _HEADERS:
            self._headers_begin(flags, stream, payload)
        elif kind == _CONTINUATION:
            if self._block is None:
                raise WireError("headers that go on without a beginning")
            self._headers_go_on(flags, payload)
        elif kind == _SETTINGS:
            if not flags & _ACK:
                self._settings(payload)
                self._answer(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING:
            if not flags & _ACK:
                self._answer(_frame(_PING, _ACK, 0, payload))
        elif kind == _WINDOW:
            more = int.from_bytes(payload, "big") & _LARGEST_WINDOW
            if not more:
                raise WireError("a window's update by nothing")
            if stream == 0:
                self._connection_window += more
            elif stream == _STREAM:
                self._stream_window += more
            if max(self._connection_window, self._stream_window) > _LARGEST_WINDOW:
                raise WireError("a window that is larger than there may be")
        elif kind == _RESET:
            if stream == _STREAM and self.ended is None:
                self.ended = Status(_UNKNOWN, "the other end broke the stream off")
        elif kind == _GOAWAY:
            if not self._serves and self.ended is None:
                self.ended = Status(_UNKNOWN, "the other end closes the connection")
        elif kind == _PUSH:
            raise WireError("a pushed stream; none was asked for")

    def _answer(self, frame: bytes) -> None:
        self._control += frame
        if len(self._control) > _ANSWER_BYTES:
            raise WireError("it asks, and does not read the answers")

    def _headers_begin(self, flags: int, stream: int, payload: bytes) -> None:
        block = _unpadded(flags, payload)
        if flags & _PRIORITISED:
            if len(block) < 5:
                raise WireError("headers that are shorter than their priority")
            block = block[5:]
        self._block = (stream, flags, bytearray())
        self._headers_go_on(flags, block)

    def _headers_go_on(self, flags: int, piece: bytes) -> None:
        assert self._block is not None
        stream, first, block = self._block
        block += piece
        # A frame of nothing costs its sender little: it counts too.
        if len(block) > _HEADER_BYTES or (not piece and not flags & _END_HEADERS):
            raise WireError(f"headers of more than {_HEADER_BYTES} bytes, or of no end")
        if not flags & _END_HEADERS:
            return
        self._block = None
        try:
            # Also those of a stream that is refused: the table behind them is the connection's.
            self._headers(stream, bool(first & _END_STREAM), dict(self._decoder.decode(bytes(block))))
        except HpackError as error:
            raise WireError(str(error)) from error

    def _headers(self, stream: int, last: bool, headers: dict[str, str]) -> None:
        if stream != _STREAM:
            self._refuse(stream)
            return
        if self._serves and not self.opened:
            self._begin(headers)
        elif self._serves and (self.half_closed or not last):
            raise WireError("headers in the midst of a call, or after its end")
        if last:
            self._other_end_is_done(headers)

    def _refuse(self, stream: int) -> None:
        """A second call. Its sender knows that there is one at a time; some try before they have read so."""
        self._refused += 1
        if stream % 2 == 0 or self._refused > _REFUSALS:
            raise WireError("a stream that a client may not begin, or too many of them")
        self._answer(_frame(_RESET, 0, stream, _REFUSED_STREAM.to_bytes(4, "big")))

    def _begin(self, headers: dict[str, str]) -> None:
        path = headers.get(":path", "")
        if not path or headers.get(":method") != "POST":
            raise WireError("a request that is no call: it must be a POST with a path")
        if not headers.get("content-type", "").startswith("application/grpc"):
            raise WireError("a request that is no call: its content-type must be application/grpc")
        if self._path and path != self._path:
            self.end(Status(_UNIMPLEMENTED, f"there is {self._path} here and nothing else, not {path[:80]}"))
            self.opened = True
            return
        self.opened = True
        self._answer(_frame(_HEADERS, _END_HEADERS, _STREAM, _RESPONSE))

    def _other_end_is_done(self, trailers: dict[str, str]) -> None:
        self.half_closed = True
        if not self._serves and self.ended is None:
            code = trailers.get("grpc-status", "")
            message = unquote(trailers.get("grpc-message", "")) or "the other end has ended the stream"
            self.ended = Status(int(code) if code.isdecimal() and len(code) < 4 else _UNKNOWN, message)

    def _settings(self, payload: bytes) -> None:
        if len(payload) % 6:
            raise WireError("settings that do not end")
        for at in range(0, len(payload), 6):
            name, value = int.from_bytes(payload[at : at + 2], "big"), int.from_bytes(payload[at + 2 : at + 6], "big")
            if name == _INITIAL_WINDOW_SIZE:
                if value > _LARGEST_WINDOW:
                    raise WireError(f"a window of {value} bytes is more than there may be")
                self._stream_window += value - self._initial_window
                self._initial_window = value
                if self._stream_window > _LARGEST_WINDOW:
                    raise WireError("a window that is larger than there may be")


# ":status: 200", and content-type by its index in the static table.
_RESPONSE = b"\x88\x0f\x10" + _text("application/grpc")


def _setting(name: int, value: int) -> bytes:
    return name.to_bytes(2, "big") + value.to_bytes(4, "big")


def _unpadded(flags: int, payload: bytes) -> bytes:
    if not flags & _PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise WireError("a frame with more padding than it has bytes")
    return payload[1 : len(payload) - payload[0]]
