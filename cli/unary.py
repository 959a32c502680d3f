"""One gRPC call, one message each way, on a blocking socket: most verbs need no more, and gRPC's library loads slowly.

The library costs a command some 130 ms of processor time before anything is sent. Streams (watch, logs, exec) use it.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping

from common.errors import STATUSES
from common.grpcwire import Message, Status, Wire, WireError

CONNECT_SECONDS = 3.0
"""A master that is not there is told within this time."""
# As long may a master that thinks say nothing; then it is asked, and has as long again for a sign of life.
_SILENCE_SECONDS = 5.0
# What may be under way to this end: a page of a list in one piece.
_WINDOW_BYTES = 4 * 1024 * 1024
_READ_BYTES = 256 * 1024


class CallFailed(Exception):
    """The call did not end well; `code` is the name of gRPC's status code."""

    def __init__(self, code: str, details: str) -> None:
        self.code, self.details = code, details
        super().__init__(f"{code}: {details}")


def call(
    address: str, path: str, request: bytes, *, headers: Mapping[str, str], timeout: float | None, most: int
) -> bytes:
    """The answer to one request at HOST:PORT.

    `timeout` is of the whole, in seconds (None: as long as the master lives), `most` the largest answer in bytes.
    Raises CallFailed.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    wire = Wire(serves=False, most=most, window=_WINDOW_BYTES)
    if timeout is not None:
        # The master is to stop, too; in milliseconds of at most 8 digits, as gRPC has them.
        headers = {**headers, "grpc-timeout": f"{min(int(timeout * 1000) + 1, 99_999_999)}m"}
    wire.request(path, address, headers)
    wire.send(Message(request))
    wire.finish()
    with _dial(address, deadline) as connection:
        try:
            return _exchange(connection, wire, deadline)
        except WireError as error:
            raise CallFailed("UNIMPLEMENTED", str(error)) from error
        except OSError as error:
            raise CallFailed("UNAVAILABLE", f"Socket closed: {error}") from error


def _dial(address: str, deadline: float | None) -> socket.socket:
    host, _, port = address.rpartition(":")
    limit = _wait(CONNECT_SECONDS, deadline)
    try:
        connection = socket.create_connection((host.strip("[]"), int(port)), timeout=limit)
    except socket.gaierror as error:
        raise CallFailed("UNAVAILABLE", f"resolving {host}: {error.strerror}") from error
    except (OSError, UnicodeError) as error:
        _wait(0, deadline)
        raise CallFailed("UNAVAILABLE", f"failed to connect: {error}") from error
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _exchange(connection: socket.socket, wire: Wire, deadline: float | None) -> bytes:
    answers: list[bytes] = []
    heard = asked = False
    while True:
        # After each piece the wire may go on with what it holds: there is room for more, or an answer to give.
        while out := wire.take():
            connection.settimeout(_wait(_SILENCE_SECONDS, deadline))
            connection.sendall(out)
        # A master greets before it knows what is asked.
        connection.settimeout(_wait(_SILENCE_SECONDS if heard else CONNECT_SECONDS, deadline))
        try:
            data = connection.recv(_READ_BYTES)
        except TimeoutError as error:
            _wait(0, deadline)
            if asked or not heard:
                raise CallFailed("UNAVAILABLE", "failed to connect: timed out") from error
            asked = True
            wire.ping()
            continue
        if not data:
            raise CallFailed("UNAVAILABLE", "Socket closed")
        heard, asked = True, False
        answers += wire.receive(data)
        if wire.ended is not None:
            return _answer(wire.ended, answers)


def _answer(ended: Status, answers: list[bytes]) -> bytes:
    if ended.code:
        known = STATUSES[ended.code] if ended.code < len(STATUSES) else "UNKNOWN"
        raise CallFailed(known, ended.message)
    if len(answers) != 1:
        raise CallFailed("UNIMPLEMENTED", f"one message was to come, there came {len(answers)}")
    return answers[0]


def _wait(most: float, deadline: float | None) -> float:
    """How long to wait at most; raises CallFailed at the deadline."""
    if deadline is None:
        return most
    left = deadline - time.monotonic()
    if left <= 0:
        raise CallFailed("DEADLINE_EXCEEDED", "")
    return min(most, left)
