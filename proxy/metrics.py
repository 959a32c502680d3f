"""The proxy's figures for Prometheus, made from its status (of all workers together); pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.metrics import LAG_BOUNDS, Histogram, Metric, Reading, Rising, render

_P = "sampan_proxy_"

OPEN = Metric(_P + "connections_open", "gauge", "Established TCP connections that are being relayed.")
CONNECTING = Metric(_P + "connections_connecting", "gauge", "Accepted clients that have no endpoint yet.")
ACCEPTED = Metric(_P + "connections_accepted_total", "counter", "TCP connections accepted.")
BYTES = Metric(
    _P + "bytes_total",
    "counter",
    'Bytes relayed over TCP: "in" from clients to endpoints, "out" from endpoints to clients.',
    ("direction",),
)
FAILURES = Metric(_P + "connect_failures_total", "counter", "Connects to an endpoint that failed or took too long.")
RETRIES = Metric(_P + "retries_total", "counter", "Times that another endpoint was tried for a client.")
REFUSED = Metric(_P + "refused_total", "counter", "Clients that were reset because no endpoint answered.")
SESSIONS = Metric(_P + "udp_sessions", "gauge", "UDP clients that are remembered.")
DATAGRAMS = Metric(_P + "udp_datagrams_total", "counter", "Datagrams received from UDP clients.")
DROPPED = Metric(_P + "udp_datagrams_dropped_total", "counter", "Datagrams that could not be passed on.")
COMPLETE = Metric(_P + "table_complete", "gauge", "1 when a complete routing table is served, 0 before the first.")
REVISION = Metric(_P + "table_revision", "gauge", "Revision of the routing table that was taken last.")
LISTENERS = Metric(_P + "listeners", "gauge", "Addresses and ports that are to be listened on.")
ERRORS = Metric(_P + "listener_errors", "gauge", "Of these, those that are not served now; status says why.")
SERVICES = Metric(_P + "service_ports", "gauge", "Service ports that are served in user space.")
ENDPOINTS = Metric(_P + "endpoints", "gauge", "Endpoints over all service ports that are served in user space.")
WORKERS = Metric(_P + "workers", "gauge", "Worker processes: serving, or done with listening and draining.", ("state",))
REPLACED = Metric(_P + "workers_replaced_total", "counter", "Workers that died and were replaced.")
LAG = Metric(_P + "loop_lag_seconds", "histogram", "How late the workers' event loops run, looked at once a second.")
KERNEL = Metric(
    _P + "kernel_connections_total", "counter", "Connections that the kernel has carried (services in nftables mode)."
)
KERNEL_BYTES = Metric(
    _P + "kernel_bytes_total",
    "counter",
    'Bytes with their headers that the kernel has carried: "in" from clients to endpoints, "out" back.',
    ("direction",),
)
STARTED = Metric(_P + "start_time_seconds", "gauge", "When the oldest worker began, in seconds since 1970.")

METRICS = (
    OPEN, CONNECTING, ACCEPTED, BYTES, FAILURES, RETRIES, REFUSED, SESSIONS, DATAGRAMS, DROPPED, COMPLETE, REVISION,
    LISTENERS, ERRORS, SERVICES, ENDPOINTS, WORKERS, REPLACED, LAG, KERNEL, KERNEL_BYTES, STARTED,
)  # fmt: skip


class Exposition:
    """Turns one status after another into scrapes; counters never fall, whichever worker has gone meanwhile."""

    def __init__(self) -> None:
        self._rising = Rising()

    def text(self, status: Mapping[str, Any]) -> str:
        """`status` is what `counted()` of a `Proxy` or a `Crew` gives."""
        counters: Mapping[str, float] = status["counters"]
        workers = status.get("workers", ())
        retired = sum(bool(worker["retired"]) for worker in workers)

        def gauge(name: str) -> float:
            return float(counters.get(name, 0))

        def counter(name: str) -> float:
            return self._rising(name, gauge(name))

        def kernel(name: str) -> float:
            return self._rising(f"kernel/{name}", sum(port[name] for port in status.get("kernel", ())))

        readings: list[Reading] = [
            (OPEN, gauge("open")),
            (CONNECTING, gauge("connecting")),
            (ACCEPTED, counter("accepted")),
            (BYTES, {("in",): counter("bytesIn"), ("out",): counter("bytesOut")}),
            (FAILURES, counter("failures")),
            (RETRIES, counter("retries")),
            (REFUSED, counter("refused")),
            (SESSIONS, gauge("sessions")),
            (DATAGRAMS, counter("datagrams")),
            (DROPPED, counter("datagramsDropped")),
            (COMPLETE, float(status["complete"])),
            (REVISION, float(status["revision"])),
            (LISTENERS, float(status["listening"])),
            (ERRORS, float(status["failing"])),
            (SERVICES, float(status["servicePorts"])),
            (ENDPOINTS, float(status["endpoints"])),
            (WORKERS, {("serving",): float(len(workers) - retired or not workers), ("draining",): float(retired)}),
            (REPLACED, counter("workersReplaced")),
            (LAG, self._lag(status.get("loopLag", {}))),
            (KERNEL, kernel("connections")),
            (KERNEL_BYTES, {("in",): kernel("bytesIn"), ("out",): kernel("bytesOut")}),
            (STARTED, float(status["startedAt"])),
        ]
        return render(readings)

    def _lag(self, counts: Mapping[str, float]) -> Histogram:
        if not counts:
            return Histogram(LAG_BOUNDS)
        return Histogram.from_json({name: self._rising(f"loopLag/{name}", count) for name, count in counts.items()})
