"""Ports as the node sees them, against real servers on the loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from node_agent.runtime.reach import NodeReach, read_head, request_head
from node_agent.runtime.stdio import HttpAnswer, HttpRequest, ReachError

LOOPBACK = "127.0.0.1"


@contextlib.asynccontextmanager
async def server(answer: bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Answers every request with these bytes and keeps the connection open; its port and the heads it read."""
    heads: list[bytes] = []
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answer)
            if not answer:
                writer.close()
            await reader.read()
        writer.close()

    listening = await asyncio.start_server(serve, LOOPBACK, 0, ssl=tls)
    try:
        yield listening.sockets[0].getsockname()[1], heads
    finally:
        listening.close()
        for writer in writers:
            writer.transport.abort()
        await listening.wait_closed()


@pytest.fixture
def nobody() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as held:
        held.bind((LOOPBACK, 0))
        return int(held.getsockname()[1])


async def test_http_needs_the_head_only() -> None:
    body = b"HTTP/1.1 204 No Content\r\nX-A: b\r\nContent-Length: 100000\r\n\r\nsome of it"
    async with server(b"HTTP/1.1 100 Continue\r\n\r\n" + body) as (port, heads):
        headers = (("X-Probe", "yes"), ("host", "web.example"))
        request = HttpRequest(False, LOOPBACK, port, "/health?full=1", headers)
        async with asyncio.timeout(30):
            assert await NodeReach().http(request) == HttpAnswer(204)
        lines = heads[0].decode().split("\r\n")
        assert lines[0] == "GET /health?full=1 HTTP/1.1"
        assert {"X-Probe: yes", "host: web.example", "Connection: close"} <= set(lines)
        assert not any(line.startswith("Host:") for line in lines)


@pytest.fixture
def certified(tmp_path: Path) -> ssl.SSLContext:
    """A server's side with a certificate nobody trusts, for a name nobody asks for."""
    key, certificate = tmp_path / "key", tmp_path / "cert"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=elsewhere",
         "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


async def test_https_takes_any_certificate(certified: ssl.SSLContext) -> None:
    async with server(b"HTTP/1.0 302 Found\r\nLocation: /there\r\n\r\n", certified) as (port, _):
        assert await NodeReach().http(HttpRequest(True, LOOPBACK, port)) == HttpAnswer(302, "/there")


@pytest.mark.parametrize(
    ("answer", "words"),
    [(b"", "EOF"), (b"SSH-2.0-X\r\n\r\n", "malformed HTTP response 'SSH-2.0-X'"), (b"x" * 70_000, "longer")],
)
async def test_what_is_not_http(answer: bytes, words: str) -> None:
    async with server(answer) as (port, _):
        with pytest.raises(ReachError, match=words):
            await NodeReach().http(HttpRequest(False, LOOPBACK, port))


async def test_nobody_there(nobody: int) -> None:
    refused = f"dial tcp {LOOPBACK}:{nobody}: connect: connection refused"
    with pytest.raises(ReachError, match=refused):
        await NodeReach().tcp(LOOPBACK, nobody)
    with pytest.raises(ReachError, match=refused):
        await NodeReach().http(HttpRequest(False, LOOPBACK, nobody))
    with pytest.raises(ReachError, match=f'failed to connect service "{LOOPBACK}:{nobody}"'):
        await NodeReach().grpc(LOOPBACK, nobody, "")


async def test_tcp_needs_a_listener_only() -> None:
    async with server(b"") as (port, heads):
        await NodeReach().tcp(LOOPBACK, port)
        assert heads == []


async def test_grpc_health() -> None:
    servicer = health_aio.HealthServicer()
    serving = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, serving)
    port = serving.add_insecure_port(f"{LOOPBACK}:0")
    await serving.start()
    try:
        await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
        await servicer.set("db", health_pb2.HealthCheckResponse.NOT_SERVING)
        await NodeReach().grpc(LOOPBACK, port, "")
        with pytest.raises(ReachError, match=r'service unhealthy \(responded with "NOT_SERVING"\)'):
            await NodeReach().grpc(LOOPBACK, port, "db")
        with pytest.raises(ReachError, match="NOT_FOUND"):
            await NodeReach().grpc(LOOPBACK, port, "cache")
    finally:
        await serving.stop(0)


async def test_grpc_without_health() -> None:
    serving = grpc.aio.server()
    port = serving.add_insecure_port(f"{LOOPBACK}:0")
    await serving.start()
    try:
        with pytest.raises(ReachError, match="does not implement the grpc health protocol"):
            await NodeReach().grpc(LOOPBACK, port, "")
    finally:
        await serving.stop(0)


def test_heads() -> None:
    assert b"Host: pod:8080\r\n" in request_head(HttpRequest(False, "pod", 8080))
    assert b"Host: pod\r\n" in request_head(HttpRequest(True, "pod", 443))
    assert read_head(b"HTTP/1.1 301 \r\nlocation:  /a \r\n\r\n") == HttpAnswer(301, "/a")
    for wrong in (b"HTTP/1.1\r\n\r\n", b"HTTP/1.1 2000 x\r\n\r\n", b"\r\n\r\n"):
        with pytest.raises(ReachError, match="malformed"):
            read_head(wrong)
