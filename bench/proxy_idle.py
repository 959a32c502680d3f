"""Idle connections: one process that accepts and holds them, one that opens them; each line on stdout is an event.

python -m bench.proxy_idle hold ADDRESS PORT
python -m bench.proxy_idle open ADDRESS PORT COUNT      # prints "open", waits for a line on stdin, closes
python -m bench.proxy_idle wait ADDRESS PORT            # ends when somebody accepts there
python -m bench.proxy_idle heap ADDRESS PORT COUNT      # Python heap that COUNT connections cost a proxy, in bytes
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import socket
import sys
import time
import tracemalloc

from common.routing import Endpoint, Route, RoutePort
from proxy.server import Proxy
from proxy.table import Table

AT_ONCE = 200


def raise_limit(wanted: int = 0) -> int:
    """All descriptors that this process may have, and `wanted` where it may raise its own limit; what it has then."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if wanted > hard:
        with contextlib.suppress(ValueError, OSError):  # takes CAP_SYS_RESOURCE
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            return wanted
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def hold(address: str, port: int) -> None:
    """Greets each client with one byte and keeps it until it hangs up."""

    class Held(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.WriteTransport)
            transport.write(b"!")

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Held, address, port, backlog=4096)
        print("listening", flush=True)
        await server.serve_forever()

    asyncio.run(run())


def connections(address: str, port: int, count: int) -> list[socket.socket]:
    """Opens them, each until its greeting has come through."""
    held: list[socket.socket] = []
    while len(held) < count:
        batch = [socket.socket() for _ in range(min(AT_ONCE, count - len(held)))]
        for sock in batch:
            sock.setblocking(False)
            sock.connect_ex((address, port))
        for sock in batch:
            sock.settimeout(10)
            if sock.recv(1) != b"!":
                raise SystemExit(f"only {len(held)} connections were carried")
            held.append(sock)
    return held


def heap(address: str, port: int, count: int) -> None:
    """A proxy in this process, its clients in another: bytes of heap per connection, as tracemalloc counts them."""

    async def run() -> None:
        proxy = Proxy()
        endpoints = (Endpoint(address, port),)
        route = Route("bench/idle", "bench", "10.96.0.200", (RoutePort("", port, 0, endpoints),))
        proxy.apply(Table("bench", 1, routes={route.key: route}))

        async def carry(number: int) -> None:
            command = [sys.executable, "-m", "bench.proxy_idle", "open", "10.96.0.200", str(port), str(number)]
            pipe = asyncio.subprocess.PIPE
            child = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
            assert child.stdout is not None and child.stdin is not None
            await child.stdout.readline()
            gc.collect()
            print(proxy.status()["counters"]["open"], tracemalloc.get_traced_memory()[0], flush=True)
            child.stdin.write(b"\n")
            await child.wait()

        tracemalloc.start()
        await carry(10)
        await carry(count)
        proxy.close()

    asyncio.run(run())


def wait_listening(address: str, ports: tuple[int, ...], who: str) -> None:
    """Until all ports accept; SystemExit after 30 s."""
    deadline = time.monotonic() + 30
    for port in ports:
        while True:
            try:
                socket.create_connection((address, port), 1).close()
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    raise SystemExit(f"{who} does not listen on {address}:{port}: {error}") from error
                time.sleep(0.02)


def main() -> None:
    raise_limit()
    what, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if what == "hold":
        hold(address, port)
    elif what == "wait":
        wait_listening(address, (port,), "the proxy")
    elif what == "heap":
        heap(address, port, int(sys.argv[4]))
    else:
        held = connections(address, port, int(sys.argv[4]))
        print("open", flush=True)
        sys.stdin.readline()
        for sock in held:
            sock.close()


if __name__ == "__main__":
    main()
