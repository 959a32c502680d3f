"""What happens when the kernel refuses: the former state stays, the places are errors, and it is tried again."""

from __future__ import annotations

import asyncio
import errno
import socket

import pytest

from proxy.nft import Kernel, KernelError, NftPlane, skeleton
from proxy.nft.kernel import open_socket
from proxy.nft.wire import Message
from tests.proxy.nft.test_kernel import VIP, asked, service, table
from tests.proxy.nft.world import HERE, THERE, World
from tests.proxy.support import until


class Door:
    """Opens sockets in the world's node, unless it is shut."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.shut = False

    def open(self) -> socket.socket:
        if self.shut:
            raise PermissionError(errno.EPERM, "shut")
        return self._world.node.do(open_socket)


@pytest.mark.root
async def test_a_refused_change_leaves_what_was_and_is_tried_again(shared_world: World) -> None:
    door, changes = Door(shared_world), asyncio.Event()
    plane = NftPlane(Kernel(door.open), changes.set)
    try:
        assert await plane.apply(table(service(HERE[0]))) == []
        door.shut = True
        errors = await plane.apply(table(service(THERE[0])))
        assert [(e.key, e.uid, e.address, e.port) for e in errors] == [("default/web", "uid-default/web", VIP, 80)]
        assert "NET_ADMIN" in errors[0].message
        assert (await asked(shared_world.pods[1], VIP, 80))[0] == HERE[0]
        door.shut = False
        await until(changes.is_set, "the change was tried again", timeout=60)
        assert plane.errors() == []
        assert (await asked(shared_world.pods[1], VIP, 80))[0] == THERE[0]
    finally:
        door.shut = False
        await plane.flush()


@pytest.mark.root
async def test_a_node_without_such_services_needs_no_right(shared_world: World) -> None:
    door = Door(shared_world)
    door.shut = True
    plane = NftPlane(Kernel(door.open))
    assert await plane.apply(table()) == []
    assert await plane.counters() == []
    await plane.close()


@pytest.mark.root
def test_a_transaction_is_done_whole_or_not_at_all(shared_world: World) -> None:
    messages = [skeleton.chain("sampan_none", "c"), Message(6, b"")]
    with pytest.raises(KernelError, match="No such file or directory") as caught:
        shared_world.kernel.commit(messages)
    assert caught.value.number == errno.ENOENT and "chain c" in str(caught.value)
    assert "sampan_none" not in shared_world.node.nft("list", "tables")
