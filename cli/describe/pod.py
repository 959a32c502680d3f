"""The page of a pod: its containers, why it is not running, its volumes and events."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cli.ages import is_set, when
from cli.columns.pods import summary
from cli.describe import common
from cli.describe.container import container as container_page
from cli.describe.page import NONE, Page
from cli.describe.volumes import volume

if TYPE_CHECKING:
    from protos.core_pb2 import Pod, Toleration

# "0/3 nodes are available: node-1: …; node-2: …": one reason a line is easier to read.
_REASONS = re.compile(r";\s+")


def pod(page: Page, obj: Pod) -> None:
    """Everything but the events."""
    common.head(page, obj)
    status = obj.status
    if obj.spec.HasField("priority"):
        page.field("Priority", obj.spec.priority)
    page.fields({"Priority Class Name": obj.spec.priorityClassName})
    page.field("Node", (obj.spec.nodeName or NONE) + (f"/{status.hostIP}" if status.hostIP else ""))
    if is_set(status.startTime):
        page.field("Start Time", when(status.startTime))
    common.marks(page, obj)
    row = summary(obj)
    page.field("Status", row.status)
    if obj.metadata.HasField("deletionTimestamp"):
        page.field("Terminating Since", when(obj.metadata.deletionTimestamp))
        page.field("Termination Grace", f"{obj.metadata.deletionGracePeriodSeconds}s")
    page.fields({"Phase": status.phase if status.phase != row.status else "", "Reason": status.reason})
    page.fields({"Message": status.message})
    page.field("IP", status.podIP or NONE)
    common.owner(page, obj)
    _why_pending(page, obj)
    for heading, containers, statuses in (
        ("Init Containers", obj.spec.initContainers, status.initContainerStatuses),
        ("Containers", obj.spec.containers, status.containerStatuses),
    ):
        if containers:
            known = {found.name: found for found in statuses}
            with page.section(heading):
                for item in containers:
                    container_page(page, item, known.get(item.name))
    common.conditions(page, obj)
    if obj.spec.volumes:
        with page.section("Volumes"):
            for found in obj.spec.volumes:
                volume(page, found)
    page.field("QoS Class", status.qosClass or NONE)
    page.mapping("Node-Selectors", obj.spec.nodeSelector)
    page.several("Tolerations", (_toleration(item) for item in obj.spec.tolerations))


def _why_pending(page: Page, obj: Pod) -> None:
    """For a pod without a node: what the scheduler found wrong with each."""
    if obj.spec.nodeName:
        return
    for condition in obj.status.conditions:
        if condition.type == "PodScheduled" and condition.status == "False" and condition.message:
            lead, colon, reasons = condition.message.partition(" nodes are available: ")
            first = [f"{lead} nodes are available"] if colon else []
            page.several("Not Scheduled", [*first, *filter(None, _REASONS.split(reasons if colon else lead))])


def _toleration(item: Toleration) -> str:
    text = item.key + (f"={item.value}" if item.value else "") + (f":{item.effect}" if item.effect else "")
    text += " op=Exists" if item.operator == "Exists" else ""
    return text + (f" for {item.tolerationSeconds}s" if item.HasField("tolerationSeconds") else "")
