"""How long connections of a pod that is going may live on."""

from __future__ import annotations

import pytest

from common.drain import DRAIN_SECONDS, drain_limit
from protos import core_pb2


@pytest.mark.parametrize(
    ("said", "grace", "limit"), [(None, 30, 5), ("20", 30, 20), ("20", 10, 10), ("0", 30, 0), (None, 2, 2), ("1", 0, 0)]
)
def test_drain_limit(said: str | None, grace: int, limit: float) -> None:
    pod = core_pb2.Pod()
    pod.metadata.deletionGracePeriodSeconds = grace
    if said is not None:
        pod.metadata.annotations[DRAIN_SECONDS] = said
    assert drain_limit(pod) == limit
