"""The agent's settings: flags, each with an environment variable SAMPAN_… of the same name."""

from __future__ import annotations

import argparse
import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common.metricsplace import where
from node_agent.care.flags import add_flags, care_settings, log_rotation
from node_agent.care.settings import CareSettings, LogRotation

DEFAULT_DATA = "/var/lib/sampan/node"
DEFAULT_DOCKER = "unix:///var/run/docker.sock"
TOKEN_FILE_WAIT_SECONDS = 60.0

_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?")


@dataclass(frozen=True)
class AgentConfig:
    """What one agent needs to know. `master` is HOST:PORT; `node_ip` empty: found by the way to the master."""

    name: str
    master: str
    data: Path
    token: str = ""
    token_file: Path | None = None
    docker: str = DEFAULT_DOCKER
    runtime: str = "docker"
    labels: tuple[tuple[str, str], ...] = ()
    node_ip: str = ""
    # The data plane of services that name none: "asyncio" or "nftables".
    proxy_mode: str = "asyncio"
    # Processes that carry traffic; they take turns among a service's endpoints together.
    proxy_workers: int = 1
    # HOST:PORT at which GET /metrics is answered; empty: nowhere.
    metrics_listen: str = ""
    proxy_metrics_listen: str = ""
    simulate: int = 1
    log_level: str = "info"
    log_json: bool = False
    care: CareSettings = field(default_factory=CareSettings)
    log_rotation: LogRotation = field(default_factory=LogRotation)

    @property
    def proxy_data(self) -> Path:
        return self.data / "proxy"

    @property
    def proxy_socket(self) -> Path:
        return self.data / "proxy.sock"

    @property
    def network_settings(self) -> Path:
        """Kernel settings as they were before this node changed them."""
        return self.data / "kernel-settings.json"


def add_arguments(parser: argparse.ArgumentParser, env: Mapping[str, str]) -> None:
    """The flags that the supervisor and the agent have in common."""

    def flag(name: str, default: str, help: str) -> None:
        variable = "SAMPAN_" + name.upper().replace("-", "_")
        shown = f"{help} [{variable}]"
        parser.add_argument(f"--{name}", default=env.get(variable, default), help=shown)

    flag("name", socket.gethostname().split(".")[0].lower(), "name of this node")
    flag("master", "127.0.0.1:7443", "HOST:PORT of the master")
    flag("token", "", "join token, needed the first time")
    flag("token-file", "", f"file that holds the join token; waited for up to {TOKEN_FILE_WAIT_SECONDS:.0f} s")
    flag("data", DEFAULT_DATA, "directory for this node's state")
    flag("docker", DEFAULT_DOCKER, "Docker Engine's address")
    flag("runtime", "docker", "docker or simulated")
    flag("node-ip", "", "address at which other nodes reach this one; found by itself when left out")
    flag("proxy-mode", "asyncio", "data plane of services that name none: asyncio or nftables")
    cores = min(64, len(os.sched_getaffinity(0)))
    flag("proxy-workers", str(cores), "processes of the proxy that carry traffic; one per core when left out")
    flag("metrics-listen", "", "HOST:PORT at which the agent answers GET /metrics; nowhere when left out")
    flag("proxy-metrics-listen", "", "the same for the node's proxy")
    add_flags(flag)
    flag("log-level", "info", "debug, info, warning or error")
    parser.add_argument(
        "--label",
        action="append",
        default=[pair for pair in env.get("SAMPAN_LABELS", "").split(",") if pair],
        metavar="KEY=VALUE",
        help="label of the node; may be given several times [SAMPAN_LABELS=k=v,k=v]",
    )
    parser.add_argument(
        "--log-json", action="store_true", default=env.get("SAMPAN_LOG_JSON", "") not in ("", "0", "false")
    )


def parse(argv: Sequence[str], env: Mapping[str, str] = os.environ) -> AgentConfig:
    """Settings from flags and environment; ends the process with a message when they are wrong."""
    parser = argparse.ArgumentParser(prog="sampan-agent", description="Runs one node's pods.")
    add_arguments(parser, env)
    parser.add_argument(
        "--simulate", type=int, default=1, metavar="N", help="with --runtime simulated: N nodes NAME-1 … NAME-N"
    )
    args = parser.parse_args(list(argv))
    return from_arguments(parser, args)


def from_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> AgentConfig:
    """Checks parsed flags; `parser.error` (exit code 2) names the flag that is wrong."""
    if args.runtime not in ("docker", "simulated"):
        parser.error(f'--runtime: must be "docker" or "simulated", got "{args.runtime}"')
    if args.proxy_mode not in ("asyncio", "nftables"):
        parser.error(f'--proxy-mode: must be "asyncio" or "nftables", got "{args.proxy_mode}"')
    if not args.proxy_workers.isdigit() or not 1 <= int(args.proxy_workers) <= 64:
        parser.error(f'--proxy-workers: must be 1-64, got "{args.proxy_workers}"')
    simulate = getattr(args, "simulate", 1)
    if simulate < 1 or (simulate > 1 and args.runtime != "simulated"):
        parser.error("--simulate: must be 1 or more, and needs --runtime simulated")
    for option, place in (
        ("--metrics-listen", args.metrics_listen),
        ("--proxy-metrics-listen", args.proxy_metrics_listen),
    ):
        try:
            if place:
                where(place)
        except ValueError as error:
            parser.error(f"{option}: {error}")
    if simulate > 1 and args.metrics_listen:
        parser.error("--metrics-listen: is for one node, not for --simulate with several")
    host, _, port = args.master.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        parser.error(f'--master: must be HOST:PORT, got "{args.master}"')
    labels = []
    for pair in args.label:
        key, equals, value = pair.partition("=")
        if not equals or not _LABEL.fullmatch(key):
            parser.error(f'--label: must be KEY=VALUE, got "{pair}"')
        labels.append((key, value))
    return AgentConfig(
        name=args.name,
        master=args.master,
        data=Path(args.data).absolute(),
        token=args.token,
        token_file=Path(args.token_file) if args.token_file else None,
        docker=args.docker,
        runtime=args.runtime,
        labels=tuple(labels),
        node_ip=args.node_ip,
        proxy_mode=args.proxy_mode,
        proxy_workers=int(args.proxy_workers),
        metrics_listen=args.metrics_listen,
        proxy_metrics_listen=args.proxy_metrics_listen,
        simulate=simulate,
        log_level=args.log_level,
        log_json=args.log_json,
        care=care_settings(parser, args),
        log_rotation=log_rotation(parser, args),
    )
