"""Which taints are borne, by whom and for how long."""

from __future__ import annotations

import math

import pytest

from master.controllers.tolerations import NO_EXECUTE, NO_SCHEDULE, borne_for, tolerates, untolerated
from protos import core_pb2

TAINT = core_pb2.Taint(key="a", value="1", effect=NO_EXECUTE)


@pytest.mark.parametrize(
    ("toleration", "holds"),
    [
        ({"key": "a", "value": "1"}, True),
        ({"key": "a", "value": "1", "operator": "Equal", "effect": NO_EXECUTE}, True),
        ({"key": "a", "value": "2"}, False),
        ({"key": "a", "operator": "Exists"}, True),
        ({"key": "b", "operator": "Exists"}, False),
        ({"key": "a", "operator": "Exists", "effect": NO_SCHEDULE}, False),
        ({"operator": "Exists"}, True),
        ({"value": "1"}, False),
    ],
)
def test_kubernetes_rules(toleration: dict[str, str], holds: bool) -> None:
    made = core_pb2.Toleration(**toleration)  # type: ignore[arg-type]
    assert tolerates(made, TAINT) is holds
    assert (untolerated([made], [TAINT], (NO_EXECUTE,)) is None) is holds
    assert untolerated([made], [TAINT], (NO_SCHEDULE,)) is None
    assert borne_for([made], TAINT) == (math.inf if holds else 0)


def test_the_shortest_time_counts() -> None:
    times = [core_pb2.Toleration(operator="Exists", tolerationSeconds=s) for s in (30, 5)]
    assert borne_for([*times, core_pb2.Toleration(operator="Exists")], TAINT) == 5
    assert borne_for([core_pb2.Toleration(operator="Exists", tolerationSeconds=-3)], TAINT) == 0
