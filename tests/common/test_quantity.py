from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import quantity
from common.quantity import QuantityError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", Fraction(0)),
        ("100m", Fraction(1, 10)),
        ("0.5", Fraction(1, 2)),
        (".5", Fraction(1, 2)),
        ("5.", Fraction(5)),
        ("+1", Fraction(1)),
        ("-1.5Ki", Fraction(-1536)),
        ("128Mi", Fraction(128 * 2**20)),
        ("1E", Fraction(10**18)),
        ("1E3", Fraction(1000)),
        ("1e-3", Fraction(1, 1000)),
        ("3u", Fraction(3, 10**6)),
        ("7n", Fraction(7, 10**9)),
        ("7Ei", Fraction(7 * 2**60)),
        ("0.1n", Fraction(1, 10**9)),
        ("-0.1n", Fraction(-1, 10**9)),
    ],
)
def test_a_quantity_is_read_exactly(text: str, value: Fraction) -> None:
    assert quantity.parse_quantity(text) == value


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("0.5", "500m"),
        ("1500m", "1500m"),
        ("2000m", "2"),
        ("1000", "1k"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("0.1Ki", "102400m"),
        ("1Ki", "1Ki"),
        ("0.5Ki", "512"),
        ("1e3", "1e3"),
        ("1E4", "10e3"),
        ("1e-1", "100e-3"),
        ("0Mi", "0"),
        ("-0.5", "-500m"),
        ("100Mi", "100Mi"),
    ],
)
def test_a_quantity_has_one_canonical_form(text: str, canonical: str) -> None:
    assert quantity.canonical(text) == canonical


def test_rounding_is_up_to_whole_units_and_thousandths() -> None:
    assert quantity.value("1.1") == 2
    assert quantity.value("128Mi") == 134217728
    assert quantity.milli("0.0001") == 1
    assert quantity.milli("2") == 2000
    assert quantity.milli("1500m") == 1500


@pytest.mark.parametrize(
    "text", ["", "abc", "1.2.3", "1 Mi", "Mi", "1mi", "1KB", "1e", "--1", "١", "1e999", "9" * 65, "inf"]
)
def test_what_is_no_quantity_is_refused_with_examples(text: str) -> None:
    with pytest.raises(QuantityError, match=r"must be a quantity such as 100m, 0\.5, 128Mi; got"):
        quantity.parse_quantity(text)


def test_a_quantity_is_bounded() -> None:
    assert quantity.value(str(2**63 - 1)) == 2**63 - 1
    with pytest.raises(QuantityError, match="below 2"):
        quantity.parse_quantity(str(2**63))


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (1023, "1023"), (1024, "1Ki"), (512 * 2**20, "512Mi"), (315_000_000, "300.4Mi"), (-1536, "-1.5Ki")],
)
def test_bytes_for_a_person(count: int, text: str) -> None:
    assert quantity.format_bytes(count) == text


def test_exact_quantities_from_numbers() -> None:
    assert quantity.bytes_quantity(512 * 2**20) == "512Mi"
    assert quantity.bytes_quantity(0) == "0"
    assert quantity.bytes_quantity(1000) == "1000"
    assert quantity.milli_quantity(1500) == "1500m"
    assert quantity.milli_quantity(2000) == "2"


_SUFFIXES = ["", "n", "u", "m", "k", "M", "Ki", "Mi", "e3", "E-2"]


@given(st.decimals(-9999, 9999, places=3), st.sampled_from(_SUFFIXES))
def test_the_canonical_form_keeps_the_value_and_is_stable(number: object, suffix: str) -> None:
    text = f"{number}{suffix}"
    canonical = quantity.canonical(text)
    assert quantity.parse_quantity(canonical) == quantity.parse_quantity(text)
    assert quantity.canonical(canonical) == canonical


@given(st.integers(0, 2**63 - 1))
def test_numbers_survive(count: int) -> None:
    assert quantity.value(quantity.bytes_quantity(count)) == count
    if count < 2**53:
        assert quantity.milli(quantity.milli_quantity(count)) == count
