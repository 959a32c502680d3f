"""The node's own resolvers: who is asked for names that are not the cluster's; read again when the file changes."""

from __future__ import annotations

import os
from collections.abc import Callable
from ipaddress import IPv4Network, ip_address
from pathlib import Path

from common import resolvconf
from proxy.logs import EventLog

log = EventLog("proxy.dns")

RESOLV_CONF = Path("/etc/resolv.conf")
_LOOK_SECONDS = 2.0

# An address and a port.
Server = tuple[str, int]


class Resolvers:
    """Nameservers of `path`, without those in `excluded` (the cluster's own: asking them would be asking oneself)."""

    def __init__(self, path: Path, now: Callable[[], float], port: int = 53) -> None:
        self._path, self._now, self._port = path, now, port
        self._excluded: tuple[IPv4Network, ...] = ()
        self._servers: tuple[Server, ...] = ()
        self._stamp: tuple[int, int, int] | None = None
        self._look_at = float("-inf")

    def exclude(self, *networks: IPv4Network) -> None:
        """Never ask a server in these networks."""
        if networks != self._excluded:
            self._excluded = networks
            self._stamp, self._look_at = None, float("-inf")

    def servers(self) -> tuple[Server, ...]:
        """Whom to ask, in order; empty when the node has no resolver."""
        if self._now() >= self._look_at:
            self._look_at = self._now() + _LOOK_SECONDS
            self._look()
        return self._servers

    def failed(self, server: Server) -> None:
        """It did not answer: the others go first from now on."""
        if len(self._servers) > 1 and self._servers[0] == server:
            self._servers = (*self._servers[1:], server)

    def _look(self) -> None:
        try:
            found = os.stat(self._path)
            stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
            if stamp == self._stamp:
                return
            conf = resolvconf.parse(self._path.read_text(errors="replace"))
        except OSError as error:
            if self._stamp is not None or self._look_at == float("-inf"):
                log.warning("dns.no_resolvers", path=str(self._path), error=str(error))
            self._stamp, self._servers = None, ()
            return
        self._stamp = stamp
        nameservers = conf.nameservers[: resolvconf.MAX_NAMESERVERS]
        self._servers = tuple((address, self._port) for address in nameservers if not self._own(address))
        log.info("dns.resolvers", servers=" ".join(address for address, _ in self._servers) or "none")

    def _own(self, address: str) -> bool:
        parsed = ip_address(address.partition("%")[0])
        return any(parsed in network for network in self._excluded)
