"""The agent's figures for Prometheus: what it has counted and timed, and how things stand at the scrape."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import structlog

from common import scrape
from common.looplag import LoopLag
from common.metrics import CALL_BOUNDS, LAG_BOUNDS, Histogram, Metric, Reading, render
from protos import agent_pb2

log = structlog.get_logger()

_P = "sampan_agent_"
PHASES = ("Pending", "Running", "Succeeded", "Failed", "Unknown")

SESSION = Metric(_P + "session_up", "gauge", "1 while a session with the master is open.")
SESSIONS = Metric(_P + "sessions_total", "counter", "Sessions with the master that were opened.")
REPORT = Metric(_P + "report_seconds", "histogram", "From sending a report to the master's acknowledgement.")
PODS = Metric(_P + "pods", "gauge", "Pods on this node by phase.", ("phase",))
RESTARTS = Metric(
    _P + "container_restarts_total",
    "counter",
    "Restarts of each container of the pods on this node.",
    ("namespace", "pod", "container"),
)
ASSIGNMENTS = Metric(_P + "assignments_revision", "gauge", "Revision of this node's pods that was received last.")
ASSIGNED = Metric(_P + "assignments_applied_revision", "gauge", "The one that the pods were last made to follow.")
ROUTES = Metric(_P + "routes_revision", "gauge", "Revision of the routing table that was received last.")
ROUTED = Metric(_P + "routes_applied_revision", "gauge", "The one that the proxy has acknowledged.")
PROXY = Metric(_P + "proxy_connected", "gauge", "1 while the agent is connected to the node's proxy.")
CALLS = Metric(_P + "runtime_call_seconds", "histogram", "Calls to the container runtime.", ("call",))
ERRORS = Metric(
    _P + "runtime_errors_total", "counter", "Calls to the container runtime that failed.", ("call", "reason")
)
LAG = Metric(_P + "loop_lag_seconds", "histogram", "How late the agent's event loop runs, looked at once a second.")

METRICS = (
    SESSION, SESSIONS, REPORT, PODS, RESTARTS, ASSIGNMENTS, ASSIGNED, ROUTES, ROUTED, PROXY, CALLS, ERRORS, LAG,
)  # fmt: skip


@dataclass(frozen=True)
class Figures:
    """How things stand now; revisions are the master's."""

    session_up: bool
    sessions: int
    pods: Iterable[agent_pb2.PodReport]
    assignments_revision: int
    assignments_applied: int
    routes_revision: int
    routes_applied: int
    proxy_connected: bool


@dataclass(eq=False)
class AgentMetrics:
    """What is counted and timed while the agent runs."""

    report_seconds: Histogram = field(default_factory=lambda: Histogram(CALL_BOUNDS))
    loop_lag: Histogram = field(default_factory=lambda: Histogram(LAG_BOUNDS))
    _calls: dict[tuple[str, ...], Histogram] = field(default_factory=dict)
    _errors: Counter[tuple[str, ...]] = field(default_factory=Counter)

    def runtime_call(self, call: str, seconds: float, reason: str) -> None:
        """A call to the runtime has ended; `reason` of its error, or empty."""
        self._calls.setdefault((call,), Histogram(CALL_BOUNDS)).observe(seconds)
        if reason:
            self._errors[call, reason] += 1

    async def serve(self, place: str, figures: Callable[[], Figures]) -> None:
        """Answers scrapes at `place` until cancelled; an address in use is retried."""
        lag = LoopLag(asyncio.get_running_loop())
        self.loop_lag = lag.seconds
        lag.start()

        async def readings() -> str:
            return self.text(figures())

        def failed(why: str) -> None:
            log.warning("metrics.not_served", address=place, cause=why)

        try:
            await scrape.serve(place, readings, failed)
        finally:
            lag.close()

    def text(self, now: Figures) -> str:
        """One scrape."""
        phases = Counter({(phase,): 0 for phase in PHASES})
        restarts: Counter[tuple[str, ...]] = Counter()
        for pod in now.pods:
            if pod.gone:
                continue
            phases[pod.status.phase or "Pending",] += 1
            for container in (*pod.status.initContainerStatuses, *pod.status.containerStatuses):
                restarts[pod.namespace, pod.name, container.name] = container.restartCount
        readings: list[Reading] = [
            (SESSION, float(now.session_up)),
            (SESSIONS, float(now.sessions)),
            (REPORT, self.report_seconds),
            (PODS, {phase: float(count) for phase, count in phases.items()}),
            (RESTARTS, {container: float(count) for container, count in restarts.items()}),
            (ASSIGNMENTS, float(now.assignments_revision)),
            (ASSIGNED, float(now.assignments_applied)),
            (ROUTES, float(now.routes_revision)),
            (ROUTED, float(now.routes_applied)),
            (PROXY, float(now.proxy_connected)),
            (CALLS, dict(self._calls)),
            (ERRORS, {which: float(count) for which, count in self._errors.items()}),
            (LAG, self.loop_lag),
        ]
        return render(readings)
