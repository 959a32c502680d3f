"""The nftables data plane's growth: the whole table, one endpoint more or less, counters; few and many services.

python -m bench.nft [--services 100 10000] [--endpoints 10] [--rounds 21]     (root; in a network namespace of its own)
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, replace

from bench.report import heading
from common.routing import Endpoint, NodeInfo, Route, RoutePort
from proxy.nft import NftPlane
from proxy.table import Change, Table

NODE = NodeInfo("bench", ("192.0.2.1",), "10.200.1.0/24", "10.200.0.0/14", "10.96.0.0/16", mode="nftables")


def route(number: int, endpoints: int) -> Route:
    """One service of one port; its endpoints are spread over nodes as pods are."""
    first = number * endpoints
    found = tuple(
        Endpoint(f"10.{200 + (n >> 16)}.{n >> 8 & 255}.{n & 255}", 8080, f"node{n % 100}")
        for n in range(first, first + endpoints)
    )
    address = f"10.96.{number >> 8}.{number & 255}"
    return Route(f"bench/web-{number}", f"uid-{number}", address, (RoutePort("http", 80, 0, found),))


@dataclass(frozen=True)
class Figures:
    """Seconds by the clock and seconds of processor (ours and the kernel's on our behalf); memory in MiB."""

    whole: tuple[float, float]
    one: tuple[float, float]
    most: float
    counters: tuple[float, float]
    memory: float


class Watch:
    """Clock and processor since it was made."""

    def __init__(self) -> None:
        self._begun = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        return time.perf_counter() - self._begun[0], time.process_time() - self._begun[1]


async def measure(services: int, endpoints: int, rounds: int) -> Figures:
    routes = {r.key: r for r in (route(number, endpoints) for number in range(services))}
    table = Table("bench", 1, NODE, routes)
    plane = NftPlane()
    watch = Watch()
    problems = await plane.apply(table)
    whole = watch.read()
    if problems:
        raise SystemExit(f"not served: {problems[0].message}")
    took = []
    for turn in range(rounds):
        old = table.routes[f"bench/web-{services // 2}"]
        port = old.ports[0]
        extra = Endpoint("10.203.255.1", 8080)
        found = tuple(e for e in port.endpoints if e != extra) + ((extra,) if turn % 2 == 0 else ())
        new = replace(old, ports=(replace(port, endpoints=found),))
        table.routes[new.key] = new
        watch = Watch()
        await plane.apply(table, Change({new.key: new}, ()))
        took.append(watch.read())
    watch = Watch()
    read = await plane.counters()
    counting = watch.read()
    assert len(read) == services
    await plane.flush()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    one = statistics.median(clock for clock, _ in took), statistics.median(cpu for _, cpu in took)
    return Figures(whole, one, max(took)[0], counting, memory)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.nft", description=__doc__)
    parser.add_argument("--services", type=int, nargs="+", default=[100, 10_000])
    parser.add_argument("--endpoints", type=int, default=10, help="of each service")
    parser.add_argument("--rounds", type=int, default=21, help="changes of one endpoint; the median is printed")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.inside:
        if os.geteuid() or not shutil.which("unshare"):
            raise SystemExit(
                "bench.nft needs root and unshare (util-linux): it works in a network namespace of its own"
            )
        sys.exit(
            subprocess.run(
                ["unshare", "--net", sys.executable, "-m", "bench.nft", *sys.argv[1:], "--inside"]
            ).returncode
        )
    heading("nftables data plane: growth")
    print("seconds by the clock (of processor):")
    first: Figures | None = None
    for services in options.services:
        found = asyncio.run(measure(services, options.endpoints, options.rounds))
        first = first or found
        print(
            f"{services:,} services, {services * options.endpoints:,} endpoints: "
            f"whole table {found.whole[0]:.2f} ({found.whole[1]:.2f}), "
            f"one endpoint {found.one[0]:.4f} ({found.one[1]:.4f}), at most {found.most:.4f}: "
            f"{found.one[0] / first.one[0]:.2f} ({found.one[1] / first.one[1]:.2f}) × the first, "
            f"all counters {found.counters[0]:.2f} ({found.counters[1]:.2f}), memory {found.memory:.0f} MiB"
        )


if __name__ == "__main__":
    main()
