"""Selectors: Kubernetes' syntax, its meaning, and errors that say what to write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import selectors
from common.errors import BadRequest
from common.selectors import LabelSelector, Requirement
from protos import meta_pb2

LABELS = {"app": "web", "tier": "front", "n": "5", "empty": ""}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("  ", True),
        ("app=web", True),
        ("app==web", True),
        ("app = web", True),
        ("app=db", False),
        ("app!=db", True),
        ("app!=web", False),
        ("missing!=x", True),
        ("missing=x", False),
        ("app", True),
        ("missing", False),
        ("!missing", True),
        ("! app", False),
        ("app in (web, db)", True),
        ("app in (db)", False),
        ("app notin (db)", True),
        ("missing notin (db)", True),
        ("app notin (web,db)", False),
        ("app=web,tier=front", True),
        ("app=web,tier=back", False),
        ("app in (web),!gone,tier", True),
        ("empty=", True),
        ("app=", False),
        ("empty in ()", True),
        ("empty in (,a)", True),
        ("n>4", True),
        ("n>5", False),
        ("n<6", True),
        ("app<6", False),
        ("example.com/x notin (y)", True),
    ],
)
def test_matching(text: str, matches: bool) -> None:
    assert selectors.parse_labels(text).matches(LABELS) is matches


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("app=web tier=front", "expected a comma"),
        ("app in web", "'('"),
        ("app in (web", "')' is missing"),
        ("=web", "label key"),
        ("app=we/b", "label value"),
        ("-app=web", "label key"),
        ("app,", "label key"),
        ("n>x", "whole number"),
        ("app web", "expected an operator"),
        ("app in (a b)", "expected ',' or ')'"),
    ],
)
def test_bad_selectors_say_what_to_write(text: str, words: str) -> None:
    with pytest.raises(BadRequest, match=r"write it like 'app=web'") as caught:
        selectors.parse_labels(text)
    assert words in str(caught.value)


keys = st.from_regex(r"[a-z]([a-z0-9]{0,4})", fullmatch=True).filter(lambda key: key not in {"in", "notin"})
values = st.from_regex(r"[a-zA-Z0-9]{1,4}", fullmatch=True)
requirements = st.one_of(
    st.builds(Requirement, keys, st.sampled_from([selectors.IN, selectors.NOT_IN]), st.frozensets(values, min_size=1)),
    st.builds(Requirement, keys, st.sampled_from([selectors.EXISTS, selectors.ABSENT])),
    st.builds(
        lambda key, operator, bound: Requirement(key, operator, frozenset((str(bound),))),
        keys,
        st.sampled_from([selectors.GREATER, selectors.LESS]),
        st.integers(0, 99),
    ),
)
written = st.lists(requirements, max_size=4).map(lambda found: LabelSelector(tuple(found)))


@given(written)
def test_a_selector_reads_back_what_it_writes(selector: LabelSelector) -> None:
    assert selectors.parse_labels(str(selector)) == selector


@given(written, st.dictionaries(keys, values, max_size=4))
def test_a_selector_holds_when_all_its_requirements_do(selector: LabelSelector, labels: dict[str, str]) -> None:
    alone = [LabelSelector((one,)).matches(labels) for one in selector.requirements]
    assert selector.matches(labels) is all(alone)


@given(st.dictionaries(keys, values, max_size=4), st.dictionaries(keys, values, max_size=4))
def test_a_map_selector_is_a_subset_test(wanted: dict[str, str], labels: dict[str, str]) -> None:
    assert selectors.from_map(wanted).matches(labels) is (wanted.items() <= labels.items())


def test_a_message_selector() -> None:
    message = meta_pb2.LabelSelector(matchLabels={"app": "web"})
    message.matchExpressions.add(key="tier", operator="In", values=["front", "back"])
    message.matchExpressions.add(key="old", operator="DoesNotExist")
    assert selectors.from_message(message).matches(LABELS)
    message.matchExpressions.add(key="x", operator="Like")
    with pytest.raises(BadRequest, match="In, NotIn, Exists, DoesNotExist"):
        selectors.from_message(message)


def test_field_selectors() -> None:
    fields = {"status.phase": "Running", "spec.nodeName": ""}
    parse = selectors.parse_fields

    def holds(text: str) -> bool:
        return parse(text, fields, "pods").matches(lambda name: fields[name])

    assert holds("") and holds("status.phase=Running") and holds("status.phase==Running,spec.nodeName=")
    assert holds("status.phase!=Failed") and not holds("status.phase!=Running") and not holds("spec.nodeName=n1")
    with pytest.raises(BadRequest, match=r"supported are spec.nodeName, status.phase"):
        parse("spec.color=red", fields, "pods")
    with pytest.raises(BadRequest, match="needs an operator"):
        parse("status.phase", fields, "pods")
