"""A steady load on node ports whose every failure is counted, and a web server that ends in good order."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import yaml

PORT = 8790
TIMEOUT_SECONDS = 5.0
KEPT_CONNECTIONS = 12
WORKERS = 40

# Keeps connections, and on SIGTERM says so with its next answer on each: what a well-behaved server does.
SERVER = """
import asyncio, signal, socket
NAME, KINDS = socket.gethostname().encode(), (b"keep-alive", b"close")
going, live = asyncio.Event(), set()
async def serve(reader, writer):
    live.add(writer)
    try:
        while True:
            head = await reader.readuntil(b"\\r\\n\\r\\n")
            last = going.is_set() or b"connection: close" in head.lower()
            lines = (b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(NAME), b"Connection: " + KINDS[last], b"", NAME)
            writer.write(b"\\r\\n".join(lines))
            await writer.drain()
            if last:
                break
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        live.discard(writer)
        writer.close()
async def main():
    server = await asyncio.start_server(serve, "0.0.0.0", 8080, backlog=512)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, going.set)
    await going.wait()
    for _ in range(150):
        await asyncio.sleep(0.02)
        if not live:
            break
asyncio.run(main())
"""


def manifest(image: str, replicas: int, drain_seconds: int) -> str:
    """`replicas` servers behind node port PORT, each ready as soon as it listens."""
    source = "\n".join(f"            {line}" for line in SERVER.strip().splitlines())
    return f"""
apiVersion: v1
kind: ReplicationController
metadata: {{name: steady}}
spec:
  replicas: {replicas}
  selector: {{app: steady}}
  template:
    metadata:
      labels: {{app: steady}}
      annotations: {{sampan.dev/drain-seconds: "{drain_seconds}"}}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
      - name: server
        image: {image}
        imagePullPolicy: IfNotPresent
        command:
        - python3
        - -c
        - |
{source}
        ports: [{{name: http, containerPort: 8080}}]
        readinessProbe: {{tcpSocket: {{port: http}}, periodSeconds: 1}}
        resources: {{requests: {{cpu: 10m, memory: 16Mi}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: steady}}
spec:
  type: NodePort
  selector: {{app: steady}}
  ports: [{{port: 80, targetPort: http, nodePort: {PORT}}}]
"""


def deployment(image: str, replicas: int, drain_seconds: int, version: int) -> str:
    """The same servers as a Deployment; another `version` is another template, for a rolling update."""
    found = list(yaml.safe_load_all(manifest(image, replicas, drain_seconds)))
    workload = found[0]
    workload |= {"apiVersion": "apps/v1", "kind": "Deployment"}
    workload["spec"]["selector"] = {"matchLabels": workload["spec"]["selector"]}
    workload["spec"]["template"]["metadata"]["annotations"]["version"] = str(version)
    return str(yaml.safe_dump_all(found))


class Load:
    """What was asked and what failed, by kind ("new" or "kept" connection, and what went wrong)."""

    def __init__(self) -> None:
        self.asked = 0
        self.failed: Counter[str] = Counter()
        self.when: list[str] = []
        self.phase = ""
        self.last_failed = 0.0
        """When the last request began that failed, in monotonic seconds; 0 when none did."""
        self._start = time.monotonic()

    def failure(self, mode: str, error: Exception, began: float) -> None:
        kind = f"{mode}: {describe(error)}"
        self.failed[kind] += 1
        self.last_failed = max(self.last_failed, began)
        if len(self.when) < 50:
            self.when.append(f"{time.monotonic() - self._start:.2f} s [{self.phase}] {kind}")


def describe(error: Exception) -> str:
    """One word or two for what went wrong."""
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "reset"
    if isinstance(error, asyncio.IncompleteReadError):
        return "closed before the answer"
    return type(error).__name__


class _Connection:
    def __init__(self, host: str) -> None:
        self._host = host
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, *, last: bool) -> None:
        """One request; raises what failed. A connection that the server has ended between two is opened anew."""
        if self._reader is None or self._reader.at_eof():
            self.close()
            self._reader, self._writer = await asyncio.open_connection(self._host, PORT)
        assert self._writer is not None
        kind = "close" if last else "keep-alive"
        self._writer.write(f"GET / HTTP/1.1\r\nHost: steady\r\nConnection: {kind}\r\n\r\n".encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        await self._reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
        if b"connection: close" in head:
            self.close()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


@contextlib.asynccontextmanager
async def steady(hosts: Sequence[str], *, rate: float) -> AsyncIterator[Load]:
    """`rate` requests a second in all while the block runs: half on new connections, half on kept ones."""
    load, over = Load(), asyncio.Event()

    async def work(mode: str, number: int, workers: int) -> None:
        connection = _Connection(hosts[number % len(hosts)])
        interval = workers / (rate / 2)
        at = time.monotonic() + interval * number / workers
        while not over.is_set():
            await asyncio.sleep(max(0.0, at - time.monotonic()))
            at = max(at + interval, time.monotonic() - 1.0)
            load.asked += 1
            began = time.monotonic()
            try:
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    await connection.ask(last=mode == "new")
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                load.failure(mode, error, began)
                connection.close()
        connection.close()

    async with asyncio.TaskGroup() as group:
        for number in range(WORKERS):
            group.create_task(work("new", number, WORKERS), name=f"new-{number}")
        for number in range(KEPT_CONNECTIONS):
            group.create_task(work("kept", number, KEPT_CONNECTIONS), name=f"kept-{number}")
        try:
            yield load
        finally:
            over.set()
