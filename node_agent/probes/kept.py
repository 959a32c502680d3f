"""Last statuses kept on disk: for a new agent who was ready still is, and a deadline counts from the start."""

from __future__ import annotations

from collections.abc import Mapping

import structlog
from google.protobuf.message import DecodeError

from node_agent.assignments import STATUSES, Keeper
from node_agent.probes.rules import Kind, probes_of
from protos.agent_pb2 import NodeReport, PodReport
from protos.core_pb2 import Pod

log = structlog.get_logger(__name__)


class KeptStatuses:
    """Of pods with startup or readiness probes, or a deadline; what the others need shows in their containers."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._reports: dict[str, PodReport] = {}

    def restore(self, pods: Mapping[str, Pod]) -> dict[str, Pod]:
        """The same pods (by uid) with the statuses the last agent gave them; the master's may be older."""
        data = self._keeper.load(STATUSES)
        try:
            kept = NodeReport.FromString(data or b"").pods
        except DecodeError as error:
            log.error("state.unreadable", file=STATUSES, cause=str(error))
            return dict(pods)
        self._reports = {one.uid: one for one in kept if one.uid in pods}
        return {uid: _with_status(pod, self._reports.get(uid)) for uid, pod in pods.items()}

    def put(self, pod: Pod | None, report: PodReport) -> None:
        """A pod has a new status; None for one that is not assigned any more."""
        if pod is None or report.gone:
            changed = self._reports.pop(report.uid, None) is not None
        else:
            changed = _needs_it(pod)
            if changed:
                self._reports[report.uid] = report
        if changed:
            self._keeper.keep(STATUSES, self._serialized)

    def _serialized(self) -> bytes:
        return NodeReport(pods=self._reports.values()).SerializeToString()


def _needs_it(pod: Pod) -> bool:
    """Whether running is not yet being ready for a container of this pod, or its start time counts."""
    if pod.spec.HasField("activeDeadlineSeconds"):
        return True
    gates = (Kind.STARTUP, Kind.READINESS)
    return any(kind in gates for c in (*pod.spec.initContainers, *pod.spec.containers) for kind in probes_of(c))


def _with_status(pod: Pod, report: PodReport | None) -> Pod:
    if report is None:
        return pod
    copy = Pod()
    copy.CopyFrom(pod)
    copy.status.CopyFrom(report.status)
    return copy
