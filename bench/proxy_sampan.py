"""Our own proxy as a process of the bench: fed with tables over its socket as an agent does."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.proxy_space import CLIENTS, SERVICES

START_SECONDS = 10.0
APPLY_SECONDS = 120.0


def has_nftables() -> bool:
    """Whether the kernel data plane is there."""
    return find_spec("proxy.nft") is not None


def cpu_seconds(pid: int) -> float:
    """User and system seconds that a process and its children that live have used."""
    total = 0.0
    for one in processes(pid):
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rsplit(") ", 1)[1].split()
        except OSError:
            continue
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def cpu_nanoseconds(pid: int) -> int:
    """The same by the scheduler's clock, for what takes less than a tick; threads that ended are left out."""
    total = 0
    for one in processes(pid):
        for path in Path(f"/proc/{one}/task").glob("*/schedstat"):
            try:
                total += int(path.read_text().split()[0])
            except OSError:
                continue
    return total


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and its children; what they share counts once for each that maps it, in parts."""
    total = 0
    for one in processes(pid):
        try:
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
    return total


def processes(pid: int) -> list[int]:
    """The process and all below it."""
    found = [pid]
    for one in found:
        for children in Path(f"/proc/{one}/task").glob("*/children"):
            found.extend(int(child) for child in children.read_text().split())
    return found


class Sampan:
    """One proxy process."""

    def __init__(
        self,
        directory: Path,
        *,
        workers: int = 1,
        log_level: str = "warning",
        prefix: Sequence[str] = (),
        tree: Path | None = None,
    ) -> None:
        """Starts it. `prefix`: words before the command; `tree`: another checkout that the proxy is taken from.

        SystemExit when it does not come up.
        """
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / "proxy.sock"
        command = [*prefix, sys.executable, "-m", "proxy", "--socket", str(path), "--data", str(directory)]
        command += ["--drain", "0", "--log-level", log_level, "--workers", str(workers)]
        # With -m, the working directory is where Python looks first.
        self.process = subprocess.Popen(command, cwd=tree)
        self.pid = self.process.pid
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(APPLY_SECONDS)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self._socket.connect(str(path))
                break
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() > deadline or self.process.poll() is not None:
                    self.stop()
                    raise SystemExit("sampan-proxy did not start") from None
                time.sleep(0.02)
        self._lines = self._socket.makefile()

    def send(self, message: dict[str, Any]) -> float:
        """Hands over a snapshot or delta; returns the seconds until it was acknowledged. SystemExit on its errors."""
        data = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        begun = time.perf_counter()
        self._socket.sendall(data)
        wanted = next(iter(message.values()))["revision"]
        while True:
            answer = json.loads(self._lines.readline() or '{"error": "hung up"}')
            if "applied" not in answer:
                raise SystemExit(f"sampan-proxy: {answer}")
            if answer["applied"]["revision"] == wanted:
                break
        took = time.perf_counter() - begun
        if answer["applied"]["errors"]:
            raise SystemExit(f"sampan-proxy does not serve all: {answer['applied']['errors'][:3]}")
        return took

    def descriptors(self) -> int:
        """Open descriptors of all its processes."""
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in processes(self.pid))

    def stop(self) -> None:
        """Ends it."""
        self._socket.close()
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def route(key: str, address: str, ports: dict[int, list[tuple[str, int]]], mode: str = "") -> dict[str, Any]:
    """One service of a table; `ports` maps a port to its endpoints."""
    data: dict[str, Any] = {"key": key, "uid": key, "clusterIP": address}
    if mode:
        data["mode"] = mode
    data["ports"] = [
        {"name": f"p{port}", "protocol": "TCP", "port": port, "nodePort": 0, "endpoints": [list(e) for e in endpoints]}
        for port, endpoints in ports.items()
    ]
    return data


def snapshot(revision: int, routes: list[dict[str, Any]]) -> dict[str, Any]:
    """A complete table, of a node that knows the range of services as every node does."""
    node = {"name": "bench", "serviceCIDR": SERVICES, "podCIDR": CLIENTS}
    return {"snapshot": {"epoch": "bench", "revision": revision, "node": node, "routes": routes}}


def delta(base: int, upserts: list[dict[str, Any]]) -> dict[str, Any]:
    """A change of a table."""
    body = {"epoch": "bench", "base": base, "revision": base + 1, "upserts": upserts, "removed": []}
    return {"delta": body}
