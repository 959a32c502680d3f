"""Growth: what a table of 10,000 services with 100,000 endpoints costs the proxy, beside one of 100 services.

    python -m bench.growth [--services 10000] [--rounds 61] [--quick]

The real `sampan-proxy` gets the table over its socket, in a network namespace in which all service addresses are
local (AnyIP): a listening socket for each service. Run as root.

An update removes an endpoint, exchanges one for another, and adds one, in turn. Its cost is its processor time, the
kernel's on its behalf included, of which as little as may be is waiting and other programs' doing. The verdict is of
that; the time by the clock stands beside it. Only updates in calm stretches count (docs/benches.md).
"""

from __future__ import annotations

import argparse
import resource
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.table import Table

from bench.calm import Calm
from bench.proxy_sampan import Sampan, cpu_nanoseconds, delta, has_nftables, resident_bytes, route, snapshot
from bench.proxy_space import ENDPOINT, HERE, Space, another, enter, install, own_ticks
from bench.report import console, heading

PORT, SERVED = 80, 8080
PER_SERVICE = 10
SMALL = 100
LIMIT = 1.2
# Descriptors for anything but listening.
SPARE = 500
# Updates before those that count.
WARM = 3
# How many endpoints the service has in turn, and from which on: one is removed, exchanged for another, added.
TURNS = ((10, 0), (9, 0), (9, 1))
KINDS = ("add", "remove", "exchange")
# So many times as many rounds at most, for enough updates of each kind in calm stretches.
MOST, ENOUGH = 3, 5


def address(number: int) -> str:
    """The service's own; the range begins at 10.96.0.0."""
    return f"10.{96 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


def endpoints(number: int, count: int = PER_SERVICE, start: int = 0) -> list[tuple[str, int]]:
    """All are the one endpoint that listens, by another address: 10.244.0.0/16 is local."""
    first = number * PER_SERVICE + start
    return [(f"10.244.{(first + i) // 250 % 250 + 1}.{(first + i) % 250 + 1}", SERVED) for i in range(count)]


@contextmanager
def answering(space: Space = HERE) -> Iterator[None]:
    """An endpoint on every pod address: greets with one byte and hangs up."""
    with space.inside():
        listener = socket.create_server(("0.0.0.0", SERVED), backlog=1024)

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                client.send(b"!")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def first_byte(place: tuple[str, int]) -> float:
    """Milliseconds from the start of a new connection to its first byte."""
    begun = time.perf_counter()
    with socket.create_connection(place, 5) as sock:
        if sock.recv(1) != b"!":
            raise SystemExit(f"{place[0]}:{place[1]} gave nothing")
        return (time.perf_counter() - begun) * 1e3


@dataclass(frozen=True)
class Update:
    """Milliseconds by the clock, of processor, and to the first byte of a connection after it; and when it was."""

    kind: str
    clock: float
    cpu: float
    first: float
    begin: float
    end: float


@dataclass
class Size:
    """One proxy with a table of `services`, and what was measured on it."""

    first: int
    services: int
    mode: str
    proxy: Sampan
    load_seconds: float
    load_cpu: float
    empty: int
    space: Space
    updates: list[Update] = field(default_factory=list)
    revision: int = 1
    memory: int = 0
    descriptors: int = 0

    def update(self) -> None:
        """One endpoint is changed: milliseconds until the proxy has it, and of processor; then one connection."""
        number, turn = self.first + self.services // 2, self.revision % len(TURNS)
        changed = route(f"bench/s{number}", address(number), {PORT: endpoints(number, *TURNS[turn])}, self.mode)
        begin, before = time.monotonic(), cpu_nanoseconds(self.proxy.pid)
        clock = self.proxy.send(delta(self.revision, [changed])) * 1e3
        cpu = (cpu_nanoseconds(self.proxy.pid) - before) / 1e6
        self.revision += 1
        with self.space.inside():
            first = first_byte((address(number), PORT))
        self.updates.append(Update(KINDS[turn], clock, cpu, first, begin, time.monotonic()))

    def counted(self, calm: Calm) -> tuple[list[Update], bool]:
        """The updates in calm stretches, or, where they are too few of a kind, the least disturbed ones; whether all
        of them are calm."""
        found: list[Update] = []
        quiet = True
        for kind in KINDS:
            ranked = sorted(
                (calm.level(one.begin, one.end), number) for number, one in enumerate(self.updates) if one.kind == kind
            )
            calm_ones = sum(level <= 1 for level, _ in ranked)
            quiet = quiet and calm_ones >= ENOUGH
            fewest = max(ENOUGH, len(ranked) // MOST)
            found += [self.updates[number] for _, number in ranked[: calm_ones if calm_ones >= ENOUGH else fewest]]
        return found, quiet


def load(directory: Path, first: int, services: int, mode: str, workers: int, space: Space) -> Size:
    """A new proxy, given the whole table at once."""
    name = f"{mode or 'asyncio'}-{services}"
    proxy = Sampan(directory / name, workers=workers, log_level="error", prefix=space.prefix)
    try:
        empty = resident_bytes(proxy.pid)
        routes = [route(f"bench/s{n}", address(n), {PORT: endpoints(n)}, mode) for n in range(first, first + services)]
        before = cpu_nanoseconds(proxy.pid)
        seconds = proxy.send(snapshot(1, routes))
        cpu = (cpu_nanoseconds(proxy.pid) - before) / 1e9
    except BaseException:
        proxy.stop()
        raise
    return Size(first, services, mode, proxy, seconds, cpu, empty, space)


def compare(directory: Path, many: int, rounds: int, mode: str, workers: int, calm: Calm) -> list[Size]:
    """Both sizes, on addresses that do not meet, take turns: updates, and connections after them.

    More rounds, MOST times as many, while too few of them were in calm stretches.
    """
    sizes: list[Size] = []
    with ExitStack() as stack:
        for first, services in ((1, SMALL), (1 + SMALL, many)):
            # The kernel's table is one for a namespace.
            space = another() if mode == "nftables" else HERE
            if space != HERE:
                stack.enter_context(answering(space))
            sizes.append(load(directory, first, services, mode, workers, space))
            stack.callback(sizes[-1].proxy.stop)
        for size in sizes:
            for _ in range(WARM):
                size.update()
            size.updates.clear()
        number = 0
        while number < rounds or (number < MOST * rounds and not all(size.counted(calm)[1] for size in sizes)):
            number += 1
            calm.note()
            for size in sizes if number % 2 else reversed(sizes):
                size.update()
        calm.note()
        for size in sizes:
            size.descriptors = size.proxy.descriptors()
            size.memory = resident_bytes(size.proxy.pid) - size.empty
    return sizes


def show(mode: str, sizes: list[Size], calm: Calm) -> bool:
    """The table; whether an update costs the same."""
    counted = [size.counted(calm)[0] for size in sizes]
    for size, updates in zip(sizes, counted, strict=True):
        quiet = size.counted(calm)[1]
        console.print(
            f"[dim]{mode}, {size.services:,} services: {len(updates)} of {len(size.updates)} updates count, "
            f"{'those in calm stretches' if quiet else 'NOT CALM: the least disturbed ones'}[/dim]"
        )
    names = [f"{size.services:,} services, {size.services * PER_SERVICE:,} endpoints" for size in sizes]
    table = Table("", *names, "ratio", title=f"{mode} mode, medians", title_justify="left")
    update = "one-endpoint update"
    cpu = {
        kind: [statistics.median(one.cpu for one in updates if one.kind == kind) for updates in counted]
        for kind in KINDS
    }
    clocks = [[one.clock for one in updates] for updates in counted]
    firsts = [[one.first for one in updates] for updates in counted]
    rows = (
        ("table load, s", [size.load_seconds for size in sizes], "{:.3f}"),
        ("table load, s of processor", [size.load_cpu for size in sizes], "{:.3f}"),
        *((f"{update}, {kind}, ms of processor", cpu[kind], "{:.2f}") for kind in KINDS),
        (f"{update}, ms", [statistics.median(clock) for clock in clocks], "{:.2f}"),
        (f"{update}, p90 ms", [statistics.quantiles(clock, n=10)[-1] for clock in clocks], "{:.2f}"),
        ("first byte of a new connection, ms", [statistics.median(first) for first in firsts], "{:.2f}"),
        ("memory that the table takes, MB", [size.memory / 1e6 for size in sizes], "{:.1f}"),
        ("descriptors", [float(size.descriptors) for size in sizes], "{:,.0f}"),
    )
    for name, (small, large), form in rows:
        table.add_row(name, form.format(small), form.format(large), f"{large / small:.2f}" if small > 0 else "-")
    console.print(table)
    ratios = {kind: large / small for kind, (small, large) in cpu.items()}
    flat = max(ratios.values()) <= LIMIT
    told = ", ".join(f"{kind} {ratio:.2f} ×" for kind, ratio in ratios.items())
    console.print(f"{update}: {told} (limit {LIMIT}) {'ok' if flat else 'MISSED'}")
    return flat


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.growth", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--services", type=int, default=10_000, help="of the large table, with ten endpoints each")
    parser.add_argument("--rounds", type=int, default=61, help="updates and connections of each size")
    parser.add_argument("--quick", action="store_true", help="2,000 services, 31 rounds")
    options = parser.parse_args()
    if options.quick:
        options.services, options.rounds = 2000, 31
    install(("ip", "nft", "nsenter", "unshare"))
    enter()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    heading("growth of the service table")
    # A worker inside the control process has each listening socket a second time in the same process.
    workers = 1 if hard > 2 * options.services + SPARE else 2
    if workers > 1:
        console.print(f"a process may have {hard:,} descriptors: in asyncio mode {workers} workers as processes")
    flat = []
    with tempfile.TemporaryDirectory() as scratch, answering():
        for mode in ("", "nftables") if has_nftables() else ("",):
            try:
                crew = 1 if mode == "nftables" else workers
                calm = Calm(own=own_ticks)
                sizes = compare(Path(scratch), options.services, options.rounds, mode, crew, calm)
                flat.append(show(mode or "asyncio", sizes, calm))
            except SystemExit as error:
                console.print(f"{mode or 'asyncio'} mode: {error}")
                flat.append(False)
    console.print(f"endpoints all answer on {ENDPOINT}'s machine; a listening socket for each service (asyncio)")
    return 0 if all(flat) else 1


if __name__ == "__main__":
    raise SystemExit(main())
