"""The one worker of a small machine, in the control process's own event loop; spoken to as any other."""

from __future__ import annotations

import asyncio
import socket

from common.tasks import Tasks
from proxy.plan import InKernel
from proxy.server import Proxy
from proxy.sockets import Given
from proxy.workers.shelf import Shelf
from proxy.workers.worker import Post


class Indoors:
    """A spawner that starts no process."""

    def __init__(self, half_close_idle: float, linger: float, in_kernel: InKernel) -> None:
        self._half_close_idle = half_close_idle
        self._linger = linger
        self._in_kernel = in_kernel
        self._tasks = Tasks("worker")
        self.shelf: Shelf | None = None

    def spawn(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        given = Given()
        proxy = Proxy(half_close_idle=self._half_close_idle, sockets=given, in_kernel=self._in_kernel)
        shelf = self.shelf = Shelf()
        self._tasks.start("indoors", self._work(Post(theirs, proxy, given, self._linger, shelf=shelf), shelf))
        return ours

    async def _work(self, post: Post, shelf: Shelf) -> None:
        try:
            await post.run()
        finally:
            shelf.close()

    def close(self) -> None:
        """The worker goes on until it is done; see `done`."""

    async def done(self) -> None:
        """Returns when no worker is left here."""
        while len(self._tasks):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
