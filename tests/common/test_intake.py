"""The buffer that all connections of a thread read into, over real sockets."""

from __future__ import annotations

import asyncio
import socket
import threading

from common.intake import READ_BYTES, Intake
from common.tasks import Tasks


class Kept(Intake):
    def __init__(self) -> None:
        super().__init__()
        self.all = bytearray()
        self.reads: list[int] = []
        self.over = asyncio.get_running_loop().create_future()

    def took(self, data: bytes) -> None:
        self.all += data
        self.reads.append(len(data))

    def connection_lost(self, error: Exception | None) -> None:
        self.over.set_result(None)


async def _carried(sent: list[bytes]) -> list[Kept]:
    """What protocols of this loop have kept of what was sent to each, all at the same time."""
    loop = asyncio.get_running_loop()
    kept: list[Kept] = []
    writers = Tasks("writers")
    for data in sent:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        _, protocol = await loop.create_connection(Kept, sock=ours)
        kept.append(protocol)

        async def send(sock: socket.socket = theirs, data: bytes = data) -> None:
            await loop.sock_sendall(sock, data)
            sock.close()

        writers.start("send", send())
    async with asyncio.timeout(60):
        for one in kept:
            await one.over
    await writers.close()
    return kept


async def test_every_connection_keeps_its_own_bytes_in_order() -> None:
    sent = [bytes([number]) * (3 * READ_BYTES + 17) + bytes(range(256)) for number in range(8)]
    kept = await _carried(sent)
    assert [bytes(one.all) for one in kept] == sent
    assert all(max(one.reads) <= READ_BYTES for one in kept)


async def test_two_event_loops_in_two_threads_do_not_share_it() -> None:
    found: dict[int, bool] = {}

    def run(number: int) -> None:
        sent = [bytes([number]) * 4_000_000] * 2
        found[number] = [bytes(one.all) for one in asyncio.run(_carried(sent))] == sent

    threads = [threading.Thread(target=run, args=(number,)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join, 60)
    assert found == {1: True, 2: True}
