"""Field selectors, for every kind and field."""

from __future__ import annotations

import pytest

from common.errors import BadRequest
from common.kinds import KINDS, POD, Kind
from master.api.fields import Filter, readers
from tests.master.api.making import pod


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_field_can_be_read_of_an_empty_object(kind: Kind) -> None:
    for name, read in readers(kind).items():
        assert isinstance(read(kind.message()), str), name
    assert ("metadata.namespace" in readers(kind)) is kind.namespaced


@pytest.mark.parametrize(
    ("labels", "fields", "matches"),
    [
        ("", "", True),
        ("app=web", "spec.nodeName=n1", True),
        ("app=db", "spec.nodeName=n1", False),
        ("app=web", "spec.nodeName!=n1", False),
        ("", "metadata.name=web,metadata.namespace=default,status.phase=", True),
        ("", "spec.restartPolicy=Never", False),
    ],
)
def test_both_selectors_must_match(labels: str, fields: str, matches: bool) -> None:
    wanted = Filter(POD, labels, fields)
    assert wanted.matches(pod(nodeName="n1")) is matches
    assert bool(wanted) is bool(labels or fields)


def test_unknown_fields_are_answered_with_the_known_ones() -> None:
    with pytest.raises(BadRequest, match=r"not a field pods can be selected by; supported are metadata\.name, "):
        Filter(POD, "", "spec.image=x")
