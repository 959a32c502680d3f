"""The proxy's scrape: from a real data plane, from the process with --metrics-listen, and through a worker's death."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from proxy import storage
from proxy.metrics import METRICS, Exposition
from proxy.server import Proxy
from tests.ports import free_port
from tests.proxy.support import Endpoints, connect, own_address, receive, reset, route, send, table, until

ROOT = Path(__file__).parents[2]


def figures(text: str) -> dict[str, float]:
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_every_metric_has_a_name_of_ours_and_a_sentence() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert metric.name.startswith("sampan_proxy_") and metric.help.endswith(".")
        assert metric.name.endswith("_total") == (metric.kind == "counter")


async def test_what_happens_is_counted(proxy: Proxy, endpoints: Endpoints) -> None:
    place = (own_address(), 80)
    dead = (endpoints.address, 1)
    proxy.apply(table(route(*place, [dead, endpoints.places[0]])))
    exposition = Exposition()
    client = await connect(place)
    accepted = await endpoints.accept(0)
    await send(client, b"hello")
    await send(accepted, b"good morning")
    assert (await receive(accepted, 5), await receive(client, 12)) == (b"hello", b"good morning")
    second = await connect(place)
    accepted_too = await endpoints.accept(0)
    text = exposition.text(await proxy.counted())
    seen = figures(text)
    assert {metric.name for metric in METRICS} == {line.split()[2] for line in text.splitlines() if "# TYPE" in line}
    assert (seen["sampan_proxy_connections_open"], seen["sampan_proxy_connections_accepted_total"]) == (2, 2)
    assert seen['sampan_proxy_bytes_total{direction="in"}'] == 5
    assert seen['sampan_proxy_bytes_total{direction="out"}'] == 12
    # The dead one was tried once, by the first or the second client, and another endpoint after it.
    assert (seen["sampan_proxy_connect_failures_total"], seen["sampan_proxy_retries_total"]) == (1, 1)
    assert (seen["sampan_proxy_listeners"], seen["sampan_proxy_endpoints"]) == (1, 2)
    assert seen["sampan_proxy_table_complete"] == 1
    assert seen['sampan_proxy_workers{state="serving"}'] == 1
    status = proxy.status()
    (failed,) = [end for end in status["services"][0]["endpoints"] if end["failures"]]
    assert (failed["ip"], failed["port"]) == dead and failed["lastError"] == "Connection refused"
    for sock in (client, second, accepted, accepted_too):
        reset(sock)
    # The service goes, what it has counted stays.
    proxy.apply(table())
    await until(lambda: proxy.status()["counters"]["open"] == 0, "the connections are over")
    later = figures(exposition.text(await proxy.counted()))
    for name, value in seen.items():
        if name.partition("{")[0].endswith("_total"):
            assert later[name] >= value, name


async def test_an_endpoint_that_nobody_answers_for_is_refused(proxy: Proxy) -> None:
    place = (own_address(), 80)
    proxy.apply(table(route(*place, [(own_address(), 1)])))
    # In one loop with the proxy, the reset may be there before the client hears that it is connected.
    with contextlib.suppress(ConnectionResetError):
        client = await connect(place)
        with client:
            assert await receive(client, 1) == b""
    await until(lambda: proxy.status()["counters"]["refused"] == 1, "the client is refused")
    seen = figures(Exposition().text(await proxy.counted()))
    assert (seen["sampan_proxy_refused_total"], seen["sampan_proxy_connect_failures_total"]) == (1, 1)


@contextlib.contextmanager
def running(folder: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "proxy", "--socket", str(folder / "proxy.sock"), "--data", str(folder)]
    with subprocess.Popen([*command, *options], cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        children: list[psutil.Process] = []
        try:
            yield process
        finally:
            with contextlib.suppress(psutil.Error):
                children = psutil.Process(process.pid).children(recursive=True)
            process.kill()
            for child in children:
                with contextlib.suppress(psutil.Error):
                    child.kill()


async def scraped(port: int) -> str:
    """The body of GET /metrics, once somebody answers."""
    async with asyncio.timeout(60):
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                break
            except OSError:
                await asyncio.sleep(0.02)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
        writer.close()
        assert head.startswith("HTTP/1.1 200 OK"), head
        return body


async def status(folder: Path) -> dict[str, Any]:
    reader, writer = await asyncio.open_unix_connection(str(folder / "proxy.sock"), limit=1 << 24)
    writer.write(b'{"status":{}}\n')
    answer: dict[str, Any] = json.loads(await reader.readline())["status"]
    writer.close()
    return answer


async def test_the_process_answers_and_a_dead_worker_takes_no_count_back(tmp_path: Path, endpoints: Endpoints) -> None:
    port = free_port()
    place = (own_address(), 80)
    storage.save(tmp_path, table(route(*place, endpoints.places[:1])))
    with running(tmp_path, "--workers", "2", "--metrics-listen", f"127.0.0.1:{port}"):
        async with asyncio.timeout(60):
            while figures(await scraped(port))['sampan_proxy_workers{state="serving"}'] < 2:
                await asyncio.sleep(0.05)
        for _ in range(8):
            client = await connect(place)
            accepted = await endpoints.accept(0)
            reset(client)
            accepted.close()
        seen = figures(await scraped(port))
        assert seen["sampan_proxy_connections_accepted_total"] == 8
        assert seen['sampan_proxy_workers{state="serving"}'] == 2
        for worker in (await status(tmp_path))["workers"]:
            psutil.Process(worker["pid"]).kill()

        async def replaced() -> dict[str, float]:
            async with asyncio.timeout(60):
                while True:
                    now = figures(await scraped(port))
                    serving = now['sampan_proxy_workers{state="serving"}']
                    if now["sampan_proxy_workers_replaced_total"] >= 2 and serving == 2:
                        return now
                    await asyncio.sleep(0.05)

        assert (await replaced())["sampan_proxy_connections_accepted_total"] == 8
