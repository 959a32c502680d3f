"""A master as a process of its own that starts in a tenth of the time: forked from one that has it all imported."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, Self

from tests.integration.master_process import wait_serving
from tests.ports import free_port

_ROOT = Path(__file__).resolve().parents[2]


class ForkedMaster:
    """`async with ForkedMaster(folder) as master`: it runs; `kill()` and `start()` as often as wanted, same data."""

    def __init__(self, data: Path) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self._data, self._log = data, data.with_suffix(".log")
        self._pid = 0

    async def __aenter__(self) -> Self:
        self._nursery = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.integration.nursery"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=_ROOT,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )
        try:
            await self.start()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    async def start(self) -> None:
        """Starts it and waits until its health service says SERVING."""
        flags = ["--listen", self.address, "--data", str(self._data)]
        self._pid = (await self._ask({"start": flags, "log": str(self._log)}))["pid"]
        await wait_serving(self.address, self._log, lambda: not _lives(self._pid))

    async def kill(self) -> None:
        """Ends it at once (SIGKILL) and returns when it is gone."""
        status = (await self._ask({"kill": self._pid, "signal": signal.SIGKILL}))["ended"]
        assert os.WIFSIGNALED(status), f"it had ended by itself:\n{self._log.read_text(errors='replace')[-3000:]}"

    async def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._nursery.stdin is not None and self._nursery.stdout is not None
        self._nursery.stdin.write(json.dumps(request).encode() + b"\n")
        async with asyncio.timeout(90):
            answer: dict[str, Any] = json.loads(await self._nursery.stdout.readline())
        return answer

    async def _end(self) -> None:
        """The end of its input is the end of the nursery and of its master."""
        assert self._nursery.stdin is not None
        self._nursery.stdin.close()
        await self._nursery.wait()


def _lives(pid: int) -> bool:
    """False also for a process that has ended and whose parent has not looked yet."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
