"""One world of network namespaces for all tests of the kernel's data plane, and a plane that leaves nothing in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from proxy.nft import NftPlane
from tests.proxy.nft.world import World, world


@pytest.fixture(scope="session")
def shared_world() -> Iterator[World]:
    with world() as made:
        yield made


@pytest.fixture
async def plane(shared_world: World) -> AsyncIterator[NftPlane]:
    made = NftPlane(shared_world.kernel)
    yield made
    await made.flush()
