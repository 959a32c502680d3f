"""Congestion control between near peers.

Controls that pace (BBR) are made for long ways: they send by a timer. Within a machine that is a third of what
bulk costs (docs/adr/0004-relay.md), and a part of every small message's price.
"""

from __future__ import annotations

import socket
import struct
from pathlib import Path

_PACING = "bbr"
_DEFAULT = Path("/proc/sys/net/ipv4/tcp_congestion_control")
# Linux's own default, and the one that no kernel is without.
_UNPACED = (b"cubic", b"reno")
# A peer that has ever answered within this many microseconds is in the same rack at most.
NEAR = 500
# linux/tcp.h, struct tcp_info: tcpi_min_rtt, in microseconds.
_MIN_RTT = struct.Struct("=148xI")


def paced() -> bool:
    """Whether connections of this network namespace are paced unless somebody asks for something else."""
    try:
        return _DEFAULT.read_text().startswith(_PACING)
    except OSError:
        return False


def unpace(sock: socket.SocketType) -> None:
    """What is sent here from now on leaves as fast as the peer takes it."""
    for name in _UNPACED:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name)
            return
        except OSError:
            pass  # not in this kernel, or not allowed to all: the next


def unpace_near(sock: socket.SocketType) -> None:
    """The same if the peer is near; towards peers far away what the node's administrator chose stays."""
    try:
        (fastest,) = _MIN_RTT.unpack(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _MIN_RTT.size))
    except (OSError, struct.error):
        return  # it is on its way out, or a kernel that does not tell
    if fastest < NEAR:
        unpace(sock)
