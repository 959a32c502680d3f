"""The columns of nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.columns.table import AGE, NAME, NONE, Column, listed

if TYPE_CHECKING:
    from protos.core_pb2 import Node

_ROLE = "node-role.kubernetes.io/"


def status(node: Node) -> str:
    """Ready, NotReady or Unknown, with ",SchedulingDisabled" on a cordoned node."""
    ready = next((c for c in node.status.conditions if c.type == "Ready"), None)
    word = "Unknown" if ready is None else "Ready" if ready.status == "True" else "NotReady"
    return word + (",SchedulingDisabled" if node.spec.unschedulable else "")


def roles(node: Node) -> str:
    """Roles from the labels node-role.kubernetes.io/ROLE, sorted."""
    labels = node.metadata.labels
    found = {key.removeprefix(_ROLE) for key in labels if key.startswith(_ROLE) and key != _ROLE}
    if labels.get("kubernetes.io/role"):
        found.add(labels["kubernetes.io/role"])
    return listed(sorted(found))


def address(node: Node, kind: str) -> str:
    """The node's first address of this type."""
    return next((a.address for a in node.status.addresses if a.type == kind), NONE)


COLUMNS = (
    NAME,
    Column("STATUS", lambda node, now: status(node)),
    Column("ROLES", lambda node, now: roles(node)),
    AGE,
    Column("VERSION", lambda node, now: node.status.nodeInfo.kubeletVersion or NONE),
    Column("INTERNAL-IP", lambda node, now: address(node, "InternalIP"), wide=True),
    Column("EXTERNAL-IP", lambda node, now: address(node, "ExternalIP"), wide=True),
    Column("OS-IMAGE", lambda node, now: node.status.nodeInfo.osImage or "<unknown>", wide=True),
    Column("KERNEL-VERSION", lambda node, now: node.status.nodeInfo.kernelVersion or "<unknown>", wide=True),
    Column(
        "CONTAINER-RUNTIME",
        lambda node, now: node.status.nodeInfo.containerRuntimeVersion or "<unknown>",
        wide=True,
    ),
)
