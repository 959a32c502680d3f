"""The user's terminal joined with a process in a container: raw mode, window sizes, stdin in a thread of its own."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from common.errors import Unavailable
from protos import control_pb2 as control

_STDIN, _STDOUT = 0, 1
_PIECE = 32 * 1024
# Pieces of stdin that wait for the master; then stdin is not read any further.
_WAITING = 8

Request = control.ExecRequest | control.AttachRequest
Size = tuple[int, int]


def window_size() -> Size:
    """Rows and columns of the terminal; 0 when there is none."""
    for descriptor in (_STDOUT, _STDIN, 2):
        with contextlib.suppress(OSError):
            size = os.get_terminal_size(descriptor)
            return size.lines, size.columns
    return 0, 0


@contextlib.contextmanager
def raw_terminal() -> Iterator[None]:
    """Every key goes through as it is, Ctrl-C too; the terminal is as before after the block."""
    before = termios.tcgetattr(_STDIN)
    try:
        # Not the default, which throws away what was typed ahead.
        tty.setraw(_STDIN, termios.TCSADRAIN)
        yield
    finally:
        termios.tcsetattr(_STDIN, termios.TCSADRAIN, before)


class Requests:
    """What goes to the master, as an iterator: the start, then stdin and window sizes as they come."""

    def __init__(self, make: Callable[..., Any], start: Any, *, stdin: bool, tty: bool) -> None:
        self._make, self._start, self._stdin, self._tty = make, start, stdin, tty
        # None: look at the window; False: the end.
        self._queue: queue.Queue[bytes | bool | None] = queue.Queue(_WAITING)
        self._size: Size | None = None

    def __iter__(self) -> Iterator[Any]:
        yield self._make(start=self._start)
        if self._stdin:
            threading.Thread(target=self._read, name="stdin", daemon=True).start()
        elif not self._tty:
            return
        while True:
            piece = self._queue.get()
            if self._size is not None:
                (rows, cols), self._size = self._size, None
                yield self._make(resize=control.TerminalSize(rows=rows, cols=cols))
            if isinstance(piece, bytes):
                yield self._make(data=piece) if piece else self._make(stdin_end=True)
            elif piece is False:
                return

    def _read(self) -> None:
        # Not sys.stdin: its lock would be held when the program ends.
        while True:
            try:
                piece = os.read(_STDIN, _PIECE)
            except OSError:
                piece = b""
            self._queue.put(piece)
            if not piece:
                return

    def resized(self, size: Size) -> None:
        """Called by a signal: must not wait."""
        self._size = size
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)

    def end(self) -> None:
        """Lets the thread go that takes the requests."""
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(False)


@contextlib.contextmanager
def following_window(requests: Requests) -> Iterator[None]:
    """Tells `requests` of every new size of the terminal."""
    before = signal.signal(signal.SIGWINCH, lambda *_: requests.resized(window_size()))
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)


def converse(
    call: Callable[[Iterator[Any]], Iterable[control.ExecResponse]],
    make: Callable[..., Any],
    start: Any,
    *,
    begun: Callable[[], None] = lambda: None,
) -> int | None:
    """Joins this process's stdio with a container's; the exit code, or None where there is none.

    `start.stdin` and `start.tty` say what is joined; with a terminal its size is filled in. Raises SampanError.
    """
    code: int | None = None
    requests = Requests(make, start, stdin=start.stdin, tty=start.tty)
    with contextlib.ExitStack() as stack:
        stack.callback(requests.end)
        if start.tty:
            start.size.rows, start.size.cols = window_size()
            stack.enter_context(raw_terminal())
            stack.enter_context(following_window(requests))
        for answer in call(iter(requests)):
            if answer.begun:
                begun()
            if answer.stdout:
                sys.stdout.buffer.write(answer.stdout)
                sys.stdout.buffer.flush()
            if answer.stderr:
                sys.stderr.buffer.write(answer.stderr)
                sys.stderr.buffer.flush()
            if answer.HasField("exit_code"):
                code = answer.exit_code
    return code


def wants_terminal(wanted: bool) -> bool:
    """Whether there can be one; tells why not."""
    if wanted and not os.isatty(_STDIN):
        from cli.failure import warn

        warn("no terminal (-t): standard input is none")
        return False
    return wanted


def must_have_ended(code: int | None) -> int:
    """The exit code of a command. Raises Unavailable when nobody knows it."""
    if code is None:
        raise Unavailable("the connection ended before the command did: its exit code is not known")
    return code
