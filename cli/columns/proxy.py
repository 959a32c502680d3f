"""The tables of `sampan proxy status`: one row a node, a listener or an endpoint, from a proxy's JSON; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cli.ages import human
from cli.columns.table import NONE

KERNEL_HEADINGS = ("SERVICE", "PORT", "PROTOCOL", "CONNECTIONS", "IN", "OUT")

Status = Mapping[str, Any]
Row = tuple[str, ...]

NODE_HEADINGS = (
    "NODE", "STATUS", "REVISION", "WORKERS", "LISTENERS", "OPEN", "ACCEPTED", "IN", "OUT", "FAILURES", "RETRIES",
    "REFUSED", "AGE", "LAST-ERROR",
)  # fmt: skip
LISTENER_HEADINGS = ("SERVICE", "PORT", "ADDRESS", "PROTOCOL", "STATUS")
ENDPOINT_HEADINGS = (
    "SERVICE", "PORT", "ENDPOINT", "STATUS", "CONNECTIONS", "SERVED", "FAILURES", "LAST-ERROR",
)  # fmt: skip


def node_row(node: str, status: Status, now: float) -> Row:
    """A node whose proxy has answered; `now` in seconds since the epoch."""
    counters = status.get("counters", {})
    workers = status.get("workers", ())
    serving = sum(not worker["retired"] for worker in workers)
    draining = len(workers) - serving
    failing = sum(bool(listener["error"]) for listener in status["listeners"])
    return (
        node,
        state(status),
        revision(status),
        f"{serving}+{draining} draining" if draining else str(serving or 1),
        f"{len(status['listeners']) - failing}/{len(status['listeners'])}",
        str(counters.get("open", 0)),
        str(counters.get("accepted", 0)),
        size(counters.get("bytesIn", 0)),
        size(counters.get("bytesOut", 0)),
        str(sum(end["failures"] for service in status["services"] for end in service["endpoints"])),
        str(counters.get("retries", 0)),
        str(counters.get("refused", 0)),
        _since(status.get("startedAt", 0.0), now),
        last_error(status),
    )


def silent_row(node: str, cause: str) -> Row:
    """A node that did not answer."""
    return (node, "Unknown", *[NONE] * (len(NODE_HEADINGS) - 3), cause)


def state(status: Status) -> str:
    """Whether the proxy serves what the cluster wants: Waiting (no table yet), Degraded (some is not served), Ready."""
    if not status["complete"]:
        return "Waiting"
    return "Degraded" if _errors(status) or any(end["error"] for end in status["listeners"]) else "Ready"


def revision(status: Status) -> str:
    """The routing table's revision that is applied, with the one on its way where that is another."""
    routes = status.get("routes", {})
    applied, known = routes.get("applied", status["revision"]), routes.get("revision", status["revision"])
    return str(applied) if applied == known else f"{applied} (of {known})"


def listener_rows(status: Status, wanted: str = "") -> Iterator[Row]:
    """One row a listening place; `wanted` ("namespace/name") leaves out other services'."""
    for one in status["listeners"]:
        if not wanted or one["key"] == wanted:
            place = f"{one['address']}:{one['port']}"
            yield one["key"], one["service_port"], place, one["protocol"], one["error"] or "Listening"


def endpoint_rows(status: Status, wanted: str = "") -> Iterator[Row]:
    """One row an endpoint of a service port; those that are removed and live on are Draining."""
    for service in status["services"]:
        if wanted and service["key"] != wanted:
            continue
        port = service["port"] + (" (outside)" if service["outside"] else "")
        for end in service["endpoints"]:
            yield (
                service["key"],
                port,
                f"{end['ip']}:{end['port']}",
                "Draining" if end["removed"] else "Cooling" if end["coolingSeconds"] else "Ready",
                str(end["connections"]),
                str(end["served"]),
                str(end["failures"]),
                _ago(end),
            )


def kernel_rows(status: Status, wanted: str = "") -> Iterator[Row]:
    """One row a service port that the kernel serves; bytes with their headers."""
    for one in status.get("kernel", ()):
        if not wanted or one["key"] == wanted:
            port = f"{one['port']}{' (outside)' if one['outside'] else ''}"
            carried = (str(one["connections"]), size(one["bytesIn"]), size(one["bytesOut"]))
            yield one["key"], port, one["protocol"], *carried


def last_error(status: Status) -> str:
    """What stands in the way now, else what went wrong last."""
    standing = [
        f"{one['key']} {one['address']}:{one['port']}: {one['error']}" for one in status["listeners"] if one["error"]
    ]
    standing += [f"{one['key']}: {one['message']}" for one in _errors(status)]
    if status.get("kernelError"):
        standing.append(f"nftables: {status['kernelError']}")
    if standing:
        more = f" (+{len(standing) - 1} more)" if len(standing) > 1 else ""
        return standing[0] + more
    failed = [
        (end["lastErrorSeconds"], f"{end['ip']}:{end['port']}: {_ago(end)}")
        for service in status["services"]
        for end in service["endpoints"]
        if end.get("lastError")
    ]
    return min(failed)[1] if failed else NONE


def head(node: str, status: Status, now: float) -> Sequence[tuple[str, str]]:
    """What stands above the tables of one node, as names and texts."""
    row = dict(zip(NODE_HEADINGS, node_row(node, status, now), strict=True))
    counters = status.get("counters", {})
    return (
        ("Node", node),
        ("Status", row["STATUS"]),
        ("Revision applied", row["REVISION"]),
        ("Workers", row["WORKERS"]),
        ("Running for", row["AGE"]),
        ("Connections", f"{row['OPEN']} open, {counters.get('connecting', 0)} connecting, {row['ACCEPTED']} accepted"),
        ("Bytes", f"{row['IN']} in, {row['OUT']} out"),
        ("Failures", f"{row['FAILURES']} connects, {row['RETRIES']} retries, {row['REFUSED']} clients refused"),
        ("UDP", f"{counters.get('sessions', 0)} sessions, {counters.get('datagrams', 0)} datagrams, "
                f"{counters.get('datagramsDropped', 0)} dropped"),
        ("Kernel tables", ", ".join(status.get("kernelTables", ())) or NONE),
        ("Last error", row["LAST-ERROR"]),
    )  # fmt: skip


def size(count: float) -> str:
    """Bytes as people read them: 512, 1.5Ki, 20Mi."""
    for unit in ("", "Ki", "Mi", "Gi"):
        if count < 1024:
            return f"{count:.0f}{unit}" if count >= 10 or not unit else f"{count:.1f}{unit}"
        count /= 1024
    return f"{count:.1f}Ti"


def _errors(status: Status) -> Sequence[Mapping[str, Any]]:
    """Errors that belong to no listener: what the plan or the kernel refused."""
    places = {(one["address"], one["port"]) for one in status["listeners"] if one["error"]}
    return [one for one in status.get("errors", ()) if (one["address"], one["port"]) not in places]


def _ago(end: Mapping[str, Any]) -> str:
    error = end.get("lastError")
    return f"{error} ({end['lastErrorSeconds']:.0f}s ago)" if error else NONE


def _since(started: float, now: float) -> str:
    return human(max(0.0, now - started)) if started else NONE
