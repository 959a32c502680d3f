"""Keeps the Terminating pods that may not be stopped yet, and asks releases.py about them; no I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from common.drain import drain_limit
from common.frames import FrameWriter
from master.dispatcher.assignments import AssignmentIndex
from master.dispatcher.nodes import NodeTable
from master.dispatcher.releases import Hold, Proxy, judge
from master.dispatcher.routes import RouteTable
from master.dispatcher.sessions import Sessions
from protos import core_pb2

# A node that was silent for so long is not waited for: what else it serves has left every table (node controller).
SILENT_SECONDS = 4.0
SILENT_PERIODS = 3
# After a master's start nodes that have not come back yet still serve what they had.
RETURN_SECONDS = 10.0


class Holds:
    """What `Dispatcher` tells of pods and proxies; `settle` releases what may go. `clock`: monotonic seconds.

    `known_nodes` names the nodes that were Ready when they were last heard of.
    """

    def __init__(
        self,
        index: AssignmentIndex,
        routes: RouteTable,
        sessions: Sessions,
        nodes: NodeTable,
        known_nodes: Callable[[], Iterable[str]],
        clock: Callable[[], float],
    ) -> None:
        self._index, self._routes, self._sessions, self._nodes = index, routes, sessions, nodes
        self._known_nodes, self._clock = known_nodes, clock
        self._holds: dict[str, Hold] = {}
        # Namespace and name of every Terminating pod that was looked at, held or released.
        self._seen: dict[str, tuple[str, str]] = {}
        # When to settle again though nothing was heard.
        self.look_at: float | None = None

    def __bool__(self) -> bool:
        return bool(self._holds)

    def reset(self, pods: Iterable[core_pb2.Pod]) -> None:
        """All pods there are; those that are held stay held since they were."""
        listed = list(pods)
        uids = {pod.metadata.uid for pod in listed}
        for uid in [uid for uid in self._seen if uid not in uids]:
            self._forget(uid)
        for pod in listed:
            self.put(pod)

    def put(self, pod: core_pb2.Pod) -> None:
        """A pod was added or changed; the routing table and the assignments know it already."""
        meta = pod.metadata
        if not meta.HasField("deletionTimestamp") or not pod.spec.nodeName:
            return
        at_once = meta.deletionGracePeriodSeconds <= 0
        if meta.uid in self._seen and not (at_once and meta.uid in self._holds):
            return
        self._seen[meta.uid] = (meta.namespace, meta.name)
        left = self._routes.departure(meta.uid)
        if left is None or at_once:
            # It never had traffic, or it is to be killed anyway.
            self._holds.pop(meta.uid, None)
            self._release(meta.uid)
            return
        self._holds[meta.uid] = Hold(meta.uid, self._clock(), left.revision, left.places, drain_limit(pod))

    def remove(self, pod: core_pb2.Pod) -> None:
        """A pod's object is gone."""
        self._forget(pod.metadata.uid)

    def settle(self) -> None:
        """Releases what may be stopped now; the nodes concerned are in the index's `touched`."""
        if not self._holds:
            self.look_at = None
            return
        verdict = judge(self._holds.values(), self._proxies(), self._clock())
        self._holds = {hold.uid: hold for hold in verdict.holds}
        self.look_at = verdict.look_at
        for uid in verdict.released:
            self._release(uid)

    def _proxies(self) -> Iterable[Proxy]:
        writer: FrameWriter[Any] = self._routes.writer
        silent = max(SILENT_SECONDS, SILENT_PERIODS * self._nodes.heartbeat_period() + 1)
        for session in self._sessions:
            if self._nodes.silent_for(session.node) <= silent:
                epoch, revision = session.routes_acked
                yield Proxy(revision if epoch == writer.epoch else -1, session.draining)
        if self._clock() - self._nodes.started_at < RETURN_SECONDS:
            for name in self._known_nodes():
                if self._sessions.of(name) is None:
                    yield Proxy(-1)

    def _release(self, uid: str) -> None:
        namespace, name = self._seen[uid]
        self._index.release(namespace, name, uid)

    def _forget(self, uid: str) -> None:
        self._seen.pop(uid, None)
        self._holds.pop(uid, None)
