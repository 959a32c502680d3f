"""Conditions: one per type, and their time tells when the status changed."""

from __future__ import annotations

from master.api.conditions import set_condition
from protos import core_pb2


def test_the_transition_time_moves_with_the_status_only() -> None:
    conditions = core_pb2.PodStatus().conditions
    assert set_condition(conditions, "Ready", "False", reason="Starting", now=1)
    assert not set_condition(conditions, "Ready", "False", reason="Starting", now=2)
    assert set_condition(conditions, "Ready", "False", reason="Waiting", now=3)
    assert conditions[0].lastTransitionTime.seconds == 1
    assert set_condition(conditions, "Ready", "True", now=4)
    assert set_condition(conditions, "Initialized", "True", now=5)
    assert [(one.type, one.status, one.lastTransitionTime.seconds) for one in conditions] == [
        ("Ready", "True", 4),
        ("Initialized", "True", 5),
    ]
