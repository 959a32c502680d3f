"""`sampan-proxy`: the service proxy of one node, as its own process."""

from __future__ import annotations

import argparse
import os
import resource
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from common import scrape
from common.version import VERSION
from proxy import logs, storage
from proxy.loop import run
from proxy.nft import in_kernel, remove
from proxy.nft.kernel import KernelError
from proxy.workers import nursery, worker

log = logs.EventLog("proxy")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="sampan-proxy",
        description="Serves the cluster's services on this node. The node agent hands it the table.",
    )
    parser.add_argument("--socket", type=Path, required=True, help="unix socket for the agent to hand over the table")
    parser.add_argument("--data", type=Path, required=True, help="directory that keeps the last table")
    parser.add_argument(
        "--workers",
        type=int,
        default=len(os.sched_getaffinity(0)),
        metavar="N",
        help="processes that carry traffic; 1: this one does (default: one per core)",
    )
    parser.add_argument(
        "--takeover",
        action="store_true",
        help="take sockets and connections over from the proxy that runs on --socket, if one does; "
        "without, that is done only when it is of another version",
    )
    parser.add_argument(
        "--drain", type=float, default=10.0, metavar="SECONDS", help="how long open connections may go on after SIGTERM"
    )
    parser.add_argument(
        "--linger",
        type=float,
        default=3600.0,
        metavar="SECONDS",
        help="how long open connections may go on after another proxy took over",
    )
    parser.add_argument(
        "--half-close-idle",
        type=float,
        default=3600.0,
        metavar="SECONDS",
        help="reset a half-closed connection after this long without a byte",
    )
    parser.add_argument(
        "--metrics-listen", default="", metavar="HOST:PORT", help="answer GET /metrics there (default: nowhere)"
    )
    parser.add_argument(
        "--forget", action="store_true", help="take what it set up in the kernel (nftables) away again, and end"
    )
    # How a control process makes another nursery: the version it speaks, and the socket it speaks on.
    parser.add_argument("--nursery", nargs=2, metavar=("VERSION", "DESCRIPTOR"), help=argparse.SUPPRESS)
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    parser.add_argument("--log-json", action="store_true", help="log one JSON object a line")
    options = parser.parse_args(arguments)
    if not 1 <= options.workers <= 64:
        parser.error(f"--workers: must be 1-64, got {options.workers}")
    if options.metrics_listen:
        try:
            scrape.where(options.metrics_listen)
        except ValueError as error:
            parser.error(f"--metrics-listen: {error}")
    return options


def raise_descriptor_limit() -> int:
    """Two descriptors a connection: takes all that this process may have, and returns the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


async def forget(data: Path) -> int:
    """Empties the kernel of the last table served from `data`; the exit code. The proxy itself must have ended."""
    stored = storage.load(data)
    if stored is not None:
        try:
            await remove(stored.node)
        except KernelError as error:
            log.error("proxy.not_forgotten", error=str(error))
            return 1
    return 0


def tend(asked: list[str], work: Callable[[socket.socket], None]) -> int:
    """A nursery in the place of one that was killed; the exit code."""
    version, descriptor = asked
    if version != VERSION:
        log.error("nursery.other_version", here=VERSION, wanted=version, advice="start the proxy anew with --takeover")
        return 1
    with socket.socket(fileno=int(descriptor)) as sock:
        nursery.tend(sock, work)
    return 0


def main() -> None:
    options = parse()
    logs.configure(level=options.log_level, as_json=options.log_json)
    raise_descriptor_limit()
    if options.forget:
        sys.exit(run(forget(options.data)))
    work = partial(worker.serve, half_close_idle=options.half_close_idle, linger=options.linger, in_kernel=in_kernel)
    if options.nursery:
        sys.exit(tend(options.nursery, work))
    spawner = None
    if options.workers > 1:
        # First of all: a fork takes along whatever there is.
        again = [sys.executable, "-m", "proxy", *sys.argv[1:], "--nursery", VERSION]
        spawner = nursery.start(work, again)
    # Only now: what the workers do not need is not in their memory.
    from proxy.process import serve

    try:
        sys.exit(run(serve(options, spawner)))
    except OSError as error:
        log.error("proxy.failed", error=str(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
