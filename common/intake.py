"""What a protocol reads goes into one buffer a thread, and is copied out of it: as many bytes as came, no more."""

from __future__ import annotations

import asyncio
import threading

READ_BYTES = 65_536
"""The most of one read."""


class _Scratch(threading.local):
    """Used from the read to the `took` behind it, which nothing comes between on one event loop."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(READ_BYTES))


_scratch = _Scratch()


class Intake(asyncio.BufferedProtocol):
    """A protocol that is given the bytes that came, by `took`.

    asyncio's plain one makes an object of 256 KB for each read and shrinks it: in a process with mallopt's fixed
    threshold (common/heap.py) that is a mapping and a fault for every small message, as dear as the rest of its way.
    """

    def __init__(self) -> None:
        self._view = _scratch.view

    def took(self, data: bytes) -> None:
        """Some bytes of the stream."""
        raise NotImplementedError

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        self.took(bytes(self._view[:nbytes]))
