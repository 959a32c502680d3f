"""Socket options that both ends of a long-lived connection set."""

from __future__ import annotations

import socket

IDLE_SECONDS = 5
PROBES = 3


def notice_loss(sock: socket.socket) -> None:
    """A peer that is gone without a word is noticed within 20 s, idle or not; a firewall does not see us idle."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, IDLE_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, (PROBES + 1) * IDLE_SECONDS * 1000)
