"""Ages and durations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli import ages

MINUTE, HOUR, DAY, YEAR = 60, 3600, 86400, 365 * 86400


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (-1.5, "0s"),
        (-0.2, "0s"),
        (0, "0s"),
        (0.9, "0s"),
        (1, "1s"),
        (70, "70s"),
        (119.99, "119s"),
        (2 * MINUTE, "2m"),
        (2 * MINUTE + 1, "2m1s"),
        (10 * MINUTE - 1, "9m59s"),
        (10 * MINUTE, "10m"),
        (3 * HOUR - 1, "179m"),
        (3 * HOUR, "3h"),
        (3 * HOUR + 90, "3h1m"),
        (8 * HOUR - 1, "7h59m"),
        (8 * HOUR + 59 * MINUTE, "8h"),
        (2 * DAY - 1, "47h"),
        (2 * DAY, "2d"),
        (2 * DAY + 3 * HOUR, "2d3h"),
        (8 * DAY - 1, "7d23h"),
        (8 * DAY + 5 * HOUR, "8d"),
        (2 * YEAR - 1, "729d"),
        (2 * YEAR, "2y"),
        (2 * YEAR + 10 * DAY, "2y10d"),
        (8 * YEAR + 10 * DAY, "8y"),
    ],
)
def test_human_is_as_kubectl_writes_it(seconds: float, text: str) -> None:
    assert ages.human(seconds) == text


@given(st.floats(0, 30 * YEAR))
def test_human_is_short_and_never_off_by_more_than_its_last_figure(seconds: float) -> None:
    text = ages.human(seconds)
    assert len(text) <= 6
    assert ages.parse_duration(text.replace("y", "d") if "y" not in text else "0") <= seconds + 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("5m", 300),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("7d", 7 * DAY),
        ("500ms", 0.5),
        ("10", 10),
        ("-1s", -1),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert ages.parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "abc", "5 m", "5x", "1h30", "--5s", "s"])
def test_what_is_no_duration_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="write it like 30s"):
        ages.parse_duration(text)
