"""The one place that starts asyncio tasks outside a TaskGroup: every task has a name and an owner."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def apart(name: str, work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns or raises, run as a task of its own; for loops that catch what a TaskGroup raised.

    A TaskGroup (of Python 3.11) in which a task has failed already forgets that it is cancelled while it waits for the
    others: it raises the failure alone, and a loop that tries again would run for ever. Here the caller's cancellation
    ends the work, and then the caller, whatever the work makes of it.
    """
    task = asyncio.create_task(work, name=name)
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        raise
    return task.result()


class Tasks:
    """A set of named tasks owned by one object; `close()` ends them all and waits, bounded.

    For owners that outlive one `async with` block (a server's connections, a pod's worker). A task that
    fails is reported to the loop's exception handler, never lost.
    """

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Runs `work` as a task named `owner/name`; it is forgotten when it ends."""
        task = asyncio.create_task(work, name=f"{self._owner}/{name}")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"task {task.get_name()} failed", "exception": error, "task": task}
            )

    async def close(self, timeout: float = 5.0) -> None:
        """Cancels every task and waits up to `timeout` seconds for them to end."""
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=timeout)
