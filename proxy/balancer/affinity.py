"""A client stays with its endpoint (`sessionAffinity: ClientIP`), pure: a hash both workers agree on, and a memory.

The first choice is by rendezvous hashing of the client's address: every worker, also one that was just replaced, makes
the same. A memory of what was chosen keeps a client where it is when endpoints are added.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Collection, Iterable

from common.routing import Endpoint
from proxy.balancer.cooling import Cooling

# Clients remembered of one service port; beyond, the one not seen for longest is forgotten (and then hashed again).
CAPACITY = 16_384


class ClientAffinity:
    """Each client (by address) goes to one endpoint until it has made no new connection for `timeout` seconds.

    An endpoint that is removed, or fails, loses its clients to each one's next choice.
    """

    __slots__ = ("_capacity", "_clients", "_cooling", "_members", "timeout")

    def __init__(self, timeout: float, capacity: int = CAPACITY) -> None:
        self.timeout = timeout
        self._capacity = capacity
        self._members: dict[Endpoint, int] = {}
        # Oldest first: endpoint, and when the client is forgotten.
        self._clients: OrderedDict[str, tuple[Endpoint, float]] = OrderedDict()
        self._cooling = Cooling()

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, endpoint: object) -> bool:
        return endpoint in self._members

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        return tuple(self._members)

    @property
    def remembered(self) -> int:
        """Clients in memory."""
        return len(self._clients)

    def update(self, endpoints: Iterable[Endpoint]) -> None:
        """Replaces the set; clients of those that stay are kept."""
        wanted = {endpoint: zlib.crc32(f"{endpoint.ip}:{endpoint.port}".encode()) for endpoint in endpoints}
        gone = self._members.keys() - wanted.keys()
        self._members = wanted
        self._cooling.keep(wanted)
        if gone:
            for client in [client for client, (endpoint, _) in self._clients.items() if endpoint in gone]:
                del self._clients[client]

    def pick(self, now: float, tried: Collection[Endpoint] = (), client: str = "") -> Endpoint | None:
        """The client's endpoint; its next choice when that one was tried or cools down; None when all were tried."""
        self._forget(now)
        known = self._clients.get(client)
        chosen = known[0] if known is not None else None
        if chosen is None or chosen in tried or self._cooling.until(chosen) > now:
            chosen = self._choose(now, tried, client)
        if chosen is not None:
            self._clients[client] = (chosen, now + self.timeout)
            self._clients.move_to_end(client)
            if len(self._clients) > self._capacity:
                self._clients.popitem(last=False)
        return chosen

    def _choose(self, now: float, tried: Collection[Endpoint], client: str) -> Endpoint | None:
        best: Endpoint | None = None
        best_rank = (0.0, 0)
        seed = zlib.crc32(client.encode())
        for endpoint, number in self._members.items():
            if endpoint in tried:
                continue
            until = self._cooling.until(endpoint) if self._cooling else 0.0
            rank = (-until if until > now else 0.0, _mixed(seed, number))
            if best is None or rank > best_rank:
                best, best_rank = endpoint, rank
        return best

    def _forget(self, now: float) -> None:
        """All have the same time-out, so those that end first stand first."""
        while self._clients:
            client, (_, ends) = next(iter(self._clients.items()))
            if ends > now:
                return
            del self._clients[client]

    def cooling_until(self, endpoint: Endpoint) -> float:
        return self._cooling.until(endpoint)

    def failed(self, endpoint: Endpoint, now: float) -> None:
        if endpoint in self._members:
            self._cooling.failed(endpoint, now)

    def succeeded(self, endpoint: Endpoint) -> None:
        if self._cooling:
            self._cooling.succeeded(endpoint)

    def released(self, endpoint: Endpoint) -> None:
        """What was picked is over; its client is remembered all the same."""


def _mixed(seed: int, number: int) -> int:
    """Two 32-bit numbers made one that depends on every bit (the finalizer of MurmurHash3, 64 bits)."""
    mixed = (seed << 32 | number) & 0xFFFF_FFFF_FFFF_FFFF
    mixed = ((mixed ^ mixed >> 33) * 0xFF51_AFD7_ED55_8CCD) & 0xFFFF_FFFF_FFFF_FFFF
    mixed = ((mixed ^ mixed >> 33) * 0xC4CE_B9FE_1A85_EC53) & 0xFFFF_FFFF_FFFF_FFFF
    return mixed ^ mixed >> 33
