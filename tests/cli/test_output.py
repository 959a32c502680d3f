"""YAML and JSON that read back equal."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli import output
from common import yamldoc

TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc"), include_characters="\n\t"), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=150)
@given(st.dictionaries(TEXT, VALUES, min_size=1, max_size=4))
def test_yaml_reads_back_equal(manifest: dict[str, Any]) -> None:
    assert yamldoc.load(output.to_yaml(manifest))[0].value == manifest


@pytest.mark.parametrize(
    "text", ["y", "N", "on", "1e3", "0o7", "010", "1_000", "0x1F", ".5", "null", "~", "", "-", "5", "1.5", ".inf", "+1"]
)
def test_texts_that_look_like_something_else_are_quoted(text: str) -> None:
    assert yamldoc.load(output.to_yaml({"a": text}))[0].value == {"a": text}


def test_yaml_looks_as_people_write_it() -> None:
    text = output.to_yaml({"kind": "ConfigMap", "apiVersion": "v1", "data": {"conf": "a=1\nb=2\n"}, "l": [{"x": 1}]})
    assert text == "apiVersion: v1\ndata:\n  conf: |\n    a=1\n    b=2\nkind: ConfigMap\nl:\n- x: 1\n"


def test_json() -> None:
    assert json.loads(output.to_json({"a": ["ü"]})) == {"a": ["ü"]}
