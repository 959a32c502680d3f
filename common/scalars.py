"""One value of a manifest to one value of a message and back: texts, numbers, times, quantities, base64.

Every reader raises ValueError with the sentence the user sees behind the field's path.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import json
import re
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import StringValue

from common.quantity import canonical
from protos import meta_pb2

_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_INT32 = 2**31
_INT64 = 2**63
_SHOWN = 60


def got(value: object) -> str:
    """A value for an error message, as JSON and not too long."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    try:
        text = json.dumps(value, ensure_ascii=not (isinstance(value, str) and is_utf8(value)))
    except (TypeError, ValueError):
        text = f'"{value}"'
    return text if len(text) <= _SHOWN else text[: _SHOWN - 4] + '..."'


def is_utf8(text: str) -> bool:
    """False for a text with half a character, which JSON can spell and nothing can store."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_text(value: object) -> str:
    """Text only: a number or boolean is refused, as it need not mean what was written (0644, yes)."""
    if isinstance(value, str):
        if not is_utf8(value):
            raise ValueError("must be valid UTF-8 text")
        return value
    if isinstance(value, bool | int | float):
        text = got(value)
        raise ValueError(f'must be text, got {text}: put it in quotes, "{text}"')
    raise ValueError(f"must be text, got {got(value)}")


def read_bool(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError(f"must be true or false, got {got(value)}")


def read_int32(value: object) -> int:
    return _integer(value, _INT32)


def read_int64(value: object) -> int:
    return _integer(value, _INT64)


def read_bytes(value: object) -> bytes:
    """Base64, standard alphabet, padded; line breaks are allowed. No fault quotes the value: it may be secret."""
    if not isinstance(value, str):
        raise ValueError("must be base64 text")
    try:
        return base64.b64decode(re.sub(r"[\r\n]", "", value), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("must be base64 (for plain text in a Secret use stringData)") from None


def read_time(value: object) -> Timestamp:
    """RFC 3339, any offset; fractions are kept to the nanosecond."""
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"must be a time such as 2024-05-01T12:00:00Z, got {got(value)}")
    date, clock, fraction, zone = match.groups()
    try:
        moment = datetime.datetime.fromisoformat(f"{date}T{clock}{'+00:00' if zone in 'Zz' else zone}")
        stamp = Timestamp(seconds=round(moment.timestamp()), nanos=int((fraction or "").ljust(9, "0")))
        stamp.ToDatetime()
    except (ValueError, OverflowError):
        raise ValueError(f"must be a time such as 2024-05-01T12:00:00Z, got {got(value)}") from None
    return stamp


def read_quantity(value: object) -> StringValue:
    """A quantity in its canonical form, as Kubernetes stores it (0.5 becomes 500m)."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"must be a quantity such as 100m, 0.5, 128Mi; got {got(value)}")
    return StringValue(value=canonical(str(value)))


def read_int_or_string(value: object) -> meta_pb2.IntOrString:
    if isinstance(value, str):
        return meta_pb2.IntOrString(type=1, strVal=read_text(value))
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"must be a number or a name, got {got(value)}")
    return meta_pb2.IntOrString(intVal=_integer(value, _INT32))


def read_object(value: object) -> meta_pb2.RawExtension:
    """Any mapping of what JSON has; its own field names are nobody's to judge."""
    if not isinstance(value, dict):
        raise ValueError(f"must be a mapping, got {got(value)}")
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return meta_pb2.RawExtension(raw=text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"must hold what JSON has: {error}") from error


def write_object(value: meta_pb2.RawExtension) -> dict[str, Any]:
    """Empty for bytes that are no JSON object, which validation refuses."""
    try:
        found = json.loads(value.raw)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def write_bytes(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def write_time(stamp: Timestamp, micro: bool = False) -> str:
    """RFC 3339 in UTC with ``Z``: whole seconds, or with microseconds."""
    text = datetime.datetime.fromtimestamp(stamp.seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    # strftime does not pad years below 1000.
    text = text.rjust(len("2024-05-01T12:00:00"), "0")
    return f"{text}.{stamp.nanos // 1000:06d}Z" if micro else f"{text}Z"


def write_int_or_string(value: meta_pb2.IntOrString) -> int | str:
    return value.strVal if value.type == 1 else value.intVal


def write_quantity(value: Any) -> str:
    return value.value or "0"


def _integer(value: object, limit: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"must be an integer, got {got(value)}")
    if not -limit <= value < limit:
        raise ValueError(f"must be an integer from {-limit} to {limit - 1}, got {value}")
    return value
