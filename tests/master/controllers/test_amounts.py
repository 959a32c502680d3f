"""Numbers and percentages."""

from __future__ import annotations

import pytest

from master.controllers.amounts import percent_of, scaled, text_of
from protos import meta_pb2


@pytest.mark.parametrize(
    ("text", "total", "up", "down"),
    [("25%", 10, 3, 2), ("0%", 10, 0, 0), ("100%", 7, 7, 7), ("1%", 1, 1, 0), ("half", 10, 0, 0)],
)
def test_percentages(text: str, total: int, up: int, down: int) -> None:
    value = meta_pb2.IntOrString(type=1, strVal=text)
    assert (scaled(value, total, up=True), scaled(value, total, up=False)) == (up, down)
    assert text_of(value) == text


def test_numbers() -> None:
    value = meta_pb2.IntOrString(intVal=4)
    assert scaled(value, 100, up=True) == 4 and percent_of(value) is None and text_of(value) == "4"
