"""The node's figures and conditions."""

from __future__ import annotations

from node_agent.care.pressure import conditions
from node_agent.pods.measure import engine_down, measure
from node_agent.pods.model import NodeMeasure
from node_agent.runtime.seam import ImageSeen, Machine

GIB = 1024**3
MACHINE = Machine(
    runtime_version="docker://1", kernel="6", os_image="x", architecture="x86_64", cpus=4, memory=8 * GIB,
    memory_available=2 * GIB, cpu_seconds=5.0, disk=100 * GIB, disk_free=50 * GIB, pids=100, pids_max=1000,
)  # fmt: skip


def measured(machine: Machine = MACHINE, now: float = 10.0, before: NodeMeasure | None = None) -> NodeMeasure:
    return measure(
        machine,
        [ImageSeen("sha256:1", ("app:1", "app:2"))],
        cpu_cores_used=1.25,
        max_pods=50,
        overrides={"cpu": "2"},
        pressures=conditions({}),
        before=before.conditions if before else (),
        now=now,
    )


def statuses(found: NodeMeasure) -> dict[str, str]:
    return {one.type: one.status for one in found.conditions}


def test_figures() -> None:
    found = measured()
    assert found.capacity == {"cpu": "2", "memory": "8Gi", "pods": "50", "ephemeral-storage": "100Gi"}
    assert found.allocatable["memory"] == "8092Mi"
    assert found.used == {"cpu": "1250m", "memory": "6Gi"}
    assert found.images == ("app:1", "app:2")
    assert statuses(found) == {
        "MemoryPressure": "False", "DiskPressure": "False", "PIDPressure": "False", "Ready": "True",
    }  # fmt: skip
    report = found.report()
    assert report.capacity["pods"] == "50" and len(report.conditions) == 4


def test_times_move_with_the_status_only() -> None:
    first = measured()
    down = engine_down(measured(now=20.0, before=first), "gone", first.conditions, 30.0)
    times = {one.type: one.lastTransitionTime.seconds for one in down.conditions}
    assert times["MemoryPressure"] == 10 and times["Ready"] == 30
    assert statuses(down)["Ready"] == "False"
    assert down.capacity == first.capacity
    again = measured(now=40.0, before=down)
    assert {one.type: one.lastTransitionTime.seconds for one in again.conditions}["Ready"] == 40


def test_engine_down_from_the_start() -> None:
    found = engine_down(None, "gone", (), 1.0)
    assert statuses(found) == {"Ready": "False"}
    assert found.conditions[0].message == "gone"
