"""The proxies that are compared, each in front of the same endpoint and on a service address of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.proxy_idle import wait_listening
from bench.proxy_sampan import Sampan, route, snapshot
from bench.proxy_space import ENDPOINT, ENVOY, HERE, STREAM_MODULE, Space

WEB, BULK, IDLE = 80, 5201, 7000
PORTS = (WEB, BULK, IDLE)
CONNECTIONS = 50_000


@dataclass
class Peer:
    """One running proxy: `pid` 0 means that no process carries the bytes."""

    name: str
    address: str
    pid: int
    stop: Callable[[], None]
    bulk_only: bool = False
    space: Space = HERE


def _process(command: list[str], space: Space = HERE, **options: Any) -> tuple[int, Callable[[], None]]:
    # nsenter becomes the program, so that the process is the proxy itself.
    process = subprocess.Popen(
        [*space.prefix, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options
    )

    def stop() -> None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    return process.pid, stop


def wait_for(peer: Peer) -> None:
    """Until it carries connections. SystemExit when it does not."""
    if peer.space == HERE:
        wait_listening(peer.address, (WEB,), peer.name)
        return
    command = [*peer.space.prefix, sys.executable, "-m", "bench.proxy_idle", "wait", peer.address, str(WEB)]
    if subprocess.run(command).returncode:
        raise SystemExit(f"{peer.name} does not carry connections")


def _haproxy(directory: Path, address: str, threads: int, splice: bool = False) -> tuple[int, Callable[[], None]]:
    lines = ["global", f" nbthread {threads}", f" maxconn {_affordable() // (2 if splice else 1)}"]
    lines += ["defaults", " mode tcp", " timeout connect 5s", " timeout client 1h", " timeout server 1h"]
    if splice:
        lines += [" option splice-request", " option splice-response"]
    for port in PORTS:
        lines += [f"listen l{port}", f" bind {address}:{port} backlog 4096", f" server s {ENDPOINT}:{port}"]
    config = directory / f"haproxy-{address}.cfg"
    config.write_text("\n".join(lines) + "\n")
    return _process(["haproxy", "-db", "-f", str(config)])


def _affordable() -> int:
    """Connections that the descriptor limit leaves to HAProxy, which refuses to start with more."""
    import resource

    return min(CONNECTIONS, (resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 200) // 2)


def _nginx(directory: Path, address: str, workers: int) -> tuple[int, Callable[[], None]]:
    servers = "".join(f"server {{ listen {address}:{p} backlog=4096; proxy_pass {ENDPOINT}:{p}; }}\n" for p in PORTS)
    text = f"load_module {STREAM_MODULE};\nstream {{ access_log off; proxy_timeout 1h; {servers} }}\n"
    return _run_nginx(directory, f"stream-{address}", workers, text)


def _run_nginx(
    directory: Path, name: str, workers: int, body: str, space: Space = HERE
) -> tuple[int, Callable[[], None]]:
    home = directory / f"nginx-{name}"
    home.mkdir()
    head, rest = ("", body) if not body.startswith("load_module") else body.split("\n", 1)
    text = (
        f"{head}\nuser root;\ndaemon off;\nworker_processes {workers};\nworker_rlimit_nofile {_descriptors()};\n"
        f"error_log {home}/error.log crit;\npid {home}/pid;\nevents {{ worker_connections {CONNECTIONS}; }}\n{rest}"
    )
    config = home / "nginx.conf"
    config.write_text(text)
    return _process(["nginx", "-p", str(home), "-c", str(config), "-e", f"{home}/start.log"], space)


def _descriptors() -> int:
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def backend(directory: Path, space: Space = HERE) -> Callable[[], None]:
    """What answers requests: nginx with two workers; iperf3 for bulk. Returns what ends both."""
    reply = "x" * 200
    body = (
        "http { access_log off; keepalive_requests 1000000000; keepalive_timeout 1h; client_body_temp_path body;"
        " proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;"
        f' server {{ listen {ENDPOINT}:{WEB} backlog=4096 reuseport; location / {{ return 200 "{reply}"; }} }} }}'
    )
    pid, nginx = _run_nginx(directory, f"backend{len(list(directory.iterdir()))}", 2, body, space)
    stops = [nginx, _process(["iperf3", "-s", "-B", ENDPOINT, "-p", str(BULK)], space)[1]]

    def stop() -> None:
        for one in stops:
            one()

    wait_for(Peer("the endpoint", ENDPOINT, pid, stop, space=space))
    return stop


def _envoy(directory: Path, address: str, workers: int) -> tuple[int, Callable[[], None]]:
    def place(ip: str, port: int) -> dict[str, Any]:
        return {"address": {"socket_address": {"address": ip, "port_value": port}}}

    listeners, clusters = [], []
    kind = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
    for port in PORTS:
        name = f"c{port}"
        proxy = {"@type": kind, "stat_prefix": name, "cluster": name, "idle_timeout": "0s"}
        chain = {"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}]}
        listeners.append({"name": name, **place(address, port), "filter_chains": [chain]})
        load = {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": place(ENDPOINT, port)}]}]}
        most = {"max_connections": CONNECTIONS, "max_pending_requests": CONNECTIONS}
        limits = {"thresholds": [{"priority": "DEFAULT", **most}]}
        clusters.append({"name": name, "type": "STATIC", "load_assignment": load, "circuit_breakers": limits})
    config = directory / f"envoy-{address}.json"
    config.write_text(json.dumps({"static_resources": {"listeners": listeners, "clusters": clusters}}))
    flags = ["--concurrency", str(workers), "--disable-hot-restart", "-l", "off"]
    return _process([str(ENVOY), "-c", str(config), *flags])


def _sampan(
    directory: Path, address: str, workers: int, mode: str = "", *, space: Space = HERE, tree: Path | None = None
) -> tuple[int, Callable[[], None]]:
    """`tree`: another checkout, whose proxy it is."""
    proxy = Sampan(directory / f"sampan-{address}", workers=workers, prefix=space.prefix, tree=tree)
    ports = {port: [(ENDPOINT, port)] for port in PORTS}
    proxy.send(snapshot(1, [route("bench/web", address, ports, mode)]))
    return proxy.pid, proxy.stop


def versions() -> list[str]:
    """Of everything that is measured or measures."""
    found = []
    programs = (
        ("haproxy", ["haproxy", "-v"]),
        ("nginx", ["nginx", "-v"]),
        ("envoy", [str(ENVOY), "--version"]),
        ("nftables", ["nft", "--version"]),
        ("wrk", ["wrk", "-v"]),
        ("iperf3", ["iperf3", "--version"]),
    )
    for name, command in programs:
        if Path(command[0]) == ENVOY and not ENVOY.exists():
            continue
        run = subprocess.run(command, capture_output=True, text=True)
        number = re.search(r"(?<![\w.])v?(\d+\.\d+[.\d]*)", (run.stdout + run.stderr).replace("/", " "))
        found.append(f"{name} {number.group(1) if number else '?'}")
    return found
