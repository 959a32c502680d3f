"""A proxy in the test's loop, closed after it, with nothing left open."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from proxy.server import Proxy
from tests.proxy.support import Endpoints, Pair, connect, own_address, route, table


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    before = len(os.listdir("/proc/self/fd"))
    made = Proxy(half_close_idle=60)
    yield made
    made.close()
    assert not made.status()["counters"]["open"]
    # Endpoints and clients of the test may still be open; the proxy's own must not add up.
    assert len(os.listdir("/proc/self/fd")) - before < 40


@pytest.fixture
def endpoints() -> Iterator[Endpoints]:
    made = Endpoints(3)
    yield made
    made.close()


@pytest.fixture
def pair(proxy: Proxy, endpoints: Endpoints) -> Callable[[], Awaitable[Pair]]:
    """Connects a client through the proxy to an accepted endpoint socket."""
    place = (own_address(), 80)
    proxy.apply(table(route(*place, endpoints.places[:1])))

    async def make() -> Pair:
        client = await connect(place)
        return client, await endpoints.accept()

    return make
