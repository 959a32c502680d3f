"""Percentages round as Kubernetes rounds them; the old pod goes first where two can't be."""

from __future__ import annotations

import pytest

from master.controllers.deployment.strategy import bounds
from tests.master.controllers.deployment.world import deployment


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "expected"),
    [
        (3, "25%", "25%", (1, 0)),
        (10, "25%", "25%", (3, 2)),
        (4, "25%", "25%", (1, 1)),
        (1, "25%", "25%", (1, 0)),
        (0, "25%", "25%", (0, 0)),
        (3, 0, "10%", (0, 1)),
        (2, 0, 5, (0, 2)),
        (29, "100%", 0, (29, 0)),
        (10, "1%", "99%", (1, 9)),
    ],
)
def test_bounds(replicas: int, surge: int | str, unavailable: int | str, expected: tuple[int, int]) -> None:
    found = deployment(replicas=replicas)
    rolling = found.spec.strategy.rollingUpdate
    for field, value in ((rolling.maxSurge, surge), (rolling.maxUnavailable, unavailable)):
        field.Clear()
        if isinstance(value, int):
            field.intVal = value
        else:
            field.type, field.strVal = 1, value
    limits = bounds(found)
    assert (limits.surge, limits.unavailable, limits.stop_first) == (*expected, "")


def test_one_replica_with_a_host_port_stops_first() -> None:
    limits = bounds(deployment(replicas=1, surge=1, host_port=53))
    assert (limits.surge, limits.unavailable, limits.stop_first) == (0, 1, "host port 53/TCP")
    several = bounds(deployment(replicas=2, surge=1, host_port=53))
    assert (several.surge, several.stop_first) == (1, "")
