"""Output of a Docker container as plain bytes: Docker's frames taken apart, stdout and stderr in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from node_agent.runtime.docker.engine import Engine
from node_agent.runtime.seam import LogOptions

# A frame: one byte for the stream, three zero bytes, four bytes of length, then the content.
_HEADER = 8
_CHUNK = 64 * 1024


async def read_logs(engine: Engine, id: str, options: LogOptions) -> AsyncIterator[bytes]:
    """Ends with the container's output, or (follow) when the container ends. NotFound, Unavailable."""
    tty = bool((await engine.call("GET", f"containers/{id}/json"))["Config"]["Tty"])
    params = {
        "stdout": "1",
        "stderr": "1",
        "follow": "1" if options.follow else "0",
        "timestamps": "1" if options.timestamps else "0",
        "tail": "all" if options.tail is None else str(options.tail),
        "since": f"{options.since:.9f}" if options.since else "0",
    }
    async with engine.stream("GET", f"containers/{id}/logs", params=params) as body:
        async for piece in _plain(body) if tty else _framed(body):
            yield piece


async def _plain(body: Any) -> AsyncIterator[bytes]:
    while piece := await body.read(_CHUNK):
        yield piece


async def _framed(body: Any) -> AsyncIterator[bytes]:
    while True:
        try:
            header = await body.readexactly(_HEADER)
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise
            return
        left = int.from_bytes(header[4:], "big")
        while left:
            piece = await body.read(min(left, _CHUNK))
            if not piece:
                raise asyncio.IncompleteReadError(b"", left)
            left -= len(piece)
            yield piece
