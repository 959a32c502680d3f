"""A thousand services that come and go, with clients, leave nothing in the proxy's tables."""

from __future__ import annotations

import os
import socket
from collections import Counter
from dataclasses import replace

from common.routing import Endpoint, Route, RoutePort
from proxy.server import Proxy
from proxy.table import Delta
from tests.proxy.support import Endpoints, connect, own_address, reset, table, until

ROUNDS, SERVICES, CLIENTS = 5, 200, 40
BALANCES = ("RoundRobin", "LeastConnections")


def services(turn: int, address: str, ends: list[tuple[str, int]]) -> list[Route]:
    """Of every kind: by turns, by connections, by client; one of three has a UDP port too."""
    found = []
    for number in range(SERVICES):
        port = 20_000 + number
        # The second endpoint is nobody's: it cools down.
        held = tuple(Endpoint(*end) for end in (ends[number % len(ends)], (address, 1)))
        ports = [RoutePort("http", port, 0, held)]
        if number % 3 == 0:
            ports.append(RoutePort("dns", port, 0, held, protocol="UDP"))
        route = Route(f"default/it-{turn}-{number}", f"uid-{turn}-{number}", address, tuple(ports))
        affinity = 60 if number % 5 == 0 else 0
        found.append(replace(route, balance=BALANCES[number % 2], affinity_seconds=affinity))
    return found


def held(proxy: Proxy) -> Counter[str]:
    """How much each of the proxy's tables holds."""
    found: Counter[str] = Counter()
    parts = (proxy, proxy._planner, proxy._listeners, proxy._datagrams, proxy._sockets, proxy._context, proxy.drains)
    for part in (*parts, proxy._poller, proxy._table):
        slots = [name for kind in type(part).__mro__ for name in getattr(kind, "__slots__", ())]
        for name in (*getattr(part, "__dict__", ()), *slots):
            value = getattr(part, name, None)
            if isinstance(value, dict | set | list):
                found[f"{type(part).__name__}.{name}"] = len(value)
    return found


async def test_services_leave_nothing(proxy: Proxy, endpoints: Endpoints) -> None:
    address = own_address()
    proxy.apply(table())
    open_before, before = len(os.listdir("/proc/self/fd")), held(proxy)
    revision = proxy.applied[1]
    for turn in range(ROUNDS):
        routes = services(turn, address, endpoints.places)
        proxy.change(Delta("test", revision, revision + 1, tuple(routes), ()))
        clients = [await connect((address, 20_000 + number)) for number in range(CLIENTS)]
        await until(lambda: len(proxy._context.open) == CLIENTS, "connected")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asked = proxy._datagrams.received + 1
            for number in range(0, CLIENTS, 3):
                asking.sendto(b"?", (address, 20_000 + number))
            # Nobody answers: sessions begin and end.
            await until(lambda most=asked: proxy._datagrams.received >= most, "asked")  # type: ignore[misc]
            for client in clients[::2]:
                reset(client)
            await until(lambda: len(proxy._context.open) == CLIENTS // 2, "some have gone before their service")
            proxy.change(Delta("test", revision + 1, revision + 2, (), tuple(route.key for route in routes)))
            assert proxy.drains.counts(), "the others are still there"
        for client in clients[1::2]:
            reset(client)
        await until(lambda: not proxy.busy, "all are gone")
        for end in range(len(endpoints.sockets)):
            while endpoints.waiting(end):
                (await endpoints.accept(end)).close()
        revision += 2
    # A session of UDP ends when it has been idle; what it asked of is gone long before.
    for session in [*proxy._datagrams._sessions.values()]:
        proxy._datagrams._end(session)
    assert not proxy.drains.counts() and not proxy.errors()
    grown = {name: (before[name], size) for name, size in held(proxy).items() if size > before[name]}
    assert not grown, f"before and now: {grown}"
    assert len(os.listdir("/proc/self/fd")) <= open_before + 2
