"""Local listeners whose connections go to a pod's ports, each over a call of its own."""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import click

from cli.client import Client
from common.errors import BadRequest, SampanError, Unavailable
from protos import control_pb2 as control

_PIECE = 64 * 1024
_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Ports:
    """One LOCAL:REMOTE; `local` 0 is any free port, `remote` a number or a name."""

    local: int
    remote: str


def parse_ports(text: str, number_of: Callable[[str], int]) -> Ports:
    """ "8080:80", "80", ":80", "8080:http", "http"; `number_of` knows the number of a named port. Raises BadRequest."""
    local, colon, remote = text.rpartition(":")
    wrong = BadRequest(f'ports: must be [LOCAL:]REMOTE like 8080:80, 80 or :80, got "{text}"')
    if not remote or (colon and local and not _is_port(local)):
        raise wrong
    if remote.isdigit() and not _is_port(remote):
        raise wrong
    if colon:
        return Ports(int(local) if local else 0, remote)
    return Ports(int(remote) if remote.isdigit() else number_of(remote), remote)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and 0 < int(text) < 65536


def listen(addresses: Sequence[str], ports: Sequence[Ports]) -> list[tuple[socket.socket, Ports]]:
    """A listener for each address and port. Raises Unavailable that says what is in the way."""
    found: list[tuple[socket.socket, Ports]] = []
    with contextlib.ExitStack() as stack:
        for one in ports:
            local = one.local
            for address in addresses:
                host = _LOOPBACK if address == "localhost" else address
                listener = stack.enter_context(contextlib.closing(_listener(host, local, one)))
                # The same free port on every address.
                local = local or listener.getsockname()[1]
                found.append((listener, one))
        stack.pop_all()
    return found


def _listener(host: str, port: int, wanted: Ports) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except (OSError, UnicodeError) as error:
        listener.close()
        place = f"{host}:{port}"
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise Unavailable(
                f"cannot listen on {place}: the port is in use; name another like "
                f"{port + 1 if port < 65535 else 8080}:{wanted.remote}, or :{wanted.remote} for a free one"
            ) from None
        if isinstance(error, PermissionError):
            raise Unavailable(
                f"cannot listen on {place}: ports below 1024 need rights you do not have; "
                f"name another like {8000 + port}:{wanted.remote}"
            ) from None
        words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise Unavailable(f"cannot listen on {place}: {words}; --address takes addresses of this machine") from None
    return listener


def forward(client: Client, namespace: str, target: str, listeners: Sequence[tuple[socket.socket, Ports]]) -> None:
    """Serves connections, until interrupted."""
    with selectors.DefaultSelector() as selector:
        for listener, ports in listeners:
            selector.register(listener, selectors.EVENT_READ, ports)
            host, port = listener.getsockname()[:2]
            click.echo(f"Forwarding from {f'[{host}]' if ':' in host else host}:{port} -> {ports.remote}")
        while True:
            for key, _ in selector.select():
                accepting: Any = key.fileobj
                try:
                    connection, _peer = accepting.accept()
                except OSError:
                    # It has gone again, or there are too many: the next one may do.
                    continue
                start = control.PortForwardStart(namespace=namespace, target=target, port=key.data.remote)
                threading.Thread(target=serve, args=(client, connection, start), daemon=True).start()


def serve(client: Client, connection: socket.socket, start: control.PortForwardStart) -> None:
    """One connection, to the end of both its directions."""

    def up() -> Iterator[control.PortForwardRequest]:
        yield control.PortForwardRequest(start=start)
        # An error is an end, too: who writes to it learns the rest.
        with contextlib.suppress(OSError):
            while piece := connection.recv(_PIECE):
                yield control.PortForwardRequest(data=piece)

    try:
        with contextlib.closing(client.port_forward(up())) as answers:  # type: ignore[type-var]
            for answer in answers:
                if answer.data:
                    connection.sendall(answer.data)
                if answer.eof:
                    connection.shutdown(socket.SHUT_WR)
    except SampanError as error:
        click.echo(f"error: a connection to {start.target} port {start.port}: {error}", err=True)
        # Cut, not closed: the client is not to take it for an answer's end.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        # The client has gone.
        pass
    finally:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RD)
        connection.close()
