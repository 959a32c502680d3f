"""One call on a blocking socket, against gRPC's own server and against ends that misbehave."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager

import grpc
import pytest

from cli import unary

PATH = "/test.Service/Method"
MOST = 64 * 1024 * 1024

Behave = Callable[[bytes, grpc.ServicerContext], bytes]


@contextmanager
def serving(behave: Behave) -> Iterator[str]:
    """gRPC's server with one method, as bytes; its address."""
    method: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(behave)
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.server(futures.ThreadPoolExecutor(2), options=options)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", {"Method": method}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


@contextmanager
def listening(answer: Callable[[socket.socket], object]) -> Iterator[str]:
    """Somebody who is no gRPC server; takes one connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def take() -> None:
            connection, _ = server.accept()
            with connection:
                answer(connection)

        thread = threading.Thread(target=take)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            thread.join()


def call(address: str, request: bytes = b"hello", *, timeout: float | None = 60, token: str = "") -> bytes:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return unary.call(address, PATH, request, headers=headers, timeout=timeout, most=MOST)


@pytest.mark.parametrize("size", [0, 1, 16_379, 16_380, 70_000, 3_000_000])
def test_a_message_of_any_size_goes_and_comes(size: int) -> None:
    with serving(lambda request, _: request[::-1]) as address:
        assert call(address, b"ab" * (size // 2) + b"c" * (size % 2)) == b"c" * (size % 2) + b"ba" * (size // 2)


@pytest.mark.parametrize("length", [10, 126, 127, 128, 300, 5000])
def test_the_token_travels_whole(length: int) -> None:
    with serving(lambda _, context: str(dict(context.invocation_metadata())["authorization"]).encode()) as address:
        assert call(address, token="t" * length) == b"Bearer " + b"t" * length


def test_how_long_is_left_is_told() -> None:
    with serving(lambda _, context: str(context.time_remaining()).encode()) as address:
        assert 0 < float(call(address, timeout=1000)) <= 1001


def test_a_status_comes_with_its_words() -> None:
    def behave(request: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(grpc.StatusCode.NOT_FOUND, 'pods "wéb" not found; 100 %')

    with serving(behave) as address, pytest.raises(unary.CallFailed) as failed:
        call(address)
    assert (failed.value.code, failed.value.details) == ("NOT_FOUND", 'pods "wéb" not found; 100 %')


def test_a_method_that_is_not_there() -> None:
    with serving(lambda request, _: request) as address, pytest.raises(unary.CallFailed) as failed:
        unary.call(address, "/test.Service/Other", b"", headers={}, timeout=60, most=MOST)
    assert failed.value.code == "UNIMPLEMENTED"


def test_the_deadline_ends_the_call() -> None:
    let_go = threading.Event()

    def behave(request: bytes, context: grpc.ServicerContext) -> bytes:
        let_go.wait(60)
        return b""

    with serving(behave) as address:
        try:
            with pytest.raises(unary.CallFailed) as failed:
                call(address, timeout=0.3)
            assert failed.value.code == "DEADLINE_EXCEEDED"
        finally:
            let_go.set()


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(unary.CallFailed, match=r"failed to connect: .*refused"):
        call(f"127.0.0.1:{port}")


def test_a_name_that_nobody_has() -> None:
    with pytest.raises(unary.CallFailed, match="resolving") as failed:
        call("name.invalid:1")
    assert failed.value.code == "UNAVAILABLE"


def test_what_speaks_something_else_is_not_a_master() -> None:
    def old(peer: socket.socket) -> None:
        peer.recv(10)
        peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 3)

    with listening(old) as address, pytest.raises(unary.CallFailed) as failed:
        call(address)
    assert failed.value.code in ("UNIMPLEMENTED", "UNAVAILABLE")


def test_a_connection_that_breaks_is_told_at_once() -> None:
    with listening(lambda peer: peer.recv(10)) as address, pytest.raises(unary.CallFailed) as failed:
        call(address)
    assert failed.value.code == "UNAVAILABLE" and "Socket closed" in failed.value.details


def test_a_master_that_hangs_after_its_greeting_is_asked_and_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unary, "_SILENCE_SECONDS", 0.2)
    heard = bytearray()

    def hang(peer: socket.socket) -> None:
        # Settings, and then no more.
        peer.sendall(b"\0\0\0\4\0\0\0\0\0")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and (data := peer.recv(4096)):
            heard.extend(data)

    with listening(hang) as address, pytest.raises(unary.CallFailed) as failed:
        call(address, timeout=None)
    assert failed.value.code == "UNAVAILABLE" and "timed out" in failed.value.details
    assert b"\0\0\10\6\0\0\0\0\0" + bytes(8) in heard, "it was pinged"
