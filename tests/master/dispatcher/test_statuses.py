"""What a report makes of a stored status."""

from __future__ import annotations

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from master.dispatcher.nodes import NodeTable, heartbeat_period
from master.dispatcher.statuses import StaleReport, merged_node_status, merged_pod_status
from protos import agent_pb2, core_pb2


def at(seconds: int) -> Timestamp:
    return Timestamp(seconds=seconds)


def condition(type: str, status: str, seconds: int) -> core_pb2.PodCondition:
    return core_pb2.PodCondition(type=type, status=status, lastTransitionTime=at(seconds))


def test_conditions_of_others_stay_and_times_move_with_the_value() -> None:
    was = core_pb2.PodStatus(
        phase="Pending",
        qosClass="Burstable",
        startTime=at(5),
        conditions=[condition("PodScheduled", "True", 1), condition("Ready", "False", 2)],
    )
    reported = core_pb2.PodStatus(
        phase="Running",
        startTime=at(9),
        conditions=[condition("Ready", "False", 7), condition("Initialized", "True", 7)],
    )
    now = merged_pod_status(was, reported)
    assert now is not None
    assert [(c.type, c.status, c.lastTransitionTime.seconds) for c in now.conditions] == [
        ("PodScheduled", "True", 1),
        ("Ready", "False", 2),
        ("Initialized", "True", 7),
    ]
    assert (now.qosClass, now.startTime.seconds) == ("Burstable", 5)
    assert merged_pod_status(now, reported) is None, "the same report changes nothing"


def test_a_pod_never_goes_back() -> None:
    with pytest.raises(StaleReport, match="Succeeded does not become Running"):
        merged_pod_status(core_pb2.PodStatus(phase="Succeeded"), core_pb2.PodStatus(phase="Running"))


def test_a_nodes_report_is_written_only_when_it_says_something_new() -> None:
    ready = core_pb2.NodeCondition(type="Ready", status="True", reason="AgentReady")
    report = agent_pb2.NodeStatusReport(conditions=[ready], capacity={"cpu": "2"}, used={"cpu": "1"}, images=["b", "a"])
    was = core_pb2.NodeStatus(conditions=[core_pb2.NodeCondition(type="Ready", status="Unknown")])
    now = merged_node_status(was, report, at(50))
    assert now is not None
    assert (now.conditions[0].status, now.conditions[0].lastTransitionTime.seconds) == ("True", 50)
    assert now.capacity["cpu"].value == "2" and [i.names[0] for i in now.images] == ["a", "b"]
    report.used["cpu"] = "2"
    assert merged_node_status(now, report, at(60)) is None


def test_the_pace_slows_as_the_cluster_grows() -> None:
    assert [heartbeat_period(n) for n in (0, 100, 300, 5000)] == [1.0, 1.0, 3.0, 10.0]


def test_a_node_is_silent_from_the_masters_start_at_the_earliest() -> None:
    now = [100.0]
    table = NodeTable(lambda: now[0])
    now[0] = 103.0
    assert table.silent_for("a") == 3.0 and table.last_heartbeat("a") is None
    table.opened("a", "s")
    now[0] = 104.0
    assert table.silent_for("a") == 1.0 and table.connected("a")
    table.closed("a", "s")
    assert not table.connected("a") and table.last_heartbeat("a") == 103.0
    table.forget("a")
    assert table.last_heartbeat("a") is None
