"""Wraps every RPC of the server: our errors become gRPC statuses, foreign ones are logged and never shown."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Any, TypeAlias

import grpc
import grpc.aio
import structlog

from common.errors import SampanError, code_of

# Only the type stubs of grpc know parameters, so the aliases are text at run time.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Guard: TypeAlias = "Callable[[Context], AbstractAsyncContextManager[None]]"
# None: the server has no such RPC.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"

log = structlog.get_logger()


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Put it first, so that the errors of other interceptors are told as well."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method

        @asynccontextmanager
        async def guard(context: Context) -> AsyncIterator[None]:
            try:
                yield
            except SampanError as error:
                await context.abort(code_of(error), str(error))
            except (grpc.aio.AbortError, grpc.aio.InternalError):
                # The second: the caller has gone, and there is nobody to tell; gRPC knows that.
                raise
            except Exception as error:  # the boundary: the text of a foreign error is not for clients
                log.exception("rpc.failed", method=method, cause=type(error).__name__)
                await context.abort(grpc.StatusCode.INTERNAL, "internal error in the master: its log says more")

        return around(handler, guard)


def around(handler: Handler, guard: Guard) -> Handler:
    """The same RPC with `guard` held from before its first to after its last step; None stays None (no such RPC)."""
    if handler is None:
        return None
    inner: Any = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream

    async def single(request: Any, context: Context) -> Any:
        async with guard(context):
            return await inner(request, context)

    async def many(request: Any, context: Context) -> AsyncIterator[Any]:
        async with guard(context):
            result = inner(request, context)
            if not hasattr(result, "__aiter__"):
                # A handler that writes to the context itself.
                await result
                return
            async with aclosing(result) if hasattr(result, "aclose") else contextlib.nullcontext():
                async for answer in result:
                    yield answer

    make: Any = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[handler.request_streaming, handler.response_streaming]
    wrapped: grpc.RpcMethodHandler[Any, Any] = make(
        many if handler.response_streaming else single,
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )
    return wrapped
