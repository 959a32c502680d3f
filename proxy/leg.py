"""One socket of a relay and its direction: what comes here is written to the other leg, piece by piece or as bulk.

Nearly every event is one small piece: one read, one write, and one flag to look at before; the poller does that itself.
All else (a full buffer, an end, a reset, urgent bytes, a slow reader) lowers that flag and goes the long way round,
which is here. What a slow reader holds up is at most one buffer (or pipe); the rest waits in the sender.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from common.pacing import unpace_near
from proxy.poller import ERR, IN, OUT, PIECE, RDHUP, SPECIAL
from proxy.splice import NOT_SPLICED, Pipe

if TYPE_CHECKING:
    from proxy.relay import Relay

BUFFER_SIZE = 256 * 1024
# Reads of one socket in one turn; then the others get theirs.
READS_PER_TURN = 4
# A direction is bulk after this many large reads in a row, and no longer after one small piece through a pipe. One
# segment of a sender on this machine, 65,483 bytes at most, is large: all there is where the relay keeps up with it.
BULK_READS = 4
LARGE_READ = 32 * 1024
SMALL_PIPEFUL = 16 * 1024
# Data came, and its end behind it.
_LAST = IN | OUT | RDHUP


class Leg:
    """One socket of a relay; as a source it reads here and writes to `other`."""

    __slots__ = (
        "broken", "eof", "large", "never_short", "other", "pending", "pipe", "plain", "readable", "received",
        "recv_into", "relay", "send", "shut", "sock",
    )  # fmt: skip

    other: Leg

    def __init__(self, relay: Relay, sock: socket.SocketType) -> None:
        self.relay = relay
        self.sock = sock
        self.recv_into = sock.recv_into
        self.send = sock.send
        # Nothing is under way or over, here or on the other leg: a piece that comes is read and written, no more.
        # Whatever ends that says so here; `_settle` looks at all of it.
        self.plain = True
        self.pending: memoryview | bytes = b""  # read from `other`, not yet taken by this socket
        self.readable = False
        self.never_short = False
        self.eof = False  # nothing more will be read here
        self.shut = False  # our end of stream was sent here
        self.broken = False  # reset or failed: reads may still give what came before
        self.received = 0
        self.large = 0  # large reads in a row
        self.pipe: Pipe | None = None  # holds bytes read from `other`, as `pending` does

    def on_event(self, mask: int) -> None:
        """What the poller calls for all but a small piece on a plain leg."""
        if not self.plain:
            self._look(mask)
        elif mask == _LAST:
            self._last_piece()
        elif mask != OUT:
            self._look(mask)

    def more(self) -> None:
        """A piece was as large as a read may be: there is more to read."""
        self.plain, self.readable = False, True
        self._again()

    def _last_piece(self) -> None:
        """The other end's last bytes, and the end behind them: a short read is all there is, so both go on as one."""
        try:
            data = self.sock.recv(PIECE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.failed()
            return
        count = len(data)
        self.received += count
        if count == PIECE:
            self.other._write(memoryview(data))
            self.plain, self.readable, self.never_short = False, True, True
            self._again()
            return
        if count:
            other = self.other
            try:
                # The end that follows sends the bytes off.
                sent = other.sock.send(data, socket.MSG_MORE)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError:
                self.relay.broke(other)
                sent = count
            if sent != count:
                other.hold(data[sent:])
        self.ended()

    def _look(self, mask: int) -> None:
        """Whatever an event may mean."""
        if mask & OUT and (self.pending or self.pipe is not None):
            self._flush()
        if mask & ~OUT:
            if mask & SPECIAL:
                self.plain, self.never_short = False, True
                if mask & ERR and not self.broken:
                    self.relay.broke(self)
            if not self.eof:
                self.readable = True
                self.pump()
        if not self.relay.closed:
            self._settle()

    def _settle(self) -> None:
        other = self.other
        self.plain = not (
            self.eof
            or self.readable
            or self.large
            or self.never_short
            or self.pending
            or self.pipe is not None
            or other.pending
            or other.pipe is not None
            or other.shut
            or other.broken
            or self.broken
        )

    def hold(self, data: memoryview | bytes) -> None:
        """Keeps what the socket did not take; the memory is nobody else's."""
        self.pending = memoryview(data)
        self.plain = self.other.plain = False

    def ended(self) -> None:
        self.plain, self.eof = False, True
        self.relay.ended(self)

    def failed(self) -> None:
        """A read says that the socket was reset or failed; it says so once."""
        self.plain, self.eof = False, True
        self.relay.broke(self)
        self.relay.ended(self)

    def pump(self) -> None:
        """Moves what can be read here to the other leg, until nothing is left, it is full, or the turn is over."""
        other = self.other
        relay = self.relay
        buffer = relay.context.buffer
        for _ in range(READS_PER_TURN):
            if other.pending or other.pipe is not None or self.eof or relay.closed:
                return
            if self.large >= BULK_READS and not self.never_short and self._splice():
                continue
            if not self.readable:
                return
            try:
                count = self.sock.recv_into(buffer)
            except (BlockingIOError, InterruptedError):
                self.readable = False
                return
            except OSError:
                self.failed()
                return
            if not count:
                self.ended()
                return
            self.received += count
            if count < LARGE_READ:
                self.large = 0
            else:
                self.large += 1
                if self.large == BULK_READS and relay.context.paced:
                    unpace_near(other.sock)
            if not self.never_short and count < BUFFER_SIZE:
                self.readable = False
            other._write(buffer[:count])
            if not self.readable:
                return
        # The poller will not tell again what it has told.
        self.plain = False
        relay.context.loop.call_soon(self._again)

    def _splice(self) -> bool:
        """Moves one pipeful to the other leg; False when this is to be done by copying (or there is nothing)."""
        pipes = self.relay.context.pipes
        other = self.other
        if other.broken or other.shut or (pipe := pipes.take()) is None:
            return False
        try:
            count = pipe.fill(self.sock.fileno())
        except BlockingIOError:
            self.readable = False
            pipes.give(pipe)
            return False
        except OSError as error:
            pipes.give(pipe)
            if error.errno not in NOT_SPLICED:
                self.failed()
                return True
            self.large, self.never_short = 0, True
            return False
        if not count:
            self.never_short = True
            pipes.give(pipe)
            return False
        self.received += count
        if count < SMALL_PIPEFUL:
            self.large = 0
        other.pipe = pipe
        other.plain = False
        other._drain()
        return True

    def _drain(self) -> None:
        """Moves what the pipe holds to the socket, and gives the pipe back when that was all."""
        pipe = self.pipe
        assert pipe is not None
        try:
            pipe.drain(self.sock.fileno())
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.relay.broke(self)
            return
        self._drop_pipe()

    def _drop_pipe(self) -> None:
        if self.pipe is not None:
            self.relay.context.pipes.give(self.pipe)
            self.pipe = None

    def _again(self) -> None:
        if self.readable and not self.relay.closed:
            self.pump()

    def _write(self, data: memoryview, *, ours: bool = False) -> None:
        """Hands bytes to the socket and keeps what it does not take: a copy, unless the memory is `ours`."""
        if self.broken or self.shut:
            return  # the way on is gone; what is read is dropped, as the peer's system would
        try:
            sent = self.sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self.relay.broke(self)
            return
        if sent < len(data):
            self.hold(data[sent:] if ours else bytes(data[sent:]))

    def _flush(self) -> None:
        if self.pipe is not None:
            self._drain()
        else:
            pending = memoryview(self.pending)
            self.pending = b""
            self._write(pending, ours=True)
        if self.pending or self.pipe is not None or self.relay.closed:
            return
        other = self.other
        if other.eof:
            self.relay.ended(other)
        elif other.readable:
            other.pump()
