"""The door-keeper: who may call which service. Nodes verify themselves; users come from near by or with a token."""

from __future__ import annotations

import functools
import hmac
import ipaddress
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import grpc
import grpc.aio

from common.errors import Unauthenticated
from master.api.interceptors import Context, Handler, around
from master.api.tokens import write_private

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

OPEN = ("/sampan.v1.NodeService/", "/grpc.health.v1.Health/")
ADMIN_TOKEN_FILE = "admin.token"
GATEWAY = "gateway"


def admin_token(data: Path) -> str:
    """The users' token from the data directory (admin.token, owner only); made when there is none."""
    path = data / ADMIN_TOKEN_FILE
    with_token = path.read_text().strip() if path.exists() else ""
    if not with_token:
        with_token = secrets.token_urlsafe(32)
        write_private(path, with_token + "\n")
    return with_token


def parse_trust(words: Iterable[str], routes: Path = Path("/proc/net/route")) -> tuple[Network, ...]:
    """Networks (10.0.0.0/8, 192.168.1.7) and the word "gateway": this machine's default gateway, as `routes` has it.

    Raises ValueError naming the word that is neither.
    """
    networks: list[Network] = []
    for word in words:
        if word == GATEWAY:
            networks += [ipaddress.ip_network(address) for address in default_gateways(routes)]
            continue
        try:
            networks.append(ipaddress.ip_network(word))
        except ValueError:
            raise ValueError(f"--trust must be {GATEWAY!r} or a network like 10.0.0.0/8, got {word!r}") from None
    return tuple(networks)


def default_gateways(routes: Path) -> list[ipaddress.IPv4Address]:
    """From the kernel's table of IPv4 routes, whose addresses are hexadecimal with the last byte first."""
    try:
        lines = routes.read_text().splitlines()[1:]
    except OSError:
        return []
    found = []
    for fields in map(str.split, lines):
        if len(fields) > 7 and fields[1] == fields[7] == "00000000" and fields[2] != "00000000":
            found.append(ipaddress.IPv4Address(bytes.fromhex(fields[2])[::-1]))
    return found


def peer_address(peer: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address in gRPC's name of a caller (ipv4:1.2.3.4:5, ipv6:[::1]:5); None for anything else."""
    family, _, rest = peer.partition(":")
    if family not in {"ipv4", "ipv6"}:
        return None
    # A caller has another port with each connection, but few addresses.
    return _host_address(unquote(rest).rpartition(":")[0].strip("[]").partition("%")[0])


@functools.lru_cache(maxsize=1024)
def _host_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


class Access(grpc.aio.ServerInterceptor):
    """Lets users' calls pass from this machine, from trusted networks, or with the admin token.

    Everything but NodeService and the health service is for users. Refuses with Unauthenticated, which
    ErrorInterceptor, standing before it, turns into a status.
    """

    def __init__(self, token: str, trusted: Sequence[Network] = ()) -> None:
        if not token:
            raise ValueError("the admin token must not be empty")
        self._token = token.encode()
        self._trusted = tuple(trusted)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        handler = await continuation(handler_call_details)
        if handler_call_details.method.startswith(OPEN):
            return handler

        @asynccontextmanager
        async def guard(context: Context) -> AsyncIterator[None]:
            self.check(context.peer(), context.invocation_metadata() or ())
            yield

        return around(handler, guard)

    def check(self, peer: str, metadata: Iterable[Any]) -> None:
        """Raises Unauthenticated, saying what to do, unless the caller may call as a user."""
        given = [value for key, value in metadata if key.lower() == "authorization"]
        if given:
            # Whoever shows a token means it: a wrong one is told, also to a neighbour.
            if any(self._matches(value) for value in given):
                return
            raise Unauthenticated(
                "the token is not this cluster's admin token: set SAMPAN_TOKEN or --token to the content of "
                f"{ADMIN_TOKEN_FILE} in the master's data directory"
            )
        if peer.startswith(("unix:", "unix-abstract:")):
            return
        address = peer_address(peer)
        if address is not None:
            if address.is_loopback:
                return
            if any(address in network for network in self._trusted):
                return
        raise Unauthenticated(
            f"callers from {address or 'elsewhere'} need the admin token: set SAMPAN_TOKEN or --token to the content "
            f"of {ADMIN_TOKEN_FILE} in the master's data directory (or start the master with --trust)"
        )

    def _matches(self, value: str | bytes) -> bool:
        text = value.encode() if isinstance(value, str) else value
        scheme, _, token = text.partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(), self._token)
