"""The tables of `sampan proxy status`, from what a real data plane says of itself."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from cli.columns import proxy as columns
from cli.columns.table import NONE
from proxy.server import Proxy
from tests.proxy.support import Endpoints, connect, own_address, reset, route, table

NOW = 1_000_000.0


def endpoint(ip: str, **more: Any) -> dict[str, Any]:
    plain = {"ip": ip, "port": 80, "connections": 0, "served": 0, "failures": 0, "coolingSeconds": 0.0}
    return {**plain, "lastError": "", "lastErrorSeconds": 0.0, "removed": False, **more}


def status(**more: Any) -> dict[str, Any]:
    """A proxy of two workers and one that drains, with one service on two places."""
    service = {
        "key": "default/web",
        "port": "http",
        "protocol": "TCP",
        "outside": False,
        "retries": 1,
        "refused": 0,
        "endpoints": [
            endpoint("10.244.0.2", connections=3, served=40),
            endpoint("10.244.0.3", failures=2, coolingSeconds=0.5, lastError="Connection refused", lastErrorSeconds=7),
            endpoint("10.244.1.4", connections=1, removed=True),
        ],
    }
    place = {"address": "10.96.0.7", "port": 80, "protocol": "TCP", "key": "default/web", "service_port": "http"}
    plain = {
        "epoch": "e",
        "revision": 5,
        "complete": True,
        "startedAt": NOW - 3700,
        "listeners": [{**place, "error": ""}, {**place, "address": "192.0.2.1", "port": 8765, "error": ""}],
        "services": [service],
        "errors": [],
        "workers": [{"pid": 1, "retired": False}, {"pid": 2, "retired": False}, {"pid": 3, "retired": True}],
        "counters": {"open": 4, "accepted": 44, "bytesIn": 1536, "bytesOut": 20 << 20, "retries": 1, "refused": 0},
    }
    return {**plain, **more}


def cells(said: dict[str, Any]) -> dict[str, str]:
    return dict(zip(columns.NODE_HEADINGS, columns.node_row("node1", said, NOW), strict=True))


def test_a_row_of_a_node() -> None:
    row = cells(status(routes={"revision": 12, "applied": 11}))
    assert (row["NODE"], row["STATUS"], row["REVISION"]) == ("node1", "Ready", "11 (of 12)")
    assert (row["WORKERS"], row["LISTENERS"], row["OPEN"], row["ACCEPTED"]) == ("2+1 draining", "2/2", "4", "44")
    assert (row["IN"], row["OUT"], row["FAILURES"], row["AGE"]) == ("1.5Ki", "20Mi", "2", "61m")
    assert row["LAST-ERROR"] == "10.244.0.3:80: Connection refused (7s ago)"
    assert cells(status())["REVISION"] == "5"


def test_what_is_not_served_is_said_first() -> None:
    said = status()
    said["listeners"][1]["error"] = "address in use"
    said["errors"] = [
        {"key": "default/web", "uid": "u", "address": "192.0.2.1", "port": 8765, "message": "address in use"},
        {"key": "default/dns", "uid": "u", "address": "10.96.0.9", "port": 53, "message": "SCTP is not served"},
    ]
    row = cells(said)
    assert (row["STATUS"], row["LISTENERS"]) == ("Degraded", "1/2")
    assert row["LAST-ERROR"] == "default/web 192.0.2.1:8765: address in use (+1 more)"
    assert [listener[-1] for listener in columns.listener_rows(said)] == ["Listening", "address in use"]
    assert cells(status(complete=False, listeners=[], services=[]))["STATUS"] == "Waiting"


def test_endpoints_and_how_they_are() -> None:
    rows = list(columns.endpoint_rows(status()))
    assert [(row[2], row[3], row[4]) for row in rows] == [
        ("10.244.0.2:80", "Ready", "3"),
        ("10.244.0.3:80", "Cooling", "0"),
        ("10.244.1.4:80", "Draining", "1"),
    ]
    assert list(columns.endpoint_rows(status(), "default/other")) == []
    assert list(columns.listener_rows(status(), "default/other")) == []


def test_what_the_kernel_carries() -> None:
    port = {"key": "default/fast", "port": 80, "protocol": "TCP", "outside": False}
    said = status(kernel=[{**port, "connections": 9, "bytesIn": 100, "bytesOut": 4096}])
    assert list(columns.kernel_rows(said)) == [("default/fast", "80", "TCP", "9", "100", "4.0Ki")]
    assert list(columns.kernel_rows(status())) == []
    tables = ["sampan_n", "sampan_n_untracked"]
    assert dict(columns.head("n", status(kernelTables=tables), 0.0))["Kernel tables"] == ", ".join(tables)
    assert dict(columns.head("n", status(), 0.0))["Kernel tables"] == NONE


def test_a_silent_node_has_a_row_of_the_same_width() -> None:
    row = columns.silent_row("node9", "not connected")
    assert len(row) == len(columns.NODE_HEADINGS) and (row[0], row[1], row[-1]) == ("node9", "Unknown", "not connected")


def test_bytes_are_short() -> None:
    assert [columns.size(n) for n in (0, 1023, 1024, 10 << 10, 3 << 30, 5 << 40)] == [
        "0", "1023", "1.0Ki", "10Ki", "3.0Gi", "5.0Ti",
    ]  # fmt: skip


async def test_it_reads_what_the_proxy_says() -> None:
    endpoints = Endpoints(1)
    proxy = Proxy()
    try:
        place = (own_address(), 80)
        proxy.apply(table(route(*place, [(endpoints.address, 1), endpoints.places[0]])))
        clients = [await connect(place) for _ in range(2)]
        accepted = [await endpoints.accept() for _ in range(2)]
        async with asyncio.timeout(30):
            while proxy.status()["counters"]["open"] < 2:
                await asyncio.sleep(0.01)
        said = proxy.status()
        row = dict(zip(columns.NODE_HEADINGS, columns.node_row("n", said, time.time()), strict=True))
        assert (row["STATUS"], row["WORKERS"], row["LISTENERS"], row["OPEN"]) == ("Ready", "1", "1/1", "2")
        assert row["LAST-ERROR"].startswith(f"{endpoints.address}:1: Connection refused (")
        assert dict(columns.head("n", said, time.time()))["Connections"] == "2 open, 0 connecting, 2 accepted"
        assert {one[3] for one in columns.endpoint_rows(said)} == {"Cooling", "Ready"}
        for sock in (*clients, *accepted):
            reset(sock)
    finally:
        proxy.close()
        endpoints.close()
