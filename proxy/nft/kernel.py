"""The kernel's nf_tables and conntrack over a netlink socket: whole transactions, dumps, errors in words.

Spoken to directly and not through the `nft` program: that reads every chain and set of the machine before each change,
which makes one endpoint's change cost what all services together cost (docs/adr/0005-nftables.md).
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path

from proxy.nft import wire
from proxy.nft.wire import Message

_NETFILTER = 12  # NETLINK_NETFILTER
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_SOL_NETLINK, _CAP_ACK = 270, 10
_RECEIVE = 1 << 20
_SECONDS = 30.0
_BRIDGE_FILTER = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
_SPARE = 1 << 16

_HINTS = {
    errno.EPERM: "the proxy needs the capability NET_ADMIN for nftables mode",
    errno.EACCES: "the proxy needs the capability NET_ADMIN for nftables mode",
    errno.EPROTONOSUPPORT: "this kernel has no nf_tables",
    errno.EOPNOTSUPP: "this kernel's nf_tables lacks something: NAT, numgen, fib, masquerade and reject are needed",
    errno.EMSGSIZE: "the transaction is larger than the socket may take: raise net.core.wmem_max",
    errno.ENOBUFS: "the kernel has no memory for it",
}


class KernelError(Exception):
    """The kernel refused; nothing of the transaction was done. `number`: the errno."""

    def __init__(self, about: str, number: int) -> None:
        said = os.strerror(number) if number else "no answer"
        hint = f": {_HINTS[number]}" if number in _HINTS else ""
        super().__init__(f"{about}: {said}{hint}")
        self.number = number


def open_socket() -> socket.socket:
    """A netlink socket in this process's network namespace. Raises OSError."""
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETFILTER)


def bridge_filter() -> bool:
    """Whether bridges of this network namespace hand the packets they forward to the IP hooks."""
    try:
        return _BRIDGE_FILTER.read_text().strip() == "1"
    except OSError:
        return False


class Kernel:
    """Blocking; one call at a time."""

    def __init__(self, opener: Callable[[], socket.socket] = open_socket) -> None:
        self._opener = opener
        # A caller that stopped waiting leaves its transaction running: the next one comes after it.
        self._turn = threading.Lock()

    def commit(self, messages: list[Message]) -> None:
        """Does all of the messages or nothing. Raises KernelError, which says what was refused."""
        if not messages:
            return
        data = wire.batch(messages)
        try:
            with self._turn, closing(self._opened(len(data))) as sock:
                sock.send(data)
                self._confirm(sock, messages)
        except OSError as error:
            raise KernelError("transaction", error.errno or 0) from error

    def _confirm(self, sock: socket.socket, messages: list[Message]) -> None:
        """The kernel does the batch inside send(), so that all it has to say lies here by now. Only the first message
        asked for an answer, which says little while another one failed."""
        while True:
            try:
                data = sock.recv(_RECEIVE)
            except BlockingIOError:
                return
            for answer in wire.answers(data):
                if answer.kind == wire.ERROR:
                    sock.setblocking(False)
                    if answer.code:
                        index = answer.sequence - 1
                        about = messages[index].about if 0 <= index < len(messages) else "transaction"
                        raise KernelError(about, answer.code)

    def dump(self, subsystem: int, message: Message) -> Iterator[bytes]:
        """The attributes of each object asked for. Raises KernelError."""
        try:
            with closing(self._opened(_SPARE)) as sock:
                flagged = Message(message.kind, message.body, wire.DUMP, message.about)
                sock.send(wire.request(subsystem, flagged))
                while True:
                    for answer in wire.answers(sock.recv(_RECEIVE)):
                        if answer.code:
                            raise KernelError(message.about, answer.code)
                        if answer.kind == wire.DONE:
                            return
                        if answer.kind != wire.ERROR:
                            yield answer.body
        except OSError as error:
            raise KernelError(message.about, error.errno or 0) from error

    def each(self, subsystem: int, messages: Iterable[Message]) -> int:
        """Does each message by itself, in one go; how many were done. What is gone already is no error."""
        done = 0
        try:
            with closing(self._opened(_SPARE)) as sock:
                for message in messages:
                    sock.send(wire.request(subsystem, Message(message.kind, message.body, wire.ACK)))
                    for answer in wire.answers(sock.recv(_RECEIVE)):
                        if answer.code not in (0, errno.ENOENT):
                            raise KernelError(message.about, answer.code)
                        done += not answer.code
        except OSError as error:
            raise KernelError("transaction", error.errno or 0) from error
        return done

    def _opened(self, size: int) -> socket.socket:
        sock = self._opener()
        try:
            sock.settimeout(_SECONDS)
            sock.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
            for forced, plain in ((_SO_SNDBUFFORCE, socket.SO_SNDBUF), (_SO_RCVBUFFORCE, socket.SO_RCVBUF)):
                try:
                    sock.setsockopt(socket.SOL_SOCKET, forced, size + _SPARE)
                except PermissionError:
                    sock.setsockopt(socket.SOL_SOCKET, plain, size + _SPARE)
        except BaseException:
            sock.close()
            raise
        return sock
