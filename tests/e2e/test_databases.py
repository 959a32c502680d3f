"""A real PostgreSQL and a real Redis behind services, driven by their own benchmark clients through the proxy."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import struct
import time
from collections.abc import AsyncIterator
from typing import Self

import psutil
import pytest
import pytest_asyncio

from tests.e2e.databases import DATABASES, databases_image, why_not
from tests.e2e.support import ready_pods
from tests.harness import BUSYBOX, Cluster, Host, eventually
from tests.harness.parts import clean_environment
from tests.harness.process import Process

pytestmark = [
    pytest.mark.root,
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
]

POSTGRES_PORT, REDIS_PORT = 30432, 30379
AGENT_METRICS, PROXY_METRICS = 9101, 9102
# Seconds that a pooled connection stays without a byte; other traffic goes on meanwhile.
IDLE_SECONDS = 20.0

MANIFEST = f"""
apiVersion: v1
kind: Pod
metadata: {{name: postgres, labels: {{app: postgres, tier: databases}}}}
spec:
  nodeSelector: {{kubernetes.io/hostname: node1}}
  terminationGracePeriodSeconds: 1
  containers:
  - name: postgres
    image: {DATABASES}
    imagePullPolicy: IfNotPresent
    command:
    - sh
    - -ec
    - |
      initdb -D /data/pg -U postgres -A trust -N -E UTF8 --locale=C
      echo 'host all all all trust' >> /data/pg/pg_hba.conf
      exec postgres -D /data/pg -c listen_addresses=0.0.0.0 -c unix_socket_directories=/tmp -c fsync=off
    ports: [{{name: sql, containerPort: 5432}}]
---
apiVersion: v1
kind: Pod
metadata: {{name: redis, labels: {{app: redis, tier: databases}}}}
spec:
  nodeSelector: {{kubernetes.io/hostname: node1}}
  terminationGracePeriodSeconds: 1
  containers:
  - name: redis
    image: {DATABASES}
    imagePullPolicy: IfNotPresent
    command: [redis-server, --save, "", --protected-mode, "no", --dir, /data]
    ports: [{{name: redis, containerPort: 6379}}]
---
apiVersion: v1
kind: Service
metadata: {{name: postgres}}
spec:
  type: NodePort
  selector: {{app: postgres}}
  ports: [{{port: 5432, targetPort: sql, nodePort: {POSTGRES_PORT}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: redis}}
spec:
  type: NodePort
  selector: {{app: redis}}
  ports: [{{port: 6379, targetPort: redis, nodePort: {REDIS_PORT}}}]
"""


class Session:
    """One client's connection; `who()` says which server process (or client number) it has there."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, host: str, port: int) -> Self:
        """A connection that has had its first answer. Raises OSError, EOFError, TimeoutError."""
        async with asyncio.timeout(60):
            made = cls(*await asyncio.open_connection(host, port))
            try:
                await made.greet()
            except BaseException:
                made._writer.transport.abort()
                raise
        return made

    async def greet(self) -> None:
        raise NotImplementedError

    async def who(self) -> str:
        raise NotImplementedError

    async def ended(self) -> str:
        """How the connection ends: "fin" or "rst". Raises TimeoutError when it does not within 60 s."""
        async with asyncio.timeout(60):
            try:
                assert await self._reader.read(1) == b""
            except ConnectionResetError:
                return "rst"
        return "fin"

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


class Postgres(Session):
    """The frontend's side of PostgreSQL's protocol 3.0 (https://www.postgresql.org/docs/current/protocol.html)."""

    async def greet(self) -> None:
        body = struct.pack("!i", 196608) + b"user\0postgres\0database\0postgres\0\0"
        self._writer.write(struct.pack("!i", len(body) + 4) + body)
        await self._answer()

    async def who(self) -> str:
        async with asyncio.timeout(60):
            body = b"SELECT pg_backend_pid()\0"
            self._writer.write(b"Q" + struct.pack("!i", len(body) + 4) + body)
            return await self._answer()

    async def _answer(self) -> str:
        """The only field of the last row before the server is ready again."""
        field = ""
        while True:
            kind, length = struct.unpack("!ci", await self._reader.readexactly(5))
            body = await self._reader.readexactly(length - 4)
            if kind == b"E":
                raise ConnectionError(body.decode(errors="replace"))
            if kind == b"D":
                field = body[6:].decode()
            if kind == b"Z":
                return field


class Redis(Session):
    """Redis' inline commands (https://redis.io/docs/latest/develop/reference/protocol-spec/)."""

    async def greet(self) -> None:
        await self.who()

    async def who(self) -> str:
        async with asyncio.timeout(60):
            self._writer.write(b"CLIENT ID\r\n")
            answer = await self._reader.readuntil(b"\r\n")
        if not answer.startswith(b":"):
            raise ConnectionError(answer.decode())
        return answer[1:].decode().strip()


DATABASE_PORTS: tuple[tuple[type[Session], int], ...] = ((Postgres, POSTGRES_PORT), (Redis, REDIS_PORT))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster() -> AsyncIterator[Cluster]:
    image = await databases_image()
    options = ("--metrics-listen", f"127.0.0.1:{AGENT_METRICS}", "--proxy-metrics-listen", f"127.0.0.1:{PROXY_METRICS}")
    async with Cluster(hosts=2, images=(BUSYBOX, image), node_options=options) as made:
        await made.apply(MANIFEST)
        await ready_pods(made, 2, selector="tier=databases", within=60)
        for node in made.nodes:
            await answers(node.host)
        yield made


async def answers(host: Host, within: float = 90.0) -> None:
    """Returns when both databases answer new connections on a node's port."""

    async def look() -> bool:
        async with pool(host):
            return True

    errors = (OSError, EOFError, TimeoutError)
    await eventually(look, within=within, what=f"databases answer on {host.name}", ignore=errors)


@contextlib.asynccontextmanager
async def pool(host: Host) -> AsyncIterator[list[Session]]:
    """An open connection to each database, by a node's ports."""
    async with contextlib.AsyncExitStack() as stack:
        sessions: list[Session] = []
        for kind, port in DATABASE_PORTS:
            sessions.append(await kind.open(host.address, port))
            stack.push_async_callback(sessions[-1].close)
        yield sessions


async def identities(sessions: list[Session]) -> list[str]:
    return [await session.who() for session in sessions]


async def client(host: Host, *command: str) -> str:
    """Runs one of the databases' own clients as a process of a host: in its network, from the image."""
    return await host.docker("run", "--rm", "--network", "host", DATABASES, *command, timeout=90)


async def service_address(cluster: Cluster, name: str) -> str:
    (service,) = await cluster.get("service", name)
    return str(service["spec"]["clusterIP"])


async def test_benchmarks_run_through_the_proxy_and_idle_connections_live(cluster: Cluster) -> None:
    """pgbench and redis-benchmark by cluster IP and by node port, while pooled connections hear nothing."""
    there, here = cluster.node("node1").host, cluster.node("node2").host
    async with pool(here) as pooled:
        known = await identities(pooled)
        idle_since = time.monotonic()
        target = ("-h", await service_address(cluster, "postgres"), "-U", "postgres")
        await client(here, "pgbench", "-i", "-q", "-s", "1", *target, "postgres")
        said = await client(here, "pgbench", "-c", "8", "-j", "2", "-T", "4", *target, "postgres")
        assert failed(said) == 0 and transactions(said) > 8, said
        # A connection for each transaction, by the other node's port.
        target = ("-h", here.address, "-U", "postgres")
        each = ("-S", "-C", "-n", "-c", "4", "-T", "3", "-p", str(POSTGRES_PORT))
        said = await client(there, "pgbench", *each, *target, "postgres")
        assert failed(said) == 0 and transactions(said) > 4, said
        for host, place, number in (
            (here, await service_address(cluster, "redis"), 6379),
            (there, here.address, REDIS_PORT),
        ):
            load = ("-t", "set,get,lrange_100", "-n", "4000", "-c", "50", "-d", "512", "--csv")
            said = await client(host, "redis-benchmark", "-h", place, "-p", str(number), *load)
            rows = re.findall(r'^"([^"]+)","([\d.]+)"', said, re.MULTILINE)
            assert len(rows) >= 3 and all(float(rate) > 0 for _, rate in rows), said
        while time.monotonic() < idle_since + IDLE_SECONDS:
            pings = ("-h", here.address, "-p", str(REDIS_PORT), "-t", "ping", "-n", "2000", "-c", "20", "-q")
            await client(here, "redis-benchmark", *pings)
        assert await identities(pooled) == known
        print(f"idle for {time.monotonic() - idle_since:.0f} s")

        async def only_these() -> dict[str, float]:
            seen = await scraped(here, PROXY_METRICS)
            assert seen["sampan_proxy_connections_open"] == len(pooled), seen
            return seen

        # The last benchmark's own are closed a moment after it has ended.
        seen = await eventually(only_these, within=60, what="only pooled connections are open")
        # At the least a connection for each of pgbench's clients and of redis-benchmark's.
        assert seen["sampan_proxy_connections_accepted_total"] > len(pooled) + 8 + 50
        assert seen['sampan_proxy_bytes_total{direction="in"}'] > 3 * 4000 * 512 / 2
    assert (await scraped(there, AGENT_METRICS))['sampan_agent_pods{phase="Running"}'] == 2


async def test_a_proxy_that_is_replaced_hands_its_connections_on(cluster: Cluster) -> None:
    """A proxy started with --takeover gets the sockets of the one before: pooled connections do not notice."""
    node = cluster.node("node1")
    before = node.pids("proxy")
    # All of a proxy's processes have the command line of the one that the supervisor has started.
    command = [*psutil.Process(before[0]).cmdline(), "--takeover"]
    successor = Process("takeover", command, folder=node.host.state, netns=node.host.netns, env=clean_environment())

    async def taken_over() -> bool:
        said = json.loads(await cluster.sampan("proxy", "status", node.name, "-o", "json"))
        serving = {worker["pid"] for worker in said["workers"] if not worker["retired"]}
        return bool(serving) and not serving & set(before)

    async with pool(node.host) as pooled:
        known = await identities(pooled)
        successor.start()
        try:
            await eventually(taken_over, within=60, what="the successor's workers serve", every=0.2)
            assert await identities(pooled) == known
            async with pool(node.host) as fresh:
                assert not set(await identities(fresh)) & set(known)
            assert await identities(pooled) == known
        finally:
            await successor.stop()
    # The supervisor's own has the place again.
    await answers(node.host)


async def test_a_killed_proxy_takes_its_connections_and_nothing_else(cluster: Cluster) -> None:
    """Its clients learn it at once (no answer is waited for in vain), and new connections work again soon."""
    node = cluster.node("node2")
    async with pool(cluster.node("node1").host) as other, pool(node.host) as pooled:
        elsewhere = await identities(other)
        await identities(pooled)
        assert node.kill_proxy()
        began = time.monotonic()
        for session in pooled:
            assert await session.ended() in ("fin", "rst")
        await answers(node.host, within=60)
        print(f"new connections after {time.monotonic() - began:.2f} s")
        address = await service_address(cluster, "postgres")
        said = await client(node.host, "psql", "-h", address, "-U", "postgres", "-tAc", "SELECT 40+2")
        assert said.strip() == "42"
        # The other node's proxy has not been touched, nor have its connections.
        assert await identities(other) == elsewhere


async def scraped(host: Host, port: int) -> dict[str, float]:
    """The figures that agent or proxy of a host tell."""
    said = await host.run(["curl", "-sSf", "-m", "15", f"http://127.0.0.1:{port}/metrics"])
    return {name: float(value) for name, value in re.findall(r"^([^#\s].*) (\S+)$", said, re.MULTILINE)}


def transactions(said: str) -> int:
    """How many transactions pgbench has processed."""
    found = re.search(r"number of transactions actually processed: (\d+)", said)
    assert found, said
    return int(found[1])


def failed(said: str) -> int:
    """How many transactions pgbench has seen fail."""
    found = re.search(r"number of failed transactions: (\d+)", said)
    assert found, said
    return int(found[1])
