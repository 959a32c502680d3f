"""Names, labels and keys: what passes, what does not, and what is said."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import names

LONG = "a" * 64

TABLE: list[tuple[Callable[[str], str | None], list[str], list[str]]] = [
    (names.label_fault, ["a", "a-1", "0x", "a" * 63], ["", "-a", "a-", "A", "a.b", "a_b", "a b", "ä", LONG, "a\n"]),
    (names.subdomain_fault, ["a", "a.b-c.d", "1.2", "a" * 253], ["", ".a", "a.", "a..b", "A", "a_b", "a" * 254]),
    (names.service_name_fault, ["a", "a-1"], ["", "1a", "a.b", "A", LONG]),
    (
        names.label_key_fault,
        ["a", "A.b_c-d", "example.com/a", "k8s.io/A"],
        ["", "/a", "a/", "a/b/c", "-a", "Example.com/a", LONG, f"x/{LONG}", "a b"],
    ),
    (names.label_value_fault, ["", "a", "A.b_c-1", "1" * 63], ["-", "a-", "a/b", "a b", LONG]),
    (names.env_name_fault, ["A", "_x", "a.b-c"], ["", "1A", "A=B", "A B", ".", ".."]),
    (names.config_key_fault, ["a", "A.b_c-d", ".hidden", "1"], ["", "a/b", "..", "..a", ".", "a b", "a" * 254]),
    (names.port_name_fault, ["http", "a1-b", "1a"], ["", "HTTP", "80", "a--b", "-a", "a" * 16]),
]


@pytest.mark.parametrize(("rule", "good", "bad"), TABLE, ids=lambda value: getattr(value, "__name__", ""))
def test_rules(rule: Callable[[str], str | None], good: list[str], bad: list[str]) -> None:
    for text in good:
        assert rule(text) is None, text
    for text in bad:
        assert rule(text), text


def test_a_fault_shows_the_text_but_not_all_of_a_long_one() -> None:
    assert "'My_Pod'" in str(names.subdomain_fault("My_Pod"))
    assert len(str(names.subdomain_fault("X" * 250))) < 300


@given(st.from_regex(r"[a-z0-9]([-a-z0-9]{0,80})", fullmatch=True))
def test_generated_names_are_labels_that_keep_the_prefix(prefix: str) -> None:
    name = names.generate_name(prefix)
    assert names.label_fault(name) is None
    assert name.startswith(prefix[:58])
    assert len(name) == min(len(prefix), 58) + 5


def test_generated_names_differ() -> None:
    assert len({names.generate_name("web-") for _ in range(200)}) > 190
