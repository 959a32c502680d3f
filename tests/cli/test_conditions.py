"""What --for means."""

from __future__ import annotations

from typing import Any

import pytest

from cli import conditions

READY: dict[str, Any] = {
    "status": {"phase": "Running", "replicas": 3, "conditions": [{"type": "Ready", "status": "True"}]}
}
NOT_READY: dict[str, Any] = {"status": {"phase": "Pending", "conditions": [{"type": "Ready", "status": "False"}]}}


@pytest.mark.parametrize(
    ("text", "ready", "not_ready", "absent"),
    [
        ("condition=Ready", True, False, False),
        ("condition=ready", True, False, False),
        ("condition=Ready=False", False, True, False),
        ("condition=Other", False, False, False),
        ("delete", False, False, True),
        ("create", True, True, False),
        ("jsonpath={.status.phase}=Running", True, False, False),
        ("jsonpath='{.status.phase}'=Running", True, False, False),
        ("jsonpath=.status.phase=Pending", False, True, False),
        ("jsonpath={.status.replicas}=3", True, False, False),
        ("jsonpath={.status.replicas}", True, False, False),
        ('jsonpath={.status.conditions[?(@.type=="Ready")].status}=True', True, False, False),
    ],
)
def test_conditions(text: str, ready: bool, not_ready: bool, absent: bool) -> None:
    wanted = conditions.parse(text)
    assert (wanted.met(READY), wanted.met(NOT_READY), wanted.met(None)) == (ready, not_ready, absent)


@pytest.mark.parametrize(
    "text", ["", "Ready", "condition=", "delete=x", "jsonpath=", "phase=Running", "jsonpath={..a}"]
)
def test_what_cannot_be_waited_for_is_told(text: str) -> None:
    with pytest.raises(ValueError):
        conditions.parse(text)
