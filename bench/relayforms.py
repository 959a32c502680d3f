"""Ways to carry bytes between two sockets in Python, measured side by side: the figures of docs/adr/0004-relay.md.

    python -m bench.relayforms [--rounds 3] [--seconds 1]
    python -m bench.relayforms abort [--seconds 60]     # does uvloop still abort, in a process of its own?

Each form is the least relay that works, without retries or counts, except "ours", which is the real `sampan-proxy`.
Run as root; uvloop is fetched into the tree's cache.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import resource
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

from rich.table import Table

from bench import proxy_load as load
from bench.calm import Calm
from bench.proxy_idle import wait_listening
from bench.proxy_peers import PORTS, WEB, Peer, _haproxy, _process, _sampan, backend
from bench.proxy_space import CACHE, ENDPOINT, enter, install, own_ticks
from bench.rawforms import add_reader, sock_calls
from bench.report import ENOUGH, console, heading
from bench.slices import Slice, choose

UVLOOP = CACHE / "uvloop"
BUFFER = 256 * 1024


class Side(asyncio.Protocol):
    """One side of a relay made of asyncio's protocols; `half_close` keeps it open after the other's end of stream."""

    half_close = True

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: Side | None = None
        self.early: list[bytes] = []
        self.ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.other is None or self.other.transport is None:
            self.early.append(bytes(data))
        else:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        self.ended = True
        other = self.other
        if not self.half_close:
            return False
        if other is None or other.transport is None:
            return True  # passed on once the other side is there
        if other.ended:
            other.transport.close()
            return False  # both ends are through: this side closes too
        other.transport.write_eof()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()


class BufferedSide(Side, asyncio.BufferedProtocol):
    """The same with one buffer for all, as `BufferedProtocol` allows."""

    memory = memoryview(bytearray(BUFFER))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.memory

    def buffer_updated(self, count: int) -> None:
        self.data_received(bytes(self.memory[:count]))


class KeptOpen(Side):
    """Never closes after an end of stream; the transport goes when the other side's is lost."""

    def eof_received(self) -> bool:
        if self.other is not None and self.other.transport is not None and self.other.transport.can_write_eof():
            self.other.transport.write_eof()
        return True


class NoHalfClose(Side):
    half_close = False


async def protocols(address: str, port: int, side: type[Side]) -> None:
    """Serves until cancelled."""
    loop = asyncio.get_running_loop()
    from common.tasks import Tasks

    tasks = Tasks("dial")

    class Client(side):  # type: ignore[misc, valid-type]
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            tasks.start("dial", self.dial())

        async def dial(self) -> None:
            _, other = await loop.create_connection(side, ENDPOINT, port)
            self.other, other.other = other, self
            for piece in self.early:
                cast(asyncio.Transport, other.transport).write(piece)
            if self.ended and self.half_close:
                cast(asyncio.Transport, other.transport).write_eof()

    server = await loop.create_server(Client, address, port, backlog=4096)
    await server.serve_forever()


FORMS: dict[str, tuple[str, Callable[[str, int], Awaitable[None]]]] = {
    "asyncio Protocol": ("asyncio", lambda a, p: protocols(a, p, Side)),
    "asyncio BufferedProtocol": ("asyncio", lambda a, p: protocols(a, p, BufferedSide)),
    "sock_recv, sock_sendall": ("asyncio", sock_calls),
    "add_reader, direct calls": ("asyncio", add_reader),
    "uvloop Protocol": ("uvloop", lambda a, p: protocols(a, p, NoHalfClose)),
    "uvloop BufferedProtocol": ("uvloop", lambda a, p: protocols(a, p, BufferedSide)),
    "uvloop Protocol, half-close": ("uvloop", lambda a, p: protocols(a, p, Side)),
}


# The form that makes uvloop abort; not measured.
ABORTS = "uvloop Protocol, kept open"


def serve(name: str, address: str) -> None:
    """The process of one form."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    kept_open = ("uvloop", lambda a, p: protocols(a, p, KeptOpen))
    kind, form = kept_open if name == ABORTS else FORMS[name]
    factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    if kind == "uvloop":
        sys.path.insert(0, str(UVLOOP))
        factory = importlib.import_module("uvloop").new_event_loop

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for port in PORTS:
                group.create_task(cast(Any, form(address, port)))

    gc.freeze()
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


def start(directory: Path, have_uvloop: bool) -> list[Peer]:
    peers = [Peer("direct", ENDPOINT, 0, lambda: None)]
    made: list[tuple[str, int, Callable[[], None], str]] = []
    address = "10.96.1.1"
    made.append(("HAProxy, 1 thread", *_haproxy(directory, address, 1), address))
    address = "10.96.1.2"
    made.append(("ours: poller, splice", *_sampan(directory, address, 1), address))
    for number, (name, (kind, _)) in enumerate(FORMS.items()):
        if kind == "uvloop" and not have_uvloop:
            continue
        address = f"10.96.1.{10 + number}"
        made.append((name, *_process([sys.executable, "-m", "bench.relayforms", "serve", name, address]), address))
    for name, pid, stop, address in made:
        wait_listening(address, (WEB,), name)
        peers.append(Peer(name, address, pid, stop))
    return peers


def abort(seconds: int, directory: Path) -> int:
    """Connection per request on uvloop, transports kept open after their end, until it aborts or the time is over."""
    name, address = ABORTS, "10.96.1.99"
    command = [sys.executable, "-m", "bench.relayforms", "serve", name, address]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    stop = backend(directory)
    try:
        wait_listening(address, (WEB,), name)
        done = 0
        while done < seconds and process.poll() is None:
            command = ["wrk", "-t1", "-c32", "-d5s", "-H", "Connection: close", f"http://{address}:{WEB}/"]
            subprocess.run(command, capture_output=True)
            done += 5
        code = process.poll()
        console.print(f"after {done} s: " + ("it still runs" if code is None else f"ended by signal {-code}"))
        if code is not None and process.stderr is not None:
            console.print(process.stderr.read()[-300:])
    finally:
        process.kill()
        process.wait()
        stop()
    return 0


def measure(directory: Path, rounds: int, seconds: int, have_uvloop: bool) -> None:
    results: dict[str, dict[str, list[Slice[float]]]] = defaultdict(lambda: defaultdict(list))
    calm = Calm(own=own_ticks)
    stop = backend(directory)
    peers: list[Peer] = []
    dead: set[str] = set()
    try:
        peers = start(directory, have_uvloop)
        for _ in range(rounds):
            for peer in peers:
                if peer.name in dead:
                    continue
                try:
                    found: dict[str, Slice[load.Requests] | Slice[load.Bulk]] = {
                        "kept": calm.take(partial(load.requests, peer, 64, seconds)),
                        "each": calm.take(partial(load.requests, peer, 16, seconds, close=True)),
                        "bulk": calm.take(partial(load.bulk, peer, 1, seconds)),
                    }
                except (SystemExit, ValueError, subprocess.TimeoutExpired) as error:
                    console.print(f"{peer.name} died: {str(error)[:80]}")
                    dead.add(peer.name)
                    continue
                for case, one in found.items():
                    results[peer.name][case].append(Slice(one.value.rate, one.at, one.level))
                    results[peer.name][f"{case} cpu"].append(Slice(one.value.cpu, one.at, one.level))
    finally:
        for peer in peers:
            peer.stop()
        stop()
    table = Table("", "kept, 64 1/s", "CPU us", "conn/request 1/s", "CPU us", "bulk Gbit/s", "CPU s/GB")
    for name, row in results.items():
        cases = ("kept", "kept cpu", "each", "each cpu", "bulk", "bulk cpu")
        cells = [choose([(one.value, one.level) for one in row[case]], ENOUGH).value for case in cases]
        forms = ("{:,.0f}", "{:.1f}", "{:,.0f}", "{:.0f}", "{:.1f}", "{:.2f}")
        table.add_row(name, *(form.format(cell) for form, cell in zip(forms, cells, strict=True)))
    console.print(table)
    for line in calm.report():
        console.print(line)


def main() -> int:
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2], sys.argv[3])
        return 0
    parser = argparse.ArgumentParser(prog="bench.relayforms", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("what", nargs="?", choices=["measure", "abort"], default="measure")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=1)
    options = parser.parse_args()
    install(("haproxy", "nginx", "wrk", "iperf3", "ip", "nsenter", "unshare"))
    if not UVLOOP.exists():
        command = [sys.executable, "-m", "pip", "install", "-q", "--target", str(UVLOOP), "uvloop==0.22.1"]
        subprocess.run(command, check=False)
    enter()
    heading("forms of relay", "uvloop 0.22.1" if UVLOOP.exists() else "no uvloop")
    with tempfile.TemporaryDirectory() as directory:
        if options.what == "abort":
            return abort(options.seconds, Path(directory))
        measure(Path(directory), options.rounds, options.seconds, UVLOOP.exists())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
