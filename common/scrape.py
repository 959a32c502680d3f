"""Answers `GET /metrics` on one address: just enough HTTP for a scraper, so that no role needs a web server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from common.metrics import CONTENT_TYPE
from common.metricsplace import where

__all__ = ["serve", "where"]

# Bytes of a request's head, and seconds that a client may take for it.
HEAD_BYTES = 8 * 1024
REQUEST_SECONDS = 5.0
# Scrapers at a time; more are hung up on.
CLIENTS = 16
# Seconds until an address in use is tried again: a process that is being replaced still holds it.
RETRY_SECONDS = 2.0


async def serve(text: str, readings: Callable[[], Awaitable[str]], failed: Callable[[str], None]) -> None:
    """Until cancelled. An address that cannot be had is retried; `failed` hears why, once for each cause."""
    place = where(text)
    clients: set[asyncio.StreamWriter] = set()

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(clients) >= CLIENTS:
            writer.transport.abort()
            return
        clients.add(writer)
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(await _answer(head, readings))
                await writer.drain()
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # a client that does not speak HTTP, or went away
        finally:
            clients.discard(writer)
            writer.close()

    said = ""
    while True:
        try:
            if isinstance(place, Path):
                with contextlib.suppress(FileNotFoundError):
                    place.unlink()
                server = await asyncio.start_unix_server(client, str(place), limit=HEAD_BYTES)
            else:
                server = await asyncio.start_server(client, *place, limit=HEAD_BYTES)
            break
        except OSError as error:
            if str(error) != said:
                said = str(error)
                failed(said)
            await asyncio.sleep(RETRY_SECONDS)
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        server.close()
        for writer in clients:
            writer.transport.abort()


async def _answer(head: bytes, readings: Callable[[], Awaitable[str]]) -> bytes:
    method, path, problem = request(head)
    if problem:
        return response(problem, f"{problem}\n", head_only=method == "HEAD")
    if path != "/metrics":
        return response("404 Not Found", "there is only /metrics here\n", head_only=method == "HEAD")
    return response("200 OK", await readings(), head_only=method == "HEAD", kind=CONTENT_TYPE)


def request(head: bytes) -> tuple[str, str, str]:
    """Method, path without query, and the status that says what is wrong with it (empty: nothing); pure."""
    words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        return "", "", "400 Bad Request"
    method, path, _ = words
    return method, path.partition("?")[0], "" if method in ("GET", "HEAD") else "405 Method Not Allowed"


def response(status: str, body: str, *, head_only: bool = False, kind: str = "text/plain; charset=utf-8") -> bytes:
    """One whole answer; pure."""
    data = body.encode()
    head = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(data)}", "Connection: close"]
    if status.startswith("405"):
        head.append("Allow: GET, HEAD")
    return "\r\n".join([*head, "", ""]).encode() + (b"" if head_only else data)
