"""JSONPath templates."""

from __future__ import annotations

from typing import Any

import pytest

from cli import jsonpath

DATA: dict[str, Any] = {
    "kind": "List",
    "metadata": {"labels": {"app": "web", "example.com/tier": "front"}},
    "items": [
        {"name": "a", "n": 1, "ok": True, "conditions": [{"type": "Ready", "status": "True"}]},
        {"name": "b", "n": 2, "ok": False, "conditions": [{"type": "Ready", "status": "False"}]},
        {"name": "c", "n": 3},
    ],
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{.kind}", "List"),
        ("{$.kind}", "List"),
        ("{kind}", "List"),
        ("kind={.kind};", "kind=List;"),
        ("{.items[0].name}", "a"),
        ("{.items[-1].name}", "c"),
        ("{.items[*].name}", "a b c"),
        ("{.items[1:].name}", "b c"),
        ("{.items[:2].n}", "1 2"),
        ("{.items[0].ok}", "true"),
        ("{.metadata.labels.app}", "web"),
        (r"{.metadata.labels.example\.com/tier}", "front"),
        ("{.metadata.labels['example.com/tier']}", "front"),
        ("{.metadata.labels}", '{"app":"web","example.com/tier":"front"}'),
        ("{.metadata.labels.*}", "web front"),
        ('{.items[?(@.name=="b")].n}', "2"),
        ("{.items[?(@.n>1)].name}", "b c"),
        ("{.items[?(@.conditions)].name}", "a b"),
        ('{.items[0].conditions[?(@.type=="Ready")].status}', "True"),
        ('{range .items[*]}{.name}={.n}{"\\n"}{end}', "a=1\nb=2\nc=3\n"),
        ('{range .items[*]}{range .conditions[*]}{.status}{","}{end}{end}', "True,False,"),
        ("{.missing}", ""),
        ("{.items[9].name}", ""),
        ("plain", "plain"),
        ('{"{"}', "{"),
    ],
)
def test_templates(template: str, text: str) -> None:
    assert jsonpath.render(template, DATA) == text


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{.a", "closing brace"),
        ("{..name}", "recursive descent is not supported"),
        ("{.items[}", "cannot read"),
        ("{range .items[*]}", r"without an \{end\}"),
        ("{end}", r"without a \{range\}"),
        ('{.items[?(@.name=="b"].n}', "ends with"),
        ("{.items[?(@.name==b)].n}", "text in quotes"),
    ],
)
def test_faults_are_named(template: str, says: str) -> None:
    with pytest.raises(jsonpath.PathError, match=says):
        jsonpath.render(template, DATA)


def test_find_takes_a_path_with_and_without_braces() -> None:
    assert jsonpath.find("{.items[*].n}", DATA) == [1, 2, 3]
    assert jsonpath.find(".items[*].n", DATA) == [1, 2, 3]
    assert jsonpath.find("metadata.labels.app", DATA) == ["web"]
