"""DNS messages on the wire (RFC 1035, EDNS0 of RFC 6891): read and written with limits; pure.

A record's data is a tuple of bytes and names, so that names in it survive being moved into another message.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

# Labels from the left, without the root, in the case they were sent in.
Name = tuple[bytes, ...]
Data = tuple[bytes | Name, ...]

A, NS, CNAME, SOA, PTR, MX, TXT, RP, AFSDB, AAAA = 1, 2, 5, 6, 12, 15, 16, 17, 18, 28
SRV, DNAME, OPT, IXFR, AXFR, ANY = 33, 39, 41, 251, 252, 255
IN = 1

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)
BADVERS = 16

QR, AA, TC, RD, RA = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080
_OPCODE = 0x7800

# RFC 1035, 2.3.4; the jumps and records are limits of our own, above what honest servers send.
LABEL_BYTES, NAME_BYTES = 63, 255
_MAX_JUMPS = 32
_MAX_RECORDS = 4096
MESSAGE_BYTES = 65535
_HEADER = struct.Struct("!HHHHHH")
_RECORD = struct.Struct("!HHIH")
_OPT_BYTES = 11

# How the data of a type is made: a number is that many bytes, None a name. Other types are plain bytes (RFC 3597).
_SHAPES: dict[int, tuple[int | None, ...]] = {
    NS: (None,),
    CNAME: (None,),
    PTR: (None,),
    DNAME: (None,),
    SOA: (None, None, 20),
    MX: (2, None),
    RP: (None, None),
    AFSDB: (2, None),
    SRV: (6, None),
}
# Those of RFC 1035: only in them may names be compressed.
_COMPRESSED = frozenset({NS, CNAME, PTR, SOA, MX})


class BadMessage(ValueError):
    """Not a DNS message with one question; `id` and `flags` when the header was there (else id is None)."""

    def __init__(self, text: str, id: int | None = None, flags: int = 0) -> None:
        super().__init__(text)
        self.id = id
        self.flags = flags


class BadName(ValueError):
    """Not a domain name: says which label is empty or too long."""


@dataclass(frozen=True, slots=True)
class Question:
    name: Name
    type: int
    klass: int = IN


@dataclass(frozen=True, slots=True)
class Record:
    """One resource record; `ttl` in seconds."""

    name: Name
    type: int
    ttl: int
    data: Data
    klass: int = IN


@dataclass(frozen=True, slots=True)
class Edns:
    """The OPT record: how large a UDP answer may be, and the version. Its options are not kept."""

    size: int = 1232
    version: int = 0


@dataclass(frozen=True, slots=True)
class Message:
    """A query or an answer. `flags` without the response code; `rcode` may need EDNS (16 and more)."""

    id: int
    flags: int
    question: Question
    rcode: int = NOERROR
    answers: tuple[Record, ...] = ()
    authority: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()
    edns: Edns | None = None

    @property
    def opcode(self) -> int:
        """0 is a query."""
        return (self.flags & _OPCODE) >> 11


def name_of(text: str) -> Name:
    """The labels of a dotted name; a final dot does not matter. Raises BadName."""
    try:
        labels = tuple(label.encode("ascii") for label in text.rstrip(".").split(".")) if text.strip(".") else ()
    except UnicodeEncodeError as error:
        raise BadName(f"{text!r}: must be ASCII") from error
    if not all(1 <= len(label) <= LABEL_BYTES for label in labels):
        raise BadName(f"{text!r}: each label must have 1-{LABEL_BYTES} characters")
    if sum(map(len, labels)) + len(labels) + 1 > NAME_BYTES:
        raise BadName(f"{text!r}: must be at most {NAME_BYTES} bytes on the wire")
    return labels


def text_of(name: Name) -> str:
    """For logs: the dotted name, without the final dot."""
    return ".".join(label.decode("ascii", "backslashreplace") for label in name)


def lower(name: Name) -> Name:
    """What two names are compared by."""
    return tuple(label.lower() for label in name)


def parse(data: bytes) -> Message:
    """The message. Raises BadMessage, and nothing else, for any bytes."""
    if len(data) < _HEADER.size:
        raise BadMessage("shorter than a header")
    id, flags, questions, *counts = _HEADER.unpack_from(data)
    try:
        return _Reader(data).message(id, flags, questions, counts)
    except (_Fault, struct.error, IndexError) as error:
        raise BadMessage(str(error), id, flags) from None


class _Fault(Exception):
    pass


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = _HEADER.size

    def message(self, id: int, flags: int, questions: int, counts: list[int]) -> Message:
        if questions != 1:
            raise _Fault(f"{questions} questions: must be one")
        if sum(counts) > _MAX_RECORDS:
            raise _Fault(f"{sum(counts)} records: at most {_MAX_RECORDS}")
        name = self._name()
        type, klass = struct.unpack_from("!HH", self._data, self._at)
        self._at += 4
        answers = tuple(self._record() for _ in range(counts[0]))
        authority = tuple(self._record() for _ in range(counts[1]))
        additional = [self._record() for _ in range(counts[2])]
        rcode, edns = flags & 0xF, None
        options = [record for record in additional if record.type == OPT]
        if options:
            if len(options) > 1 or options[0].name:
                raise _Fault("more than one OPT record, or one with a name")
            # RFC 6891, 6.1.3: what is a class and a TTL elsewhere.
            rcode |= options[0].ttl >> 24 << 4
            edns = Edns(options[0].klass, options[0].ttl >> 16 & 0xFF)
        kept = tuple(record for record in additional if record.type != OPT)
        return Message(id, flags & ~0xF, Question(name, type, klass), rcode, answers, authority, kept, edns)

    def _record(self) -> Record:
        name = self._name()
        type, klass, ttl, size = _RECORD.unpack_from(self._data, self._at)
        self._at += _RECORD.size
        end = self._at + size
        if end > len(self._data):
            raise _Fault("a record reaches beyond the message")
        parts: list[bytes | Name] = []
        for part in _SHAPES.get(type, (size,)):
            if part is None:
                parts.append(self._name())
            else:
                parts.append(self._data[self._at : self._at + part])
                self._at += part
        if self._at != end:
            raise _Fault(f"the data of a record of type {type} is not as long as it says")
        # RFC 2181, 8: a TTL with the highest bit set counts as 0. (OPT has no TTL.)
        return Record(name, type, ttl if ttl < 1 << 31 or type == OPT else 0, tuple(parts), klass)

    def _name(self) -> Name:
        data, at, labels, total, jumps = self._data, self._at, [], 1, 0
        while True:
            size = data[at]
            if size >= 0xC0:
                target = (size & 0x3F) << 8 | data[at + 1]
                if not jumps:
                    self._at = at + 2
                jumps += 1
                # Only backwards: no loops.
                if target >= at or jumps > _MAX_JUMPS:
                    raise _Fault("a compressed name points forward or too often")
                at = target
                continue
            if size > LABEL_BYTES:
                raise _Fault("an unknown kind of label")
            at += 1
            if not size:
                break
            total += size + 1
            if total > NAME_BYTES or at + size > len(data):
                raise _Fault("a name is too long")
            labels.append(data[at : at + size])
            at += size
        if not jumps:
            self._at = at
        return tuple(labels)


def build(message: Message, limit: int = MESSAGE_BYTES) -> bytes:
    """The bytes of a message, at most `limit` of them (at least 512).

    Records that do not fit are left out from the end; TC is set unless only additional ones are missing.
    """
    out = bytearray(_HEADER.size)
    seen: dict[Name, int] = {}
    _put_name(out, message.question.name, seen)
    out += struct.pack("!HH", message.question.type, message.question.klass)
    room = min(limit, MESSAGE_BYTES) - (_OPT_BYTES if message.edns else 0)
    counts, cut = [0, 0, 0], False
    for section, records in enumerate((message.answers, message.authority, message.additional)):
        for record in records:
            before = len(out)
            _put_record(out, record, seen)
            if len(out) > room:
                del out[before:]
                cut = True
                break
            counts[section] += 1
        if cut:
            break
    truncated = cut and (counts[0] < len(message.answers) or counts[1] < len(message.authority))
    if message.edns:
        out += b"\0" + _RECORD.pack(OPT, message.edns.size, message.rcode >> 4 << 24 | message.edns.version << 16, 0)
        counts[2] += 1
    flags = message.flags | message.rcode & 0xF | (TC if truncated else 0)
    _HEADER.pack_into(out, 0, message.id, flags, 1, *counts)
    return bytes(out)


def _put_name(out: bytearray, name: Name, seen: dict[Name, int] | None) -> None:
    for start in range(len(name)):
        if seen is not None:
            suffix = name[start:]
            at = seen.get(suffix)
            if at is not None:
                out += struct.pack("!H", 0xC000 | at)
                return
            if len(out) < 0x4000:
                seen[suffix] = len(out)
        out.append(len(name[start]))
        out += name[start]
    out.append(0)


def _put_record(out: bytearray, record: Record, seen: dict[Name, int]) -> None:
    _put_name(out, record.name, seen)
    start = len(out)
    out += _RECORD.pack(record.type, record.klass, record.ttl, 0)
    for part in record.data:
        if isinstance(part, bytes):
            out += part
        else:
            _put_name(out, part, seen if record.type in _COMPRESSED else None)
    struct.pack_into("!H", out, start + 8, len(out) - start - _RECORD.size)


def refusal(error: BadMessage) -> bytes | None:
    """The answer to what could not be read: FORMERR with the header alone; None when even that is not due."""
    if error.id is None or error.flags & QR:
        return None
    return _HEADER.pack(error.id, QR | error.flags & (_OPCODE | RD) | FORMERR, 0, 0, 0, 0)
