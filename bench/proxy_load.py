"""The load on one proxy and what it costs: wrk for requests, iperf3 for bulk, idle connections for memory."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.proxy_peers import BULK, IDLE, WEB, Peer
from bench.proxy_sampan import cpu_seconds, processes, resident_bytes
from bench.proxy_space import ENDPOINT, HERE, Space, own_ticks

_MICROSECONDS = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 6e7}


@dataclass(frozen=True)
class Requests:
    """Requests per second; latencies in microseconds; processor microseconds per request of the proxy (`cpu`) and of
    everything together, load generator, proxy, endpoint and kernel (`path`)."""

    rate: float
    p50: float
    p99: float
    cpu: float
    path: float


class Spent:
    """Processor seconds of a proxy (0: none) and of all processes of this namespace, from when it was made."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._begun = self._now()

    def _now(self) -> tuple[float, float]:
        return cpu_seconds(self._pid) if self._pid else 0.0, own_ticks() / os.sysconf("SC_CLK_TCK")

    def since(self) -> tuple[float, float]:
        (cpu, path), (was, path_was) = self._now(), self._begun
        return cpu - was, path - path_was


def requests(peer: Peer, connections: int, seconds: int, *, close: bool = False) -> Requests:
    """Load by wrk with one thread. SystemExit when a request fails."""
    command = [*peer.space.prefix, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "5s", "--latency"]
    if close:
        command += ["-H", "Connection: close"]
    begun = Spent(peer.pid)
    run = subprocess.run([*command, f"http://{peer.address}:{WEB}/"], capture_output=True, text=True, timeout=60)
    cpu, path = begun.since()
    text = run.stdout
    total = re.search(r"(\d+) requests in", text)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    if run.returncode or not total or not rate or not int(total.group(1)):
        raise SystemExit(f"{peer.name}: wrk failed: {text} {run.stderr}")
    # Connections that wrk itself cuts at the end show as nothing; a refusal or reset shows here.
    failed = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    if failed and any(map(int, failed.groups())):
        print(f"  {peer.name}, {connections} connections{', one request each' if close else ''}: {failed.group(0)}")
    each = 1e6 / int(total.group(1))
    return Requests(float(rate.group(1)), _latency(text, "50%"), _latency(text, "99%"), cpu * each, path * each)


def _latency(text: str, which: str) -> float:
    found = re.search(rf"^\s+{which}\s+([\d.]+)(us|ms|s|m)\s*$", text, re.MULTILINE)
    return float(found.group(1)) * _MICROSECONDS[found.group(2)] if found else float("nan")


@dataclass(frozen=True)
class Bulk:
    """Gbit/s as the receiver counts them; processor seconds per GB of the proxy and of everything together."""

    rate: float
    cpu: float
    path: float


def bulk(peer: Peer, streams: int, seconds: int) -> Bulk:
    """Bytes from client to endpoint, by iperf3. SystemExit when it fails."""
    command = [
        *peer.space.prefix,
        "iperf3",
        "-c",
        peer.address,
        "-p",
        str(BULK),
        "-t",
        str(seconds),
        "-P",
        str(streams),
        "-J",
    ]
    for _ in range(3):  # the server takes one test at a time, and the last one's end may still be on its way
        begun = Spent(peer.pid)
        run = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 20)
        cpu, path = begun.since()
        result = json.loads(run.stdout)
        if "error" not in result:
            received = result["end"]["sum_received"]
            each = 1e9 / float(received["bytes"])
            return Bulk(float(received["bits_per_second"]) / 1e9, cpu * each, path * each)
    raise SystemExit(f"{peer.name}: iperf3 failed: {result['error']}")


class Holder:
    """The endpoint of idle connections in a network namespace."""

    def __init__(self, space: Space) -> None:
        command = [*space.prefix, sys.executable, "-m", "bench.proxy_idle", "hold", ENDPOINT, str(IDLE)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)


@dataclass(frozen=True)
class Idle:
    """Connections held at once, bytes that the proxy's processes grew by for each, MB of all of them then."""

    count: int
    each: float
    total: float


def idle(peer: Peer, count: int) -> Idle | None:
    """Holds so many idle connections, or as many as the proxy can have descriptors for; None when they do not come."""
    count = min(count, carriers(peer.pid) * most_of_one_process())
    before = resident_bytes(peer.pid)
    command = [
        *peer.space.prefix,
        sys.executable,
        "-m",
        "bench.proxy_idle",
        "open",
        peer.address,
        str(IDLE),
        str(count),
    ]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    if process.stdout.readline().strip() != "open":
        process.kill()
        process.wait()
        return None
    after = resident_bytes(peer.pid)
    process.communicate("\n", timeout=60)
    return Idle(count, (after - before) / count, after / 1e6)


def most_of_one_process() -> int:
    """Connections that one process can carry: two descriptors each, and some for itself."""
    return (resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 300) // 2


def carriers(pid: int) -> int:
    """Processes of a proxy that share the connections: its workers, else itself."""
    names = [Path(f"/proc/{one}/comm").read_text().strip() for one in processes(pid)[1:]]
    return max(1, sum(name in ("proxy-worker", "nginx") for name in names))


def heap(count: int) -> float:
    """Bytes of Python heap per idle connection of our relay, counted by tracemalloc in a proxy of its own."""
    command = [sys.executable, "-m", "bench.proxy_idle", "heap", ENDPOINT, str(IDLE), str(count)]
    holder = Holder(HERE)
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    finally:
        holder.stop()
    (few, small), (many, large) = (tuple(map(int, line.split())) for line in run.stdout.splitlines())
    if many <= few:
        raise SystemExit(f"the relay whose heap is counted carried {many} connections of {count}")
    return (large - small) / (many - few)
