"""How much of a DaemonSet an update may take at once, and what one node's pods mean to it."""

from __future__ import annotations

import pytest

from master.controllers.daemon_update import HASH_LABEL, Here, Limits, limits
from protos import apps_pb2, core_pb2
from tests.master.controllers.builders import NOW, pod


def daemons(unavailable: str = "", surge: str = "", kind: str = "RollingUpdate") -> apps_pb2.DaemonSet:
    ds = apps_pb2.DaemonSet()
    ds.spec.updateStrategy.type = kind
    for name, text in (("maxUnavailable", unavailable), ("maxSurge", surge)):
        field = getattr(ds.spec.updateStrategy.rollingUpdate, name)
        if text.endswith("%"):
            field.type, field.strVal = 1, text
        elif text:
            field.intVal = int(text)
            field.SetInParent()
    return ds


@pytest.mark.parametrize(
    ("ds", "nodes", "expected"),
    [
        (daemons(), 10, Limits(1, 0)),
        (daemons("3", "0"), 10, Limits(3, 0)),
        (daemons("25%", "0"), 10, Limits(3, 0)),
        (daemons("10%", "0"), 0, Limits(1, 0)),
        (daemons("0", "2"), 10, Limits(0, 2)),
        (daemons("0", "15%"), 10, Limits(0, 2)),
        (daemons(kind="OnDelete"), 10, Limits(0, 0)),
    ],
)
def test_limits(ds: apps_pb2.DaemonSet, nodes: int, expected: Limits) -> None:
    assert limits(ds, nodes) == expected


def one(name: str, revision: str, **more: bool) -> core_pb2.Pod:
    made = pod(name, node="n", **more)  # type: ignore[arg-type]
    made.metadata.labels[HASH_LABEL] = revision
    return made


def test_what_lives_on_a_node() -> None:
    gone, old, new = one("gone", "1", terminating=True), one("old", "1", ready=True), one("new", "2")
    here = Here("n", True, True, (gone, old, new), "2", 60, NOW)
    assert here.living() == (old, new)
    # Ready for 50 seconds, and 60 are asked for.
    assert not here.available(old) and not here.available(new) and not here.available(None)
    assert Here("n", True, True, (old,), "2", 40, NOW).available(old)
