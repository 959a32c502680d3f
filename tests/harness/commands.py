"""Runs a command to its end with a deadline, and polls for a condition with a deadline."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


class CommandFailed(Exception):
    """A command ended with another exit code than 0, or did not end in time (`code` is then None)."""

    def __init__(self, command: Sequence[str], code: int | None, stdout: str, stderr: str) -> None:
        self.command = list(command)
        self.code = code
        self.stdout = stdout
        self.stderr = stderr
        how = "did not end in time" if code is None else f"ended with exit code {code}"
        said = (stderr.strip() or stdout.strip())[-2000:]
        super().__init__(f"{' '.join(self.command)} {how}: {said}")


async def run(
    command: Sequence[str],
    *,
    input: str | None = None,
    timeout: float = 90.0,
    check: bool = True,
    env: Mapping[str, str] | None = None,
) -> str:
    """The standard output of `command` when it has ended.

    `timeout` in seconds; then the command and its children are killed. Raises CommandFailed, with
    `check=False` only for the time-out.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL if input is None else asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(env) if env is not None else None,
        start_new_session=True,
    )
    sent = None if input is None else input.encode()
    try:
        async with asyncio.timeout(timeout):
            out, err = await process.communicate(sent)
    except TimeoutError:
        raise CommandFailed(command, None, "", "") from None
    finally:
        if process.returncode is None:
            # The whole session: a shell's children hold its pipes open.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if check and process.returncode != 0:
        raise CommandFailed(command, process.returncode, out.decode(errors="replace"), err.decode(errors="replace"))
    return out.decode(errors="replace")


async def eventually(
    look: Callable[[], Awaitable[T]],
    *,
    within: float,
    what: str,
    every: float = 0.05,
    ignore: tuple[type[Exception], ...] = (CommandFailed, AssertionError, ConnectionError, OSError),
) -> T:
    """Polls `look` until its answer is true, and returns that answer.

    `within` and `every` in seconds. Errors in `ignore` count as "not yet". Raises AssertionError that
    names `what` and the last answer or error at the deadline.
    """
    deadline = time.monotonic() + within
    while True:
        last: object
        try:
            answer = await look()
            if answer:
                return answer
            last = answer
        except ignore as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {what}; last seen: {last!r}")
        await asyncio.sleep(every)
