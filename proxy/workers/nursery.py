"""Makes worker processes by forking one that has loaded the code and done nothing else.

So a worker starts in milliseconds, shares its code's memory with the others, and inherits neither threads nor an event
loop nor descriptors. The nursery is forked from the control process before that opens anything; it ends with it. One
that was killed is replaced by a process of its own when the next worker is needed.
"""

from __future__ import annotations

import array
import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence

from proxy.logs import EventLog
from proxy.workers.shelf import Shelf

log = EventLog("proxy.nursery")


def name_process(name: str) -> None:
    """The name that `ps -c` and /proc/PID/comm show."""
    with contextlib.suppress(OSError), open("/proc/self/comm", "w") as comm:
        comm.write(name[:15])


class Nursery:
    """The control process's end: `spawn` gives a connected socket whose other end is a new worker's."""

    # Its workers are other processes: sockets go through their channels.
    shelf: Shelf | None = None

    def __init__(self, sock: socket.socket, pid: int, again: Sequence[str]) -> None:
        """`again`: the command that makes another one, to which the number of its socket is added."""
        self._sock = sock
        self._again = again
        self.pid = pid

    def spawn(self) -> socket.socket:
        """A nursery that is gone is replaced first. Raises OSError."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                try:
                    self._order(theirs)
                except (BrokenPipeError, ConnectionResetError):
                    self._revive()
                    self._order(theirs)
            except OSError:
                ours.close()
                raise
        return ours

    def _order(self, end: socket.socket) -> None:
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [end.fileno()]))
        self._sock.sendmsg([b"w"], [rights])

    def _revive(self) -> None:
        """Executed anew, not forked: this process has threads and an event loop by now."""
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)
        log.warning("nursery.died", pid=self.pid)
        ours, theirs = socket.socketpair()
        with theirs:
            os.set_inheritable(theirs.fileno(), True)
            try:
                self.pid = subprocess.Popen(
                    [*self._again, str(theirs.fileno())], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
                ).pid
            except OSError:
                ours.close()
                raise
        self._sock.close()
        self._sock = ours

    def close(self) -> None:
        """Lets the nursery end; its workers go on."""
        self._sock.close()


def start(work: Callable[[socket.socket], None], again: Sequence[str]) -> Nursery:
    """Forks the nursery, whose workers run `work`. Call it first of all: one thread, no event loop.

    `again` is the command of a process that calls `tend` with the same `work`.
    """
    ours, theirs = socket.socketpair()
    # Collected now, what is shared with the nursery and its workers is not touched again.
    gc.collect()
    gc.freeze()
    pid = os.fork()
    if pid:
        theirs.close()
        return Nursery(ours, pid, again)
    ours.close()
    try:
        tend(theirs, work)
    finally:
        os._exit(0)


def tend(sock: socket.socket, work: Callable[[socket.socket], None]) -> None:
    """A nursery's life: forks a worker for each descriptor that comes, until its control process is gone."""
    # Signals to the group are the control process's to deal with.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # workers that end leave no zombie
    name_process("proxy-nursery")
    gc.collect()
    gc.freeze()
    while True:
        data, ancillary, _, _ = sock.recvmsg(1, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
        if not data:
            return
        descriptors = array.array("i")
        for _, _, content in ancillary:
            descriptors.frombytes(content)
        with socket.socket(fileno=descriptors[0]) as end:
            if os.fork():
                continue
            sock.close()
            code = 1
            try:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                name_process("proxy-worker")
                work(end)
                code = 0
            except BaseException:  # the boundary of a process: say why it ends
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
