"""What the master is to hear next: the latest status of each pod, events, the node's own status; no I/O."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from protos import agent_pb2

# Events wait here while there is no master; the oldest are dropped.
EVENTS_KEPT = 500
EVENTS_PER_REPORT = 100


class Reporter:
    """A mailbox with the latest value per pod. `news` is set while there is something to say, `state` while that is
    more than events, `urgent` while somebody waits for it: a pod runs, is ready or no longer, has ended or is gone. A
    pod on its way waits a moment, events somewhat longer: what they tell of nearly always changes a status soon after.

    `take()` starts a report, `acked()` ends it. A report that was not acknowledged is not lost: the next
    session begins with `restart()`, which says everything again.
    """

    def __init__(self) -> None:
        self.news = asyncio.Event()
        self.state = asyncio.Event()
        self.urgent = asyncio.Event()
        self._pods: dict[str, agent_pb2.PodReport] = {}
        self._events: deque[agent_pb2.AgentEvent] = deque(maxlen=EVENTS_KEPT)
        self._node: agent_pb2.NodeStatusReport | None = None
        self._node_sent = False
        # Said to the master, not acknowledged yet.
        self._flying_events: list[agent_pb2.AgentEvent] = []
        self._flying_pods: dict[str, agent_pb2.PodReport] = {}
        self._complete = False
        self._session = ""
        self._sequence = 0

    def put(self, report: agent_pb2.PodReport) -> None:
        """The pod's status now; replaces what was waiting to be said about it."""
        self._pods[report.uid] = report
        self.changed()
        if report.gone or report.status.phase != "Pending":
            self.urgent.set()

    def event(self, event: agent_pb2.AgentEvent) -> None:
        self._events.append(event)
        self.news.set()

    def node(self, status: agent_pb2.NodeStatusReport) -> None:
        """The node's status now; said only when it changed."""
        if status != self._node:
            self._node = status
            self._node_sent = False
            self.hurry()

    def restart(self, session_id: str, statuses: Iterable[agent_pb2.PodReport]) -> None:
        """A new session: the next report is complete, with `statuses` being all there is."""
        gone = {uid: report for uid, report in {**self._flying_pods, **self._pods}.items() if report.gone}
        self._pods = {report.uid: report for report in statuses}
        # Pods that left the node and that nobody has heard of yet.
        self._pods = {**gone, **self._pods}
        self._events.extendleft(reversed(self._flying_events))
        self._flying_events, self._flying_pods = [], {}
        self._node_sent = False
        self._complete = True
        self._session, self._sequence = session_id, 0
        self.hurry()

    def changed(self) -> None:
        """The next report goes after a moment, whatever is in it."""
        self.news.set()
        self.state.set()

    def hurry(self) -> None:
        """The next report goes at once, whatever is in it."""
        self.changed()
        self.urgent.set()

    def take(self) -> agent_pb2.NodeReport:
        """The next report; an empty one is a heartbeat. The caller adds acknowledged revisions."""
        self.news.clear()
        self.state.clear()
        self.urgent.clear()
        self._sequence += 1
        report = agent_pb2.NodeReport(
            session_id=self._session, sequence=self._sequence, complete=self._complete, pods=self._pods.values()
        )
        self._flying_pods, self._pods = self._pods, {}
        while self._events and len(self._flying_events) < EVENTS_PER_REPORT:
            self._flying_events.append(self._events.popleft())
        report.events.extend(self._flying_events)
        if self._events:
            self.changed()
        if self._node is not None and not self._node_sent:
            report.node.CopyFrom(self._node)
            self._node_sent = True
        self._complete = False
        return report

    def acked(self) -> None:
        """The master has taken the last report."""
        self._flying_events, self._flying_pods = [], {}
