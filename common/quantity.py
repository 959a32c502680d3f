"""Kubernetes quantities (100m, 0.5, 128Mi, 1e3), read and written exactly.

Rules: Kubernetes' resource.Quantity. A number, then a binary suffix (Ki to Ei), a decimal one (n, u, m, k to E)
or a decimal exponent. Nothing finer than a billionth is kept: it is rounded away from zero.
"""

from __future__ import annotations

import functools
import math
import re
from fractions import Fraction

_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_PATTERN = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E|[eE][+-]?[0-9]{1,2})?")
_LIMIT = 2**63
# Longer texts are no quantities anybody means, and exact arithmetic on them is slow.
_LONGEST = 64
_NANO = 10**9


class QuantityError(ValueError):
    """A text that is no quantity; the message says what would be right."""


@functools.lru_cache(maxsize=4096)
def parse_quantity(text: str) -> Fraction:
    """The exact value. Raises QuantityError."""
    return _split(text)[0]


def value(text: str) -> int:
    """The value in whole units (for memory: bytes), rounded up. Raises QuantityError."""
    return math.ceil(parse_quantity(text))


def milli(text: str) -> int:
    """The value in thousandths (for cpu: milli-cores), rounded up. Raises QuantityError."""
    return math.ceil(parse_quantity(text) * 1000)


@functools.lru_cache(maxsize=4096)
def canonical(text: str) -> str:
    """The one way Kubernetes writes this value: no fraction, the largest suffix of the same family.

    0.5 -> 500m, 1024Mi -> 1Gi, 1500m stays, 1000 -> 1k. Raises QuantityError.
    """
    number, suffix = _split(text)
    if suffix in _BINARY and number.denominator == 1 and abs(number) >= 1024:
        return _binary(int(number))
    exponent, whole = -9, int(number * _NANO)
    if whole == 0:
        return "0"
    while whole % 1000 == 0 and exponent < 18:
        whole //= 1000
        exponent += 3
    if suffix[:1] in ("e", "E") and suffix != "E":
        return f"{whole}e{exponent}" if exponent else str(whole)
    return str(whole) + next(name for name, power in _DECIMAL.items() if power == exponent)


def bytes_quantity(count: int) -> str:
    """A number of bytes as an exact binary quantity: 536870912 -> 512Mi."""
    return _binary(count)


def milli_quantity(count: int) -> str:
    """Thousandths as an exact quantity: 1500 -> 1500m, 2000 -> 2."""
    return canonical(f"{count}m")


def format_bytes(count: int) -> str:
    """A number of bytes for a person's eyes: 512Mi, 1.5Gi, 300.4Mi; one decimal at most, rounded down."""
    sign, size = ("-", -count) if count < 0 else ("", count)
    power = max((power for power in _BINARY.values() if size >= 1024**power), default=0)
    if power == 0:
        return str(count)
    suffix = next(name for name, other in _BINARY.items() if other == power)
    whole, tenths = divmod(size * 10 // 1024**power, 10)
    return f"{sign}{whole}.{tenths}{suffix}" if tenths else f"{sign}{whole}{suffix}"


def _binary(count: int) -> str:
    suffix = ""
    for name in _BINARY:
        if count == 0 or count % 1024:
            break
        count //= 1024
        suffix = name
    return f"{count}{suffix}"


def _split(text: str) -> tuple[Fraction, str]:
    """The value, rounded to a billionth, and the suffix as written."""
    match = _PATTERN.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        raise QuantityError(f'must be a quantity such as 100m, 0.5, 128Mi; got "{text[:_LONGEST]}"')
    number, suffix = Fraction(match[1].rstrip(".")), match[2] or ""
    if suffix in _BINARY:
        number *= 1024 ** _BINARY[suffix]
    elif suffix in _DECIMAL:
        number *= Fraction(10) ** _DECIMAL[suffix]
    else:
        number *= Fraction(10) ** int(suffix[1:])
    nanos = number * _NANO
    if nanos.denominator != 1:
        number = Fraction(math.ceil(nanos) if nanos > 0 else math.floor(nanos), _NANO)
    if abs(number) >= _LIMIT:
        raise QuantityError(f'must be a quantity below 2^63; got "{text}"')
    return number, suffix
