from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from common import yamldoc
from common.yamldoc import YamlError
from tests.common.manifests import TEXTS


def one(text: str | bytes) -> Any:
    (document,) = yamldoc.load(text)
    return document.value


def test_documents_know_their_lines() -> None:
    documents = yamldoc.load("# first\na: 1\n---\n---\n\nb: 2\n---\n# nothing\n", "web.yaml")
    assert [(document.value, str(document)) for document in documents] == [
        ({"a": 1}, "web.yaml:2"),
        ({"b": 2}, "web.yaml:6"),
    ]


def test_json_and_kyaml() -> None:
    assert one('\n{"a":\t[1, true, null, 1.5]}') == {"a": [1, True, None, 1.5]}
    assert one('---\n{\n  a: "x", # why\n  b: [1,],\n}\n') == {"a": "x", "b": [1]}


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("yes", True),
        ("Y", True),
        ("on", True),
        ("n", False),
        ("NO", False),
        ("Off", False),
        ("true", True),
        ("~", None),
        ("", None),
        ("null", None),
        ("0644", 420),
        ("0o644", 420),
        ("0x1F", 31),
        ("0b11", 3),
        ("-12", -12),
        ("1_000", 1000),
        ("0", 0),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("8080:80", "8080:80"),
        ("2024-05-01", "2024-05-01"),
        ("2024-05-01T12:00:00Z", "2024-05-01T12:00:00Z"),
        ("1.2.3", "1.2.3"),
        ("089", 89.0),
        ("yess", "yess"),
        ("'yes'", "yes"),
        ('"1"', "1"),
        ("10.0.0.1", "10.0.0.1"),
        ("=", "="),
    ],
)
def test_scalars_are_read_as_kubectl_reads_them(scalar: str, value: object) -> None:
    found = one(f"a: {scalar}")["a"]
    assert found == value
    assert type(found) is type(value)


def test_merge_keys_and_anchors() -> None:
    assert one("a: &x {k: 1, m: 2}\nb:\n  <<: *x\n  k: 3") == {"a": {"k": 1, "m": 2}, "b": {"k": 3, "m": 2}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\n\tb: 2", "f.yaml:2:1: "),
        (
            "a: [1, 2\n",
            "f.yaml:2:1: did not find expected ',' or ']'",
        ),
        ("a: 1\nb: 2\na: 3", 'f.yaml:3:1: the key "a" is there twice'),
        ('{"a": 1, "a": 2}', 'f.yaml:1:10: the key "a" is there twice'),
        ("a:\n  b: {c: 1, c: 2}", 'f.yaml:2:13: the key "c" is there twice'),
        ("ok: 1\n---\n- 1", "f.yaml:3:1: a manifest must be a mapping"),
        ("just text", "f.yaml:1:1: a manifest must be a mapping"),
        ("a: !!python/object:os.system {}", "f.yaml:1:4: could not determine a constructor"),
        ("? [1]\n: 2", "f.yaml:1:3: a key must be text"),
        ("a: &x [*x]", "an alias refers to a value that contains it"),
        ("a: *nowhere", "f.yaml:1:4: found undefined alias"),
        ("a: 1\nb: \x01", "f.yaml:2:"),
        ("{" * 5000, "f.yaml:1:"),
        ("[" * 100_000, "f.yaml:1:"),
    ],
)
def test_a_mistake_is_named_with_its_place(text: str, message: str) -> None:
    with pytest.raises(YamlError) as caught:
        yamldoc.load(text, "f.yaml")
    assert message in str(caught.value)


def test_text_that_is_not_utf8_is_named_with_its_line() -> None:
    with pytest.raises(YamlError, match=r"f\.yaml:2:1: the text is not UTF-8"):
        yamldoc.load(b"a: 1\nb: \xff", "f.yaml")
    assert one(b"\xef\xbb\xbfa: 1") == {"a": 1}


def test_a_text_that_multiplies_itself_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    with pytest.raises(YamlError, match="holds more than"):
        yamldoc.load("\n".join(lines))


@pytest.mark.parametrize(
    "text", ["y", "no", "1", "1e3", "0o7", "~", "", "null", "2024-05-01", "1:30", "<<", " x", "=", "0x1"]
)
def test_a_dumped_text_is_text_for_everybody(text: str) -> None:
    dumped = yamldoc.dump({"a": text})
    assert one(dumped) == {"a": text}
    assert yaml.safe_load(dumped) == {"a": text}


def test_a_dumped_script_stays_readable() -> None:
    long = "word " * 200 + "end"
    assert yamldoc.dump({"run": "one\ntwo\n", "words": long}) == f"run: |\n  one\n  two\nwords: {long}\n"


_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=8,
)


@settings(max_examples=50)
@given(st.dictionaries(TEXTS, _VALUES, max_size=4))
def test_what_is_dumped_is_read_back(value: dict[str, Any]) -> None:
    assert one(yamldoc.dump(value)) == value
    if "Infinity" not in json.dumps(value):
        assert one(json.dumps(value)) == value
