"""What the end-to-end tests ask of a running cluster: who answers, which pods run where, a stream of requests."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from tests.harness import Cluster, Host, Node, eventually

PORT = 8765


def ready(pod: dict[str, Any]) -> bool:
    """True for a pod whose Ready condition is True and that is not on its way out."""
    if "deletionTimestamp" in pod["metadata"]:
        return False
    conditions = pod.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


async def pods(cluster: Cluster, selector: str = "app=web") -> list[dict[str, Any]]:
    return await cluster.get("pods", "-l", selector)


async def ready_pods(cluster: Cluster, count: int, *, within: float = 90.0, selector: str = "app=web") -> list[Any]:
    """The pods, once exactly `count` are live and all of those Ready."""

    async def look() -> list[Any]:
        live = [p for p in await pods(cluster, selector) if "deletionTimestamp" not in p["metadata"]]
        return live if len(live) == count and all(map(ready, live)) else []

    return await eventually(look, within=within, what=f"{count} ready pods of {selector}", every=0.2)


async def endpoint_ips(cluster: Cluster, name: str = "web") -> set[str]:
    (found,) = await cluster.get("endpoints", name)
    return {address["ip"] for subset in found.get("subsets", []) for address in subset.get("addresses", [])}


async def ask(host: str, port: int = PORT, timeout: float = 10.0) -> str:
    """The body of one HTTP/1.0 answer, on a connection of its own. Raises OSError or TimeoutError."""
    async with asyncio.timeout(timeout):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(b"GET / HTTP/1.0\r\nConnection: close\r\n\r\n")
            answer = await reader.read()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith((b"HTTP/1.0 200", b"HTTP/1.1 200")):
        raise ConnectionError(f"answered {head[:60]!r}")
    return body.decode().strip()


async def answers(host: Host, count: int) -> Counter[str]:
    """Who answered `count` requests to one node's port."""
    return Counter([await ask(host.address) for _ in range(count)])


async def served(host: Host, *, within: float = 90.0, port: int = PORT) -> str:
    """The first answer from a node's port."""
    return await eventually(lambda: ask(host.address, port), within=within, what=f"{host.name} answers on {port}")


async def another_agent(cluster: Cluster, node: Node, was: list[int], *, within: float = 90.0) -> None:
    """Returns when another agent than those killed has a session: a node is Ready for seconds after its agent died."""

    async def look() -> bool:
        if not set(node.pids("agent")) - set(was):
            return False
        # Asked of the agent itself.
        return bool(await cluster.sampan("node", "network", node.name))

    await eventually(look, within=within, what=f"another agent of {node.name} has a session", every=0.2)


class Stream:
    """One request after another to each of some hosts while a block runs; `failed` says what went wrong and when."""

    def __init__(self) -> None:
        self.count = 0
        self.failed: list[str] = []
        self.last: dict[str, tuple[float, str]] = {}


@contextlib.asynccontextmanager
async def stream(*hosts: Host, pause: float = 0.01) -> AsyncIterator[Stream]:
    """Requests, at most 1/`pause` a second for each host, until the block ends."""
    seen, over, start = Stream(), asyncio.Event(), time.monotonic()

    async def one(host: Host) -> None:
        while not over.is_set():
            try:
                who = await ask(host.address)
                seen.last[host.name] = (time.monotonic(), who)
            except (OSError, TimeoutError) as error:
                seen.failed.append(f"{time.monotonic() - start:.2f} s {host.name}: {error!r}")
            seen.count += 1
            await asyncio.sleep(pause)

    async with asyncio.TaskGroup() as group:
        for host in hosts:
            group.create_task(one(host))
        try:
            yield seen
        finally:
            over.set()


async def containers_of(host: Host, pod: str = "") -> dict[str, str]:
    """Running containers (not sandboxes) of Sampan's on a host, name -> id."""
    found = await host.containers("label=sampan.dev/pod-name" + (f"={pod}" if pod else ""))
    return {
        c["Names"]: c["ID"] for c in found if c["State"] == "running" and "sampan.dev/kind=container" in c["Labels"]
    }
