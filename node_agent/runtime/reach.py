"""The pods' ports from the node's own network namespace: HTTP(S), TCP and gRPC health, without retries."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator

from node_agent.runtime.stdio import HttpAnswer, HttpRequest, ReachError

# The head of an answer is not read further than this.
_HEAD_BYTES = 64 * 1024
_SERVING = 1


class NodeReach:
    """Implements `Reach` with this process's own sockets."""

    async def tcp(self, host: str, port: int) -> None:
        async with _dialled(host, port):
            return

    async def http(self, request: HttpRequest) -> HttpAnswer:
        tls = _unverified() if request.tls else None
        async with _dialled(request.host, request.port, tls) as (reader, writer):
            writer.write(request_head(request))
            try:
                await writer.drain()
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    answer = read_head(head)
                    # 1xx: the real answer follows. 101 would be another protocol, which nobody asked for.
                    if answer.status >= 200 or answer.status == 101:
                        return answer
            except asyncio.IncompleteReadError:
                raise ReachError("EOF") from None
            except asyncio.LimitOverrunError:
                raise ReachError(f"the head of the answer is longer than {_HEAD_BYTES} bytes") from None
            except OSError as error:
                raise ReachError(f"read: {_words(error)}") from None

    async def grpc(self, host: str, port: int, service: str) -> None:
        # Not at the top: an agent without such probes need not load it.
        import grpc
        from grpc_health.v1 import health_pb2, health_pb2_grpc

        options = [
            ("grpc.enable_http_proxy", 0),
            # A shared connection would answer for the container before this one.
            ("grpc.use_local_subchannel_pool", 1),
        ]
        async with grpc.aio.insecure_channel(f"{host}:{port}", options=options) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            try:
                answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
            except grpc.aio.AioRpcError as error:
                raise ReachError(_grpc_words(error, f"{host}:{port}")) from None
        if answer.status != _SERVING:
            name = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
            raise ReachError(f'service unhealthy (responded with "{name}")')


def _grpc_words(error: object, address: str) -> str:
    import grpc

    assert isinstance(error, grpc.aio.AioRpcError)
    code, details = error.code(), error.details()
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return f"this server does not implement the grpc health protocol (grpc.health.v1.Health): {details}"
    if code is grpc.StatusCode.UNAVAILABLE:
        return f'failed to connect service "{address}": {details}'
    return f"health rpc failed: {code.name}: {details}"


def request_head(request: HttpRequest) -> bytes:
    """The bytes of a request; a Host header among `headers` replaces the address; pure."""
    usual_port = request.port == (443 if request.tls else 80)
    given = {name.lower() for name, _ in request.headers}
    lines = [f"GET {request.path} HTTP/1.1"]
    if "host" not in given:
        lines.append(f"Host: {request.host}" + ("" if usual_port else f":{request.port}"))
    lines += [f"{name}: {value}" for name, value in request.headers]
    lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def read_head(head: bytes) -> HttpAnswer:
    """Status and Location of the head of an answer. Raises ReachError for what is not HTTP; pure."""
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/") or len(words[1]) != 3 or not words[1].isdigit():
        raise ReachError(f"malformed HTTP response {lines[0][:80]!r}")
    location = ""
    for line in lines[1:]:
        name, _, value = line.partition(":")
        if name.lower() == "location":
            location = value.strip()
    return HttpAnswer(int(words[1]), location)


@contextlib.asynccontextmanager
async def _dialled(
    host: str, port: int, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    try:
        reader, writer = await asyncio.open_connection(host, port, ssl=tls, limit=_HEAD_BYTES)
    except (OSError, ValueError, UnicodeError) as error:
        raise ReachError(f"dial tcp {host}:{port}: {_words(error)}") from None
    try:
        yield reader, writer
    finally:
        # Aborted, not closed: the node is not to keep the end of every probe for a minute.
        writer.transport.abort()


def _words(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connect: connection refused"
    if isinstance(error, ssl.SSLError):
        return f"tls: {error.reason or error}"
    if isinstance(error, socket.gaierror):
        return f"lookup: {(error.strerror or str(error)).lower()}"
    if isinstance(error, OSError) and error.errno:
        return f"connect: {os.strerror(error.errno).lower()}"
    return str(error) or type(error).__name__


def _unverified() -> ssl.SSLContext:
    """As a kubelet does: a pod's certificate is its own affair."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
