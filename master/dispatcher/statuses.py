"""What a node's report makes of a stored status; pure: returns the new status, or None when nothing changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from common.podstate import may_follow
from protos import agent_pb2, core_pb2


class StaleReport(Exception):
    """The report would take the pod backwards: it is older than what is stored."""


def merged_pod_status(was: core_pb2.PodStatus, reported: core_pb2.PodStatus) -> core_pb2.PodStatus | None:
    """The pod's status after a report of its node, or None when that is what it is already.

    Kept from the stored one: conditions that other writers own (PodScheduled), and what the agent leaves
    empty. A condition that keeps its value keeps its transition time. Raises StaleReport.
    """
    if not may_follow(was.phase, reported.phase):
        raise StaleReport(f"phase {was.phase or 'Pending'} does not become {reported.phase}")
    now = core_pb2.PodStatus()
    now.CopyFrom(reported)
    if not now.qosClass:
        now.qosClass = was.qosClass
    if not now.nominatedNodeName:
        now.nominatedNodeName = was.nominatedNodeName
    if was.HasField("startTime"):
        now.startTime.CopyFrom(was.startTime)
    conditions = merged_conditions(was.conditions, reported.conditions)
    del now.conditions[:]
    now.conditions.extend(conditions)
    return None if now == was else now


def merged_conditions(was: Iterable[Any], reported: Iterable[Any]) -> list[Any]:
    """Conditions by type: reported ones win, others stay, transition times move only with the value."""
    merged = {condition.type: condition for condition in was}
    for condition in reported:
        old = merged.get(condition.type)
        new = type(condition)()
        new.CopyFrom(condition)
        if old is not None and old.status == new.status and old.HasField("lastTransitionTime"):
            new.lastTransitionTime.CopyFrom(old.lastTransitionTime)
        merged[condition.type] = new
    return list(merged.values())


def merged_node_status(
    was: core_pb2.NodeStatus, report: agent_pb2.NodeStatusReport, now: Timestamp
) -> core_pb2.NodeStatus | None:
    """The node's status after a report, or None when that is what it is already.

    Heartbeats live in the NodeTable: lastHeartbeatTime moves only when something else does.
    """
    status = core_pb2.NodeStatus()
    status.CopyFrom(was)
    set_quantities(status.capacity, report.capacity)
    set_quantities(status.allocatable, report.allocatable)
    _set_images(status, report.images)
    stamped = []
    for condition in report.conditions:
        copy = core_pb2.NodeCondition()
        copy.CopyFrom(condition)
        copy.ClearField("lastHeartbeatTime")
        if not copy.HasField("lastTransitionTime"):
            copy.lastTransitionTime.CopyFrom(now)
        stamped.append(copy)
    conditions = merged_conditions(was.conditions, stamped)
    old = {condition.type: condition for condition in was.conditions}
    del status.conditions[:]
    for condition in conditions:
        before = old.get(condition.type)
        same = before is not None and _without_heartbeat(before) == _without_heartbeat(condition)
        if same and before is not None:
            condition = before
        elif any(condition.type == mine.type for mine in report.conditions):
            condition.lastHeartbeatTime.CopyFrom(now)
        status.conditions.append(condition)
    return None if status == was else status


def _without_heartbeat(condition: core_pb2.NodeCondition) -> core_pb2.NodeCondition:
    copy = core_pb2.NodeCondition()
    copy.CopyFrom(condition)
    copy.ClearField("lastHeartbeatTime")
    return copy


def set_quantities(into: Any, values: Mapping[str, str]) -> None:
    """Replaces a map of StringValue by plain text quantities; nothing happens when there are none."""
    if not values:
        return
    for name in [name for name in into if name not in values]:
        del into[name]
    for name, value in values.items():
        into[name].value = value


def _set_images(status: core_pb2.NodeStatus, images: Sequence[str]) -> None:
    if images:
        del status.images[:]
        status.images.extend(core_pb2.ContainerImage(names=[name]) for name in sorted(images))
