"""Where the control process leaves listening sockets for a worker in the same process: no descriptor is copied."""

from __future__ import annotations

from proxy.sockets import SharedSocket


class Shelf:
    """Sockets by number, each held until it is taken."""

    def __init__(self) -> None:
        self._held: dict[int, SharedSocket] = {}
        self._next = 0
        self._open = True

    def put(self, sock: SharedSocket) -> int:
        """The number to tell the worker."""
        self._next += 1
        if self._open:
            self._held[self._next] = sock.hold()
        return self._next

    def take(self, number: int) -> SharedSocket:
        """Whoever takes it closes it. KeyError when there is none of that number."""
        return self._held.pop(number)

    def close(self) -> None:
        """Nobody will take what lies here, nor what is still put."""
        self._open = False
        for sock in self._held.values():
            sock.close()
        self._held.clear()
