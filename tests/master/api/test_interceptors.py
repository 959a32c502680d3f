"""Every shape of RPC, wrapped: answers pass, our errors become statuses, foreign ones are hidden, nobody leaks."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
import structlog.testing

from common.errors import Conflict
from common.rpc import SERVER_OPTIONS, open_channel
from master.api.interceptors import ErrorInterceptor

FAILURES: dict[bytes, Exception] = {b"ours": Conflict("read it again"), b"foreign": RuntimeError("a private matter")}


class Shapes:
    """Four RPCs that answer what they are sent, or fail when told."""

    def __init__(self) -> None:
        self.open = 0

    async def one(self, request: bytes, context: Any) -> bytes:
        if request in FAILURES:
            raise FAILURES[request]
        return request

    async def one_many(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        self.open += 1
        try:
            yield b"first"
            yield await self.one(request, context)
        finally:
            self.open -= 1

    async def many_one(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        return b"".join([await self.one(request, context) async for request in requests])

    async def many_many(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield await self.one(request, context)

    async def writes(self, request: bytes, context: Any) -> None:
        await context.write(await self.one(request, context))


@contextlib.asynccontextmanager
async def serving(shapes: Shapes) -> AsyncIterator[grpc.aio.Channel]:
    server = grpc.aio.server(interceptors=[ErrorInterceptor()], options=SERVER_OPTIONS)
    handlers: dict[str, Any] = {
        "One": grpc.unary_unary_rpc_method_handler(shapes.one),
        "OneMany": grpc.unary_stream_rpc_method_handler(shapes.one_many),
        "ManyOne": grpc.stream_unary_rpc_method_handler(shapes.many_one),
        "ManyMany": grpc.stream_stream_rpc_method_handler(shapes.many_many),
        "Writes": grpc.unary_stream_rpc_method_handler(shapes.writes),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.Shapes", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with open_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(1)


async def call(channel: Any, shape: str, request: bytes) -> list[bytes]:
    path = f"/t.Shapes/{shape}"
    many = iter([request])
    match shape:
        case "One":
            return [await channel.unary_unary(path)(request)]
        case "ManyOne":
            return [await channel.stream_unary(path)(many)]
        case "ManyMany":
            return [answer async for answer in channel.stream_stream(path)(many)]
    return [answer async for answer in channel.unary_stream(path)(request)]


@pytest.mark.parametrize("shape", ["One", "OneMany", "ManyOne", "ManyMany", "Writes"])
async def test_every_shape(shape: str) -> None:
    shapes = Shapes()
    async with serving(shapes) as channel:
        assert (await call(channel, shape, b"hello"))[-1] == b"hello"
        with pytest.raises(grpc.aio.AioRpcError) as ours:
            await call(channel, shape, b"ours")
        assert (ours.value.code(), ours.value.details()) == (grpc.StatusCode.ABORTED, "read it again")
        with pytest.raises(grpc.aio.AioRpcError) as foreign:
            await call(channel, shape, b"foreign")
        assert foreign.value.code() is grpc.StatusCode.INTERNAL
        assert "private" not in str(foreign.value.details())
    assert shapes.open == 0


async def test_a_caller_that_has_gone_is_no_fault_of_ours() -> None:
    """What gRPC raises where a status can be told to nobody goes back to gRPC, which knows; no log, no second try."""

    async def too_late(request: bytes, context: Any) -> bytes:
        raise grpc.aio.InternalError("the call is over")

    async def continuation(details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(too_late)

    class Details:
        method = "/t.Shapes/One"

    wrapped: Any = await ErrorInterceptor().intercept_service(continuation, Details())  # type: ignore[arg-type]
    with structlog.testing.capture_logs() as told, pytest.raises(grpc.aio.InternalError):
        await wrapped.unary_unary(b"", object())
    assert not told


async def test_an_rpc_nobody_serves() -> None:
    async with serving(Shapes()) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel, "None", b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
