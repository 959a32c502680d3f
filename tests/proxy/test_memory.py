"""What an idle connection costs in Python's heap."""

from __future__ import annotations

import gc
import tracemalloc

from proxy.server import Proxy
from tests.proxy.support import Endpoints, connect, own_address, reset, route, table, until

CONNECTIONS = 400
# Budget: 2 KB beyond the sockets; the two socket objects (and nothing of the test's own) are in this figure.
HEAP_BYTES = 2048


async def test_an_idle_connection_costs_little_heap(proxy: Proxy, endpoints: Endpoints) -> None:
    place = (own_address(), 80)
    proxy.apply(table(route(*place, endpoints.places[:1])))
    held = [await connect(place) for _ in range(20)]
    await until(lambda: len(proxy._context.open) == 20, "connected")
    gc.collect()
    tracemalloc.start()
    try:
        held += [await connect(place) for _ in range(CONNECTIONS)]
        await until(lambda: len(proxy._context.open) == 20 + CONNECTIONS, "connected", timeout=60)
        gc.collect()
        ours = tracemalloc.take_snapshot().filter_traces((tracemalloc.Filter(True, "*/proxy/*", all_frames=False),))
        ours = ours.filter_traces((tracemalloc.Filter(False, "*/tests/*"),))
        each = sum(trace.size for trace in ours.traces) / CONNECTIONS
    finally:
        tracemalloc.stop()
    for sock in held:
        reset(sock)
    await until(lambda: not proxy.busy, "all are gone")
    print(f"{each:.0f} bytes of heap for each idle connection")
    assert each <= HEAP_BYTES
