"""Takes a node's reports into the store: pod and node statuses, pods that are gone, events."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog
from google.protobuf.timestamp_pb2 import Timestamp

from master.dispatcher.sessions import Session
from master.dispatcher.statuses import StaleReport, merged_node_status, merged_pod_status
from protos import agent_pb2, core_pb2

if TYPE_CHECKING:
    from master.api.resources import Resources
    from master.store.store import Store

log = structlog.get_logger()

# What a node may speak about: its own pods, itself, and services its proxy serves.
_EVENT_KINDS = frozenset({"Pod", "Node", "Service"})


class Reports:
    """Applies reports; a node can only write what is its own."""

    def __init__(self, store: Store, resources: Resources) -> None:
        self._store = store
        self._resources = resources

    def heard(self, session: Session, report: agent_pb2.NodeReport) -> bool:
        """Notes what the node has applied and still drains; True when that is news."""
        session.assignments_acked = (report.assignments_epoch, report.assignments_revision)
        return session.applied(report.routes_epoch, report.routes_revision, report.draining, repeated=True)

    async def take(self, session: Session, report: agent_pb2.NodeReport) -> None:
        """Returns when everything in the report is on disk.

        Raises Unavailable when the store does not take it: the session must end, so that the agent sends
        everything again.
        """
        if report.HasField("node"):
            session.node_status = report.node
            session.node_settled = ""
        elif not report.pods and not report.events and self._settled(session):
            # A heartbeat, of which there may be a thousand a second.
            return
        # All at once: the store puts concurrent writes into one commit.
        try:
            async with asyncio.TaskGroup() as group:
                if session.node_status is not None:
                    group.create_task(self._node(session, session.node_status))
                for pod in report.pods:
                    group.create_task(self._pod(session, pod))
                for event in report.events:
                    group.create_task(self._event(session, event))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures

    def _settled(self, session: Session) -> bool:
        """Whether the node's status is stored as it was last reported; one that somebody changed since is compared."""
        stored: core_pb2.Node | None = self._store.get("Node", "", session.node)
        return session.node_status is None or stored is None or session.node_settled == stored.metadata.resourceVersion

    async def _node(self, session: Session, report: agent_pb2.NodeStatusReport) -> None:
        stored: core_pb2.Node | None = self._store.get("Node", "", session.node)
        if stored is None or self._settled(session):
            return
        now = Timestamp()
        now.GetCurrentTime()
        now.nanos = 0
        if merged_node_status(stored.status, report, now) is None:
            session.node_settled = stored.metadata.resourceVersion
            return

        def change(node: core_pb2.Node) -> None:
            status = merged_node_status(node.status, report, now)
            if status is not None:
                node.status.CopyFrom(status)

        written = await self._resources.mutate("Node", "", session.node, change, status=True, uid=session.node_uid)
        was, ready = _ready(stored), _ready(written)
        if written is not None and ready is not None and (was is None or was.status != ready.status):
            well = ready.status == "True"
            reason = "NodeReady" if well else "NodeNotReady"
            message = f"Node {session.node} status is now: {reason}" + ("" if well else f" ({ready.message})")
            kind = "Normal" if well else "Warning"
            await self._resources.record(written, kind, reason, message, "agent", session.node)

    async def _pod(self, session: Session, report: agent_pb2.PodReport) -> None:
        stored: core_pb2.Pod | None = self._store.get("Pod", report.namespace, report.name)
        if stored is None or stored.metadata.uid != report.uid:
            return
        if stored.spec.nodeName != session.node:
            log.warning("report.refused", node=session.node, pod=report.name, bound_to=stored.spec.nodeName)
            return
        if report.HasField("status"):
            await self._write_pod(session, report, report.status)
        if not report.gone:
            return
        if stored.metadata.HasField("deletionTimestamp"):
            await self._resources.finish_pod(report.namespace, report.name, report.uid)
            return
        # Nobody asked for that: the object stays, and whoever owns the pod sees that it has failed.
        log.warning("pod.lost", node=session.node, pod=report.name, uid=report.uid)
        lost = core_pb2.PodStatus()
        lost.CopyFrom(stored.status)
        lost.phase, lost.reason = "Failed", "PodLost"
        lost.message = f"node {session.node} reported the pod as gone, though it was not deleted"
        await self._write_pod(session, report, lost)

    async def _write_pod(self, session: Session, report: agent_pb2.PodReport, status: core_pb2.PodStatus) -> None:
        try:
            stored = self._store.get("Pod", report.namespace, report.name)
            if stored is not None and merged_pod_status(stored.status, status) is not None:
                await self._resources.mutate(
                    "Pod",
                    report.namespace,
                    report.name,
                    lambda pod: _set_pod_status(pod, session.node, status),
                    status=True,
                    uid=report.uid,
                )
        except StaleReport as error:
            log.info("report.stale", node=session.node, pod=report.name, uid=report.uid, cause=str(error))

    async def _event(self, session: Session, event: agent_pb2.AgentEvent) -> None:
        about = event.involved
        if about.kind not in _EVENT_KINDS or (about.kind == "Node" and about.name != session.node):
            log.warning("event.refused", node=session.node, kind=about.kind, name=about.name)
            return
        stored = self._store.get(about.kind, "" if about.kind == "Node" else about.namespace, about.name)
        if about.kind == "Pod" and stored is not None and stored.spec.nodeName != session.node:
            log.warning("event.refused", node=session.node, kind=about.kind, name=about.name)
            return
        component = "proxy" if about.kind == "Service" else "agent"
        await self._resources.record(about, event.type, event.reason, event.message, component, host=session.node)


def _ready(node: core_pb2.Node | None) -> core_pb2.NodeCondition | None:
    found = node.status.conditions if node is not None else ()
    return next((condition for condition in found if condition.type == "Ready"), None)


def _set_pod_status(pod: core_pb2.Pod, node: str, reported: core_pb2.PodStatus) -> None:
    # Decided on the pod as it is at the write, which may be newer than what was checked before.
    if pod.spec.nodeName != node:
        return
    status = merged_pod_status(pod.status, reported)
    if status is not None:
        pod.status.CopyFrom(status)
