"""The proxy's event loop: asyncio's, on a selector that hands relayed sockets' events straight to their handlers.

An event that goes through asyncio costs a handle, a context and a turn of the loop, several times what the relay does
with it. Here one epoll holds asyncio's own descriptors and the relay's; the relay's events are dealt with inside
`select`, and asyncio only hears of its own.
"""

from __future__ import annotations

import asyncio
import select
import selectors
from collections.abc import Callable, Coroutine, Mapping
from contextvars import Context
from time import monotonic
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

# Events taken per turn: enough to pay for the turn, few enough that the loop's other work gets its own.
BATCH = 256

_MASKS = ((selectors.EVENT_READ, select.EPOLLIN), (selectors.EVENT_WRITE, select.EPOLLOUT))


class DirectSelector(selectors.BaseSelector):
    """An epoll selector for asyncio; `on_events` sees all events first and returns those that are not its own."""

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self.on_events: Callable[[list[tuple[int, int]]], list[tuple[int, int]]] | None = None
        # Something was scheduled with asyncio since `select` began.
        self.asked = False
        self._keys: dict[int, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """See `selectors`. KeyError when it is registered, OSError when epoll does not take it."""
        fd = _descriptor(fileobj)
        if fd in self._keys:
            raise KeyError(f"descriptor {fd} is registered already")
        self.epoll.register(fd, _mask(events))
        key = self._keys[fd] = selectors.SelectorKey(fileobj, fd, events, data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """See `selectors`. KeyError when it is not registered."""
        key = self._keys.pop(_descriptor(fileobj))
        try:
            self.epoll.unregister(key.fd)
        except OSError:
            pass  # closed before, and with that forgotten by epoll
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """See `selectors`. KeyError when it is not registered."""
        fd = _descriptor(fileobj)
        old = self._keys[fd]
        if old.events != events:
            self.epoll.modify(fd, _mask(events))
        key = self._keys[fd] = selectors.SelectorKey(old.fileobj, fd, events, data)
        return key

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """asyncio's ready descriptors; `timeout` in seconds, None: until something happens.

        It goes on waiting while only events of others come and their handlers ask nothing of asyncio.
        """
        events = self.epoll.poll(timeout, BATCH)
        if self.on_events is not None:
            end = None if timeout is None else monotonic() + timeout
            self.asked = False
            while not (events := self.on_events(events)) and not self.asked and self.on_events is not None:
                if end is not None and (timeout := end - monotonic()) <= 0:
                    break
                events = self.epoll.poll(timeout, BATCH)
        ready: list[tuple[selectors.SelectorKey, int]] = []
        for fd, mask in events:
            key = self._keys.get(fd)
            if key is None:
                continue
            # An error shows as both, as selectors.EpollSelector has it.
            got = selectors.EVENT_WRITE if mask & ~select.EPOLLIN else 0
            got |= selectors.EVENT_READ if mask & ~select.EPOLLOUT else 0
            if got & key.events:
                ready.append((key, got & key.events))
        return ready

    def close(self) -> None:
        """Closes the epoll; sockets registered with it stay open."""
        self.epoll.close()
        self._keys.clear()

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        """See `selectors`. KeyError when it is not registered."""
        return self._keys[_descriptor(fileobj)]

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """Registered keys by descriptor."""
        return self._keys


class ProxyLoop(asyncio.SelectorEventLoop):
    """An asyncio loop on a `DirectSelector`."""

    def __init__(self) -> None:
        self.direct = DirectSelector()
        super().__init__(self.direct)

    def call_soon(
        self, callback: Callable[[*Arguments], object], *args: *Arguments, context: Context | None = None
    ) -> asyncio.Handle:
        self.direct.asked = True
        return super().call_soon(callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Arguments], object],
        *args: *Arguments,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        self.direct.asked = True
        return super().call_at(when, callback, *args, context=context)


def run(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` on a `ProxyLoop`."""
    with asyncio.Runner(loop_factory=ProxyLoop) as runner:
        return runner.run(main)


def _descriptor(fileobj: Any) -> int:
    return fileobj if isinstance(fileobj, int) else int(fileobj.fileno())


def _mask(events: int) -> int:
    return sum(mask for event, mask in _MASKS if events & event)
