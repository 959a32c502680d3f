"""JSON lines and descriptors between two processes of a proxy, over a connected unix socket inside an asyncio loop."""

from __future__ import annotations

import array
import asyncio
import errno
import json
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol, Self

from proxy.logs import EventLog

log = EventLog("proxy.channel")

# Descriptors of one message; the kernel takes 253.
DESCRIPTORS = 200
READ_SIZE = 256 * 1024
# Bytes in one write; a table of any size goes in several.
WRITE_SIZE = 1 << 20
# Seconds until sending goes on after too many descriptors are under way (ETOOMANYREFS).
RETRY = 0.02


class Lendable(Protocol):
    """What has a descriptor, and several holders: `SharedSocket`, `Board`."""

    def fileno(self) -> int: ...
    def hold(self) -> Self: ...
    def close(self) -> None: ...


class Channel:
    """Calls `on_message(kind, body, line)` for each message and `on_end()` once, when the other side is gone.

    Descriptors that come with a message are taken by `take` before the next message. Writes are queued without bound:
    the owner ends a peer that does not answer.
    """

    def __init__(
        self,
        sock: socket.socket,
        on_message: Callable[[str, Any, bytes], None],
        on_end: Callable[[], None],
        buffered: bytes = b"",
    ) -> None:
        sock.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self.sock = sock
        self._on_message = on_message
        self._on_end = on_end
        self._buffer = bytearray(buffered)
        # Of each message that came with descriptors.
        self._received: deque[array.array[int]] = deque()
        # Bytes, and sockets whose descriptors go with the first of them: held until they have gone.
        self._queue: deque[tuple[memoryview, list[Lendable]]] = deque()
        self._writing = False
        self._pausing = False
        self._reading = False
        self._drained: asyncio.Future[None] | None = None
        self.closed = False

    def start(self) -> None:
        """Begins to read."""
        self._reading = True
        self._loop.add_reader(self.sock, self._readable)
        if b"\n" in self._buffer:
            self._loop.call_soon(self._lines)

    def take(self) -> list[int]:
        """The descriptors of this message, in their order; the last ones are missing when this process has no room."""
        return list(self._received.popleft()) if self._received else []

    def send(self, kind: str, body: Any, lent: Sequence[Lendable] = ()) -> None:
        """Queues a message; of descriptors (at most `DESCRIPTORS`) a copy goes, and costs none while it waits."""
        self.send_line(json.dumps({kind: body}, separators=(",", ":")).encode() + b"\n", lent)

    def send_line(self, line: bytes, lent: Sequence[Lendable] = ()) -> None:
        """Queues a message that is a JSON line already."""
        if self.closed:
            return
        self._queue.append((memoryview(line), [one.hold() for one in lent]))
        if not self._writing and not self._pausing:
            self._flush()

    async def flushed(self) -> None:
        """Returns when all that was queued is sent, or the channel is closed."""
        while self._queue and not self.closed:
            self._drained = self._loop.create_future()
            await self._drained

    @property
    def waiting(self) -> int:
        """Messages that are not sent yet."""
        return len(self._queue)

    def _flush(self) -> None:
        while self._queue:
            data, lent = self._queue[0]
            try:
                if lent:
                    numbers = array.array("i", [one.fileno() for one in lent])
                    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)
                    sent = self.sock.sendmsg([data[:WRITE_SIZE]], [rights])
                else:
                    sent = self.sock.send(data[:WRITE_SIZE])
            except (BlockingIOError, InterruptedError):
                self._write_later()
                return
            except OSError as error:
                self._stop_writing()
                if lent and error.errno == errno.ETOOMANYREFS:  # the other side has yet to take what it got
                    self._pausing = True
                    self._loop.call_later(RETRY, self._flush_again)
                else:
                    self._drop_queue()  # the reader finds the end
                return
            for one in lent:
                one.close()
            if sent < len(data):
                self._queue[0] = (data[sent:], [])
            else:
                self._queue.popleft()
        self._stop_writing()
        self._tell_drained()

    def _flush_again(self) -> None:
        self._pausing = False
        if not self.closed:
            self._flush()

    def _drop_queue(self) -> None:
        for _, lent in self._queue:
            for one in lent:
                one.close()
        self._queue.clear()
        self._tell_drained()

    def _write_later(self) -> None:
        if not self._writing:
            self._writing = True
            self._loop.add_writer(self.sock, self._flush)

    def _stop_writing(self) -> None:
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self.sock)

    def _tell_drained(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def _readable(self) -> None:
        try:
            size = socket.CMSG_SPACE(253 * 4)
            data, ancillary, flags, _ = self.sock.recvmsg(READ_SIZE, size, socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, ancillary, flags = b"", [], 0
        # One call gives the descriptors of one message; when the kernel finds no room for some, those are lost, and
        # all that it gives when it finds none is the flag.
        if ancillary or flags & socket.MSG_CTRUNC:
            received = array.array("i")
            for level, kind, content in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    received.frombytes(content[: len(content) - len(content) % received.itemsize])
            self._received.append(received)
        if not data:
            self.close()
            self._on_end()
            return
        self._buffer += data
        if b"\n" in data:
            self._lines()

    def _lines(self) -> None:
        while not self.closed and self._reading:
            end = self._buffer.find(b"\n")
            if end < 0:
                return
            line = bytes(self._buffer[: end + 1])
            del self._buffer[: end + 1]
            ((kind, body),) = json.loads(line).items()
            self._on_message(kind, body, line)

    def detach(self) -> tuple[socket.socket, bytes]:
        """Stops without closing: the socket, and what was read from it and is not yet a message."""
        self.closed = True
        self._loop.remove_reader(self.sock)
        self._stop_writing()
        self._drop_queue()
        return self.sock, bytes(self._buffer)

    def close(self) -> None:
        """Hangs up."""
        if self.closed:
            return
        self.detach()
        self.sock.close()
        for received in self._received:
            for descriptor in received:
                os.close(descriptor)
        self._received.clear()
