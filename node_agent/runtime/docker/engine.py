"""One Docker Engine's HTTP API with time limits and our own errors; the only module that imports aiodocker."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import aiodocker
import aiohttp
from aiodocker.stream import Stream
from yarl import URL

from common.errors import Conflict, NotFound, SampanError, Unavailable
from node_agent.runtime.seam import Refused

# Answers in milliseconds when healthy; a start on a busy machine takes seconds.
CALL_SECONDS = 30.0
SLOW_CALL_SECONDS = 120.0
# More at once only makes each of them slower, and the limit keeps reads going during a mass start.
_HEAVY_AT_ONCE = 4
# aiodocker's own number for "no connection".
_NO_CONNECTION = 900
# The engine sets up the network before it asks runc for anything.
_ABOUT_NETWORK = ("address already in use", "network", "endpoint", "no available ip")
_ABOUT_PROGRAM = ("oci runtime", "runc")
_TRANSIENT = ("connection refused", "context deadline exceeded", "shutting down")


class Engine:
    """Calls to one engine. `url` like unix:///var/run/docker.sock; empty: DOCKER_HOST or the usual socket.

    Every stream has a client of its own: aiohttp's connection limit would let 100 open log streams block all calls.
    """

    def __init__(self, url: str = "") -> None:
        self._url = url or None
        self._calls: aiodocker.Docker | None = None
        self._heavy = asyncio.Semaphore(_HEAVY_AT_ONCE)

    async def close(self) -> None:
        if self._calls is not None:
            await self._calls.close()
            self._calls = None

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        heavy: bool = False,
        seconds: float = CALL_SECONDS,
    ) -> Any:
        """One request; its decoded JSON, or text, or None. `heavy` waits its turn before the clock runs."""
        gate: contextlib.AbstractAsyncContextManager[Any] = self._heavy if heavy else contextlib.nullcontext()
        async with gate:
            with speaking(f"{method} /{path}"):
                async with asyncio.timeout(SLOW_CALL_SECONDS if heavy else seconds):
                    if self._calls is None:
                        self._calls = self._connect()
                    client = self._calls
                    data = None if body is None else json.dumps(body)
                    async with client._query(path, method, params=params, data=data) as response:
                        async with response:
                            raw = await response.read()
                            if "json" not in response.headers.get("Content-Type", ""):
                                return raw.decode("utf-8", "replace")
                            return json.loads(raw) if raw else None

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        relayed: bool = False,
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """One request whose answer is read as it comes; only its beginning is bounded in time.

        `relayed`: the engine passes on another server's answer (a registry's), which is Refused whatever it says.
        """
        async with self.answer(method, path, params=params, data=data, headers=headers, relayed=relayed) as response:
            yield response.content

    @contextlib.asynccontextmanager
    async def answer(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        data: bytes | AsyncIterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        relayed: bool = False,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The same as `stream` with the head of the answer; sending `data` that comes in pieces takes its time."""
        with speaking(f"{method} /{path}", relayed=relayed):
            async with self._connect() as client:
                async with asyncio.timeout(SLOW_CALL_SECONDS if data is None or isinstance(data, bytes) else None):
                    response = await client._do_query(
                        path, method, params=params, data=data, headers=headers, timeout=aiohttp.ClientTimeout()
                    )
                try:
                    yield response
                finally:
                    response.close()

    @contextlib.asynccontextmanager
    async def hijack(
        self, path: str, *, params: Mapping[str, Any] | None = None, body: Any = None, tty: bool
    ) -> AsyncIterator[Stream]:
        """A connection that has turned into a process's stdio; only its opening is bounded in time, and mapped.

        `tty`: its output comes as it is, else in Docker's frames. Calls on it belong in `speaking()`.
        """

        async def request() -> tuple[URL, bytes | None, bool]:
            data = None if body is None else json.dumps(body).encode()
            return URL(path).with_query(params or {}), data, tty

        async with self._connect() as client:
            stream = Stream(client, request)
            try:
                with speaking(f"POST /{path}"):
                    async with asyncio.timeout(CALL_SECONDS):
                        await stream._init()
                yield stream
            finally:
                stream._closed = True
                if stream._resp is not None:
                    stream._resp.close()

    def _connect(self) -> aiodocker.Docker:
        version = self._calls.api_version if self._calls is not None else "auto"
        try:
            return aiodocker.Docker(url=self._url, api_version=version)
        except AssertionError:
            raise Unavailable("no Docker Engine found: start it, or name its socket with DOCKER_HOST") from None


@contextlib.contextmanager
def speaking(what: str, *, relayed: bool = False) -> Iterator[None]:
    """Turns what aiodocker and aiohttp raise into our errors."""
    try:
        yield
    except aiodocker.DockerError as error:
        if relayed and error.status != _NO_CONNECTION:
            raise Refused(error.message) from None
        raise mapped(error.status, error.message) from None
    except TimeoutError:
        raise Unavailable(f"Docker Engine did not answer in time ({what})") from None
    except (aiohttp.ClientError, ConnectionError, OSError, asyncio.IncompleteReadError) as error:
        raise Unavailable(f"Docker Engine broke off ({what}): {error}") from None


def mapped(status: int, message: str) -> SampanError:
    """Our error for the engine's HTTP status and message; pure."""
    if status == _NO_CONNECTION or status == 503:
        return Unavailable(message)
    if status == 404:
        return NotFound(message)
    if status == 409:
        return Conflict(message)
    if status >= 500 and any(word in message.lower() for word in _TRANSIENT):
        return Unavailable(message)
    return Refused(message)


def start_error(message: str) -> SampanError:
    """What a start that the engine refused is about: the network (Conflict), or the container itself; pure."""
    text = message.lower()
    about_network = any(word in text for word in _ABOUT_NETWORK) and not any(word in text for word in _ABOUT_PROGRAM)
    return Conflict(message) if about_network else Refused(message)
