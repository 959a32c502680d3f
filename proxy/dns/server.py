"""The sockets of the DNS server: UDP and TCP at the cluster's DNS address, bounded in every way."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections import Counter
from collections.abc import Callable

from common.tasks import Tasks
from proxy.dns.forward import read_exactly
from proxy.dns.responder import Pending, Responder, overloaded
from proxy.logs import EventLog

log = EventLog("proxy.dns")

# Datagrams taken in one turn; then others get theirs.
DATAGRAMS_PER_TURN = 64
UDP_BUFFER = 1 << 20
# Such turns at the end, when the place is given up.
LAST_TURNS = 64
# UDP queries that wait for an answer from elsewhere.
MOST_WAITING = 1024
# TCP connections, in all and of one client; seconds to bring a query, to take an answer, or to bring the next one.
MOST_CONNECTIONS, MOST_OF_CLIENT = 256, 32
TCP_SECONDS = 5.0
BACKLOG = 128
ACCEPT_PAUSE = 0.1
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Server:
    """Listens on one place, UDP and TCP, from its making on. OSError when it cannot."""

    def __init__(
        self, place: tuple[str, int], responder: Callable[[], Responder], *, tcp_seconds: float = TCP_SECONDS
    ) -> None:
        self.place = place
        self._responder = responder
        self._tcp_seconds = tcp_seconds
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks("dns")
        self._waiting = 0
        self._clients: Counter[str] = Counter()
        self._udp = _bound(socket.SOCK_DGRAM, place)
        try:
            self._tcp = _bound(socket.SOCK_STREAM, (place[0], self._udp.getsockname()[1]))
            self._tcp.listen(BACKLOG)
        except OSError:
            self._udp.close()
            raise
        self.place = (place[0], self._udp.getsockname()[1])
        self._loop.add_reader(self._udp, self._datagrams)
        self._accepting = self._tasks.start("accept", self._accept())
        self._listening = True

    def stop_listening(self) -> None:
        """Frees the place at once; what has been asked is still answered where that is possible."""
        if self._listening:
            self._loop.remove_reader(self._udp)
            self._accepting.cancel()
            # What waits here is lost to whoever takes the place.
            for _ in range(LAST_TURNS):
                if not self._datagrams():
                    break
            self._listening = False
            self._udp.close()
            self._take_waiting()
            self._tcp.close()

    async def close(self) -> None:
        """Ends everything."""
        self.stop_listening()
        await self._tasks.close()

    # UDP

    def _datagrams(self) -> bool:
        """Answers what waits; False when nothing is left."""
        for _ in range(DATAGRAMS_PER_TURN):
            try:
                data, client = self._udp.recvfrom(65535)
            except (BlockingIOError, InterruptedError):
                return False
            except OSError:
                continue  # what ICMP had to say about an earlier answer
            try:
                self._datagram(data, client)
            except Exception as error:  # the boundary: one query's fault must not stop the answering
                log.error("dns.query_failed", exc_info=error, client=client[0])
        return True

    def _datagram(self, data: bytes, client: tuple[str, int]) -> None:
        if not client[1]:
            return
        answer = self._responder().respond(data, udp=True)
        if isinstance(answer, tuple):
            if self._waiting >= MOST_WAITING:
                _discard(answer)
                self._send(overloaded(data), client)
                return
            self._waiting += 1
            self._tasks.start("query", self._finish(answer, client))
            return
        self._send(answer, client)

    async def _finish(self, pending: Pending, client: tuple[str, int]) -> None:
        try:
            waited, finish = pending
            self._send(finish(await waited), client)
        finally:
            self._waiting -= 1

    def _send(self, answer: bytes | None, client: tuple[str, int]) -> None:
        if answer is None or not self._listening:
            return
        try:
            self._udp.sendto(answer, client)
        except OSError:
            # A full buffer, a client that is gone: it asks again.
            pass

    # TCP

    async def _accept(self) -> None:
        while True:
            try:
                client, address = await self._loop.sock_accept(self._tcp)
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    log.warning("dns.out_of_descriptors", error=error.strerror)
                await asyncio.sleep(ACCEPT_PAUSE)
                continue
            self._take(client, str(address[0]))

    def _take_waiting(self) -> None:
        for _ in range(BACKLOG):
            try:
                client, address = self._tcp.accept()
            except OSError:
                return
            client.setblocking(False)
            self._take(client, str(address[0]))

    def _take(self, client: socket.socket, host: str) -> None:
        if self._clients.total() >= MOST_CONNECTIONS or self._clients[host] >= MOST_OF_CLIENT:
            client.close()
            return
        self._clients[host] += 1
        self._tasks.start("connection", self._converse(client, host))

    async def _converse(self, client: socket.socket, host: str) -> None:
        try:
            while True:
                async with asyncio.timeout(self._tcp_seconds):
                    (size,) = struct.unpack("!H", await read_exactly(client, 2))
                    query = await read_exactly(client, size)
                answer = self._responder().respond(query, udp=False)
                if isinstance(answer, tuple):
                    waited, finish = answer
                    answer = finish(await waited)
                if answer is None:
                    return
                async with asyncio.timeout(self._tcp_seconds):
                    await self._loop.sock_sendall(client, struct.pack("!H", len(answer)) + answer)
        except (OSError, EOFError, TimeoutError):
            pass
        except Exception as error:  # the boundary: as for datagrams
            log.error("dns.query_failed", exc_info=error, client=host)
        finally:
            client.close()
            self._clients[host] -= 1
            if not self._clients[host]:
                del self._clients[host]


def _bound(kind: int, place: tuple[str, int]) -> socket.socket:
    sock = socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK)
    try:
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UDP_BUFFER)
        # A proxy that takes over listens before the old one has stopped.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(place)
    except OSError:
        sock.close()
        raise
    return sock


def _discard(pending: Pending) -> None:
    """Closes the coroutine that nobody will await."""
    waited, _ = pending
    close = getattr(waited, "close", None)
    if close is not None:
        close()
