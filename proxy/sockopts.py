"""Socket options of both legs: keepalive, no delay, and how a connection is reset, not closed."""

from __future__ import annotations

import fcntl
import socket
import struct

# A peer that vanished is noticed after 60 + 4 * 15 seconds; a live idle one is never cut.
KEEPALIVE_IDLE = 60
KEEPALIVE_INTERVAL = 15
KEEPALIVE_PROBES = 4

_LINGER_ZERO = struct.pack("ii", 1, 0)
# linux/sockios.h: bytes in the send queue that have not left yet; Python has no name for it.
_SIOCOUTQNSD = 0x894B
_ZERO = bytes(4)


def tune(sock: socket.SocketType) -> None:
    """Makes a TCP socket fit for relaying. Set on a listening socket, what it accepts inherits all of it."""
    carry(sock)
    keep_alive(sock)


def carry(sock: socket.SocketType) -> None:
    """The part of it that counts from the first byte."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # Urgent bytes go along in the stream; left out of line, a read stops short at each of them.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)


def keep_alive(sock: socket.SocketType) -> None:
    """The part that counts once nothing is said. OSError when the peer was quicker to go."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)


def reset_on_close(sock: socket.SocketType) -> None:
    """The coming close sends RST and drops what is queued."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
    except OSError:
        pass  # the peer was quicker: nothing is left to reset


def unsent(sock: socket.SocketType) -> int:
    """Bytes written to the socket that have not been sent to the peer yet; 0 when the socket is broken."""
    try:
        return int(struct.unpack("i", fcntl.ioctl(sock.fileno(), _SIOCOUTQNSD, _ZERO))[0])
    except OSError:
        return 0
