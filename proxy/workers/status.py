"""Several workers' status made one: counts are added, what is the same stays; pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_COUNTS = ("connections", "served", "failures")


def merged(statuses: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Services and counters of all together; each endpoint once."""
    counters: dict[str, int] = {}
    lag: dict[str, float] = {}
    services: dict[tuple[str, str, str, bool], dict[str, Any]] = {}
    started = []
    for status in statuses:
        started.append(status["startedAt"])
        for name, count in status["counters"].items():
            counters[name] = counters.get(name, 0) + count
        for name, count in status.get("loopLag", {}).items():
            lag[name] = lag.get(name, 0) + count
        for service in status["services"]:
            name = (service["key"], service["port"], service["protocol"], service["outside"])
            held = services.setdefault(name, {**service, "retries": 0, "refused": 0, "endpoints": {}})
            held["retries"] += service["retries"]
            held["refused"] += service["refused"]
            for endpoint in service["endpoints"]:
                _add(held["endpoints"], endpoint)
    return {
        "startedAt": min(started, default=0.0),
        "services": [
            {**service, "endpoints": list(service["endpoints"].values())} for _, service in sorted(services.items())
        ],
        "counters": counters,
        "loopLag": lag,
    }


def _add(endpoints: dict[tuple[str, int], dict[str, Any]], endpoint: dict[str, Any]) -> None:
    place = (endpoint["ip"], endpoint["port"])
    held = endpoints.get(place)
    if held is None:
        endpoints[place] = dict(endpoint)
        return
    # A worker of an older version, which only drains, does not say it.
    error, ago = endpoint.get("lastError"), endpoint.get("lastErrorSeconds", 0.0)
    if error and (not held.get("lastError") or ago < held["lastErrorSeconds"]):
        held["lastError"], held["lastErrorSeconds"] = error, ago
    for name in _COUNTS:
        held[name] += endpoint[name]
    held["coolingSeconds"] = max(held["coolingSeconds"], endpoint["coolingSeconds"])
    held["removed"] = held["removed"] and endpoint["removed"]
