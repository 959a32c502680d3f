"""Groups of listening sockets: one client's connections all in one, the others spread."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
from collections.abc import Sequence

from proxy.plan import Place
from proxy.sockets import Sockets
from tests.proxy.support import own_address


def waiting(socks: Sequence[socket.socket]) -> list[int]:
    """Which of them have something to take; it is taken."""
    found = []
    for index, sock in enumerate(socks):
        while select.select([sock], [], [], 0)[0]:
            if sock.type == socket.SOCK_DGRAM:
                sock.recvfrom(100)
            else:
                sock.accept()[0].close()
            found.append(index)
    return found


async def test_affinity_steers_a_client_to_one_socket_and_clients_to_all() -> None:
    sockets = Sockets(asyncio.get_running_loop(), count=3)
    place, datagrams = Place(own_address(), 80), Place(own_address(), 53, "UDP")
    sockets.want({place: True, datagrams: True}, [])
    assert not sockets.errors
    seen = set()
    for client in range(1, 10):
        with contextlib.ExitStack() as stack:
            for _ in range(6):
                sock = stack.enter_context(socket.socket())
                sock.bind((f"127.1.1.{client}", 0))
                sock.connect(place[:2])
                question = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                question.bind((f"127.1.1.{client}", 0))
                question.sendto(b"?", datagrams[:2])
            streams, asked = waiting(sockets.open[place]), waiting(sockets.open[datagrams])
            assert len(streams) == len(asked) == 6
            assert len(set(streams)) == 1 and set(streams) == set(asked)
            seen.add(streams[0])
    assert seen == {0, 1, 2}
    sockets.close()


async def test_without_affinity_connections_spread() -> None:
    sockets = Sockets(asyncio.get_running_loop(), count=2)
    place = Place(own_address(), 80)
    sockets.want({place: False}, [])
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(socket.create_connection(place[:2]))
        found = waiting(sockets.open[place])
    assert len(found) == 40 and min(found.count(0), found.count(1)) >= 6
    sockets.close()


async def test_descriptors_are_left_for_connections() -> None:
    sockets = Sockets(asyncio.get_running_loop(), count=2)
    sockets._many = 1
    first, second = Place(own_address(), 80), Place(own_address(), 80)
    sockets.want({first: False}, [])
    sockets.want({second: False}, [])
    assert [len(sockets.open[place]) for place in (first, second)] == [2, 1]
    sockets.close()


async def test_inherited_sockets_are_used_and_the_rest_closed() -> None:
    loop = asyncio.get_running_loop()
    before, after = Sockets(loop, count=1), Sockets(loop, count=2)
    place, gone = Place(own_address(), 80), Place(own_address(), 81)
    before.want({place: False, gone: False}, [])
    for held in (place, gone):
        after.inherit(held, before.open[held][0].dup())
    client = socket.create_connection(place[:2])
    after.want({place: False}, [])
    after.disown()
    before.close()
    assert waiting(after.open[place]) == [0], "who waited in the backlog is there still"
    client.close()
    after.close()
