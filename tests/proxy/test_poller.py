"""The nested epoll: changes told once, faults contained, and no event for a descriptor's new owner."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator

import pytest

from proxy.poller import IN, OUT, Poller
from tests.proxy.support import until


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    made = [sock for _ in range(2) for sock in socket.socketpair()]
    for sock in made:
        sock.setblocking(False)
    yield made
    for sock in made:
        sock.close()


@pytest.fixture
async def poller() -> Poller:
    return Poller(asyncio.get_running_loop())


async def test_each_change_is_told_once(poller: Poller, sockets: list[socket.socket]) -> None:
    near, far, *_ = sockets
    masks: list[int] = []
    poller.watch(near, masks.append)
    await until(lambda: masks == [OUT], "writable from the start")
    far.send(b"x")
    await until(lambda: len(masks) == 2, "readable")
    assert masks[1] & IN
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(masks) == 2, "what was not read is not told again"
    poller.close(near)
    poller.shut()


async def test_a_handlers_fault_is_logged_and_stays_its_own(
    poller: Poller, sockets: list[socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    first, second = sockets[0], sockets[2]
    heard: list[int] = []

    def fails(mask: int) -> None:
        raise RuntimeError("broken")

    with caplog.at_level(logging.ERROR):
        poller.watch(first, fails)
        poller.watch(second, heard.append)
        await until(lambda: bool(heard), "the other handler runs")
    assert "poller.handler_failed" in caplog.text and "broken" in caplog.text
    poller.shut()


async def test_a_socket_closed_in_a_round_gives_its_number_away_only_after_it(
    poller: Poller, sockets: list[socket.socket]
) -> None:
    """Two sockets are ready in one round; the first closes the second and opens a new one."""
    first, second = sockets[0], sockets[2]
    number = second.fileno()
    told: list[str] = []
    fresh: list[socket.socket] = []

    def closes(mask: int) -> None:
        if not fresh:
            poller.close(second)
            fresh.append(socket.socket())
            assert fresh[0].fileno() != number
            told.append("first")

    poller.watch(first, closes)
    poller.watch(second, lambda mask: told.append("second"))
    await until(lambda: "first" in told, "the round ran")
    assert told == ["first"]
    assert second.fileno() == -1, "closed when the round is over"
    fresh[0].close()
    poller.shut()
