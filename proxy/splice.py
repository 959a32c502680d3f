"""Bulk from socket to socket through a pipe, inside the kernel: no byte is copied into this process.

Moving pages pays off only for large pieces, so a direction asks for a pipe when it has read several full buffers, and
gives it back as soon as it is empty: pipes belong to bytes that are under way, not to connections.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections import deque

# The kernel's limit for one pipe of a process without privileges (fs.pipe-max-size).
PIPE_SIZE = 1024 * 1024
# All pipes of a process; without privileges the kernel gives a user 16,384 pages in large pipes
# (fs.pipe-user-pages-soft), and each pipe is two descriptors.
MOST_PIPES = 32
# What says that this cannot be done here, and nothing of the sockets.
NOT_SPLICED = (errno.EINVAL, errno.ENOSYS, errno.ENOMEM, errno.EOPNOTSUPP)


class Pipe:
    """One pipe and how many bytes are in it."""

    __slots__ = ("filled", "read_end", "write_end")

    def __init__(self) -> None:
        """OSError when there are no descriptors."""
        self.read_end, self.write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.filled = 0
        try:
            fcntl.fcntl(self.write_end, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        except OSError:
            pass  # the user's pages are used up: a small pipe works too

    def fill(self, source: int) -> int:
        """Moves what the socket has into the empty pipe; the number of bytes.

        Zero does not mean the end of the stream: bytes behind an urgent one look the same, ask by a read. Raises
        BlockingIOError when the socket has nothing, OSError when it failed.
        """
        self.filled = os.splice(source, self.write_end, PIPE_SIZE)
        return self.filled

    def drain(self, target: int) -> int:
        """Moves on what the socket takes; the bytes that stay. Raises BlockingIOError, OSError."""
        while self.filled:
            self.filled -= os.splice(self.read_end, target, self.filled)
        return self.filled

    def close(self) -> None:
        """Closes it; what is in it is lost."""
        os.close(self.read_end)
        os.close(self.write_end)


class Pipes:
    """The pipes of a process: made when asked for, kept for the next who asks."""

    def __init__(self) -> None:
        self._idle: deque[Pipe] = deque()
        self.made = 0

    def take(self) -> Pipe | None:
        """An empty pipe; None when all are in use or no descriptors are left: then copy."""
        if self._idle:
            return self._idle.pop()
        if self.made >= MOST_PIPES:
            return None
        try:
            pipe = Pipe()
        except OSError:
            return None
        self.made += 1
        return pipe

    def give(self, pipe: Pipe) -> None:
        """Takes a pipe back; one that still holds bytes is closed."""
        if pipe.filled:
            pipe.close()
            self.made -= 1
        else:
            self._idle.append(pipe)

    def close(self) -> None:
        """Closes the idle ones."""
        while self._idle:
            self._idle.pop().close()
            self.made -= 1
