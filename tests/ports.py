"""Ports on loopback for what a test starts: below the range from which the kernel numbers outgoing connections."""

from __future__ import annotations

import secrets
import socket

# Above what is well known (7443, 8765 and on), below node ports (30000) and Linux's own choice (32768).
_FIRST, _LAST = 12_000, 29_000
_TRIES = 1000


def free_port() -> int:
    """A TCP port on 127.0.0.1 that is free just now, as is the one after it (a master's table has that).

    Nobody gets one of these by chance, as bind(0) and connect() give theirs: a server that is killed finds its port
    again. Random, so that test runs side by side do not choose the same. Raises OSError when none is free.
    """
    for _ in range(_TRIES):
        port = _FIRST + 2 * secrets.randbelow((_LAST - _FIRST) // 2)
        if _is_free(port) and _is_free(port + 1):
            return port
    raise OSError(f"no free pair of ports from {_FIRST} to {_LAST} after {_TRIES} tries")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
