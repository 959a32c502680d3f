"""exec, attach, port-forward, cp, logs and top on real Docker hosts, as a user at a terminal has them."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import signal
import struct
import sys
import termios
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from tests.e2e.support import ready_pods
from tests.harness import BUSYBOX, Cluster, eventually
from tests.harness.commands import CommandFailed

pytestmark = [pytest.mark.root, pytest.mark.e2e, pytest.mark.timeout(600)]

SAMPAN = str(Path(sys.executable).parent / "sampan")
POD = """
apiVersion: v1
kind: Pod
metadata: {{name: web-{number}, labels: {{app: web}}}}
spec:
  nodeName: node{number}
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: {image}
    command: [sh, -c, "echo hello from web-{number}; echo page {number} > /tmp/index.html;
      httpd -p 127.0.0.1:9001 -h /tmp; nc -ll -p 9000 -e cat & exec httpd -f -p 8080 -h /tmp"]
    ports: [{{name: http, containerPort: 8080}}]
---
"""
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
"""


class Running:
    """The CLI as a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def outcome(self, within: float) -> tuple[int, bytes, bytes]:
        assert self.process.stdin is not None
        self.process.stdin.close()
        async with asyncio.timeout(within):
            out, err = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, out, err


@contextlib.asynccontextmanager
async def sampan(cluster: Cluster, *words: str) -> AsyncIterator[Running]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        SAMPAN, *words, env=environment(cluster), stdin=pipe, stdout=pipe, stderr=pipe
    )
    try:
        yield Running(process)
    finally:
        if process.returncode is None:
            process.kill()
            # Reads what is left: as long as its output is not at its end, asyncio does not call a process ended.
            await process.communicate()


def environment(cluster: Cluster) -> dict[str, str]:
    return {**os.environ, "SAMPAN_MASTER": cluster.master.address, "TERM": "dumb"}


async def test_reaching_pods(tmp_path: Path) -> None:
    async with Cluster(hosts=2) as cluster:
        await cluster.apply("".join(POD.format(number=number, image=BUSYBOX) for number in (1, 2)) + SERVICE)
        await ready_pods(cluster, 2, within=60)
        await commands(cluster)
        await terminal(cluster)
        await copies(cluster, tmp_path)
        await ports(cluster)
        await slow_reader(cluster)
        await top(cluster)
        await shell_pod(cluster)
        await a_node_away(cluster)


async def commands(cluster: Cluster) -> None:
    async with sampan(cluster, "exec", "web-1", "--", "sh", "-c", "echo out; echo err >&2; exit 7") as run:
        assert await run.outcome(60) == (7, b"out\n", b"err\n")
    data = os.urandom(300_000)
    async with sampan(cluster, "exec", "-i", "web-2", "--", "cat") as run:
        run.process.stdin.write(data)  # type: ignore[union-attr]
        assert await run.outcome(60) == (0, data, b"")
    # Ctrl-C here ends it there, also where nothing is read or written.
    async with sampan(cluster, "exec", "web-1", "--", "sleep", "4321") as run:
        await eventually(lambda: runs(cluster, "sleep 4321"), within=60, what="it runs")
        run.process.send_signal(signal.SIGINT)
        assert (await run.outcome(60))[0] == 130
    await eventually(lambda: runs_not(cluster, "sleep 4321"), within=60, what="it has ended")


async def runs(cluster: Cluster, words: str) -> bool:
    return words in await cluster.sampan("exec", "web-1", "--", "ps")


async def runs_not(cluster: Cluster, words: str) -> bool:
    return not await runs(cluster, words)


async def terminal(cluster: Cluster) -> None:
    def child() -> tuple[int, int]:
        pid, descriptor = pty.fork()
        if pid == 0:
            os.execve(SAMPAN, [SAMPAN, "exec", "-it", "svc/web", "--", "sh"], environment(cluster))
        return pid, descriptor

    pid, descriptor = child()
    said = b""
    loop = asyncio.get_running_loop()

    def read() -> None:
        nonlocal said
        with contextlib.suppress(OSError):
            said += os.read(descriptor, 65536)

    async def says(words: bytes) -> None:
        await eventually(lambda: asyncio.sleep(0, words in said), within=60, what=f"{words!r} on the terminal")

    def size(rows: int, cols: int) -> None:
        fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    loop.add_reader(descriptor, read)
    try:
        size(41, 97)
        await says(b"# ")
        os.write(descriptor, b"stty size\n")
        await says(b"41 97")
        size(24, 77)
        # The new size travels: what the shell says may be the old one for a moment.
        for _ in range(300):
            os.write(descriptor, b"stty size\n")
            await asyncio.sleep(0.2)
            if b"24 77" in said:
                break
        await says(b"24 77")
        os.write(descriptor, b"sleep 999\n")
        # Not only its echo: a Ctrl-C before it runs ends nothing.
        await eventually(lambda: sleeps(cluster), within=60, what="it sleeps")
        os.write(descriptor, b"\x03")
        os.write(descriptor, b"echo code $((6*7)); exit 9\n")
        await says(b"code 42")
        async with asyncio.timeout(60):
            _, status = await asyncio.to_thread(os.waitpid, pid, 0)
        assert os.waitstatus_to_exitcode(status) == 9
        pid = 0
    finally:
        loop.remove_reader(descriptor)
        if pid:
            os.kill(pid, signal.SIGKILL)
            await asyncio.to_thread(os.waitpid, pid, 0)
        os.close(descriptor)


async def sleeps(cluster: Cluster) -> bool:
    """In whichever pod the service's name led to."""
    said = [await cluster.sampan("exec", name, "--", "ps") for name in ("web-1", "web-2")]
    return any("sleep 999" in one for one in said)


async def copies(cluster: Cluster, folder: Path) -> None:
    source = folder / "source"
    (source / "sub").mkdir(parents=True)
    (source / "big").write_bytes(os.urandom(3_000_000))
    (source / "sub" / "run.sh").write_text("#!/bin/sh\n")
    (source / "link").symlink_to("big")
    for path, mode in ((source / "big", 0o600), (source / "sub" / "run.sh", 0o754), (source / "sub", 0o711)):
        path.chmod(mode)
    await cluster.sampan("cp", str(source), "web-1:/srv")
    await cluster.sampan("cp", str(source / "big"), "web-1:/srv/sub")
    listed = await cluster.sampan(
        "exec", "web-1", "--", "stat", "-c", "%a %n", "/srv/big", "/srv/sub/run.sh", "/srv/sub"
    )
    assert listed.split("\n")[:3] == ["600 /srv/big", "754 /srv/sub/run.sh", "711 /srv/sub"]
    back = folder / "back"
    await cluster.sampan("cp", "default/web-1:/srv", str(back))
    assert (back / "big").read_bytes() == (source / "big").read_bytes() == (back / "sub" / "big").read_bytes()
    assert os.readlink(back / "link") == "big"
    modes = [(back / name).stat().st_mode & 0o777 for name in ("big", "sub/run.sh", "sub")]
    assert modes == [0o600, 0o754, 0o711]
    with pytest.raises(CommandFailed, match="no such file or directory in the container"):
        await cluster.sampan("cp", "web-1:/missing", str(back))
    with pytest.raises(CommandFailed, match="must be absolute"):
        await cluster.sampan("cp", "web-1:srv", str(back))


async def ports(cluster: Cluster) -> None:
    async with sampan(cluster, "port-forward", "web-1", ":9000", ":9001") as run:
        echo, inner = [await listening(run) for _ in range(2)]
        data = [os.urandom(400_000) for _ in range(3)]
        # The server answers to the end only once it has seen ours: each direction closes by itself.
        assert await asyncio.gather(*(echoed(echo, one) for one in data)) == data
        # What listens on the pod's own loopback only.
        assert b"page 1" in await echoed(inner, b"GET / HTTP/1.0\r\n\r\n")
    async with sampan(cluster, "port-forward", "svc/web", ":80") as run:
        port = await listening(run)
        assert b"page" in await echoed(port, b"GET / HTTP/1.0\r\n\r\n")
        with pytest.raises(CommandFailed, match=f"cannot listen on 127.0.0.1:{port}: the port is in use"):
            await cluster.sampan("port-forward", "svc/web", f"{port}:80")


async def listening(run: Running) -> int:
    assert run.process.stdout is not None
    async with asyncio.timeout(60):
        line = (await run.process.stdout.readline()).decode()
    assert line.startswith("Forwarding from 127.0.0.1:"), line
    return int(line.split(":")[1].split()[0])


async def echoed(port: int, data: bytes) -> bytes:
    async with asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def send() -> None:
            writer.write(data)
            await writer.drain()
            writer.write_eof()

        _, answer = await asyncio.gather(send(), reader.read())
        writer.close()
        return answer


async def slow_reader(cluster: Cluster) -> None:
    """Who reads nothing of an endless output costs the master and the agent a bounded amount of memory."""
    (agent,) = (psutil.Process(pid) for pid in cluster.nodes[0].pids("agent"))
    (master,) = (psutil.Process(pid) for pid in [cluster.master.process.pid])
    before = agent.memory_info().rss, master.memory_info().rss
    async with sampan(cluster, "exec", "web-1", "--", "cat", "/dev/zero") as run:
        assert run.process.stdout is not None
        await run.process.stdout.readexactly(65536)
        began = time.monotonic()
        # While it stands still, others go on: the same node, the same master.
        while time.monotonic() - began < 4:
            assert (await cluster.sampan("exec", "web-1", "--", "echo", "quick")).strip() == "quick"
        grown = agent.memory_info().rss - before[0], master.memory_info().rss - before[1]
        assert max(grown) < 64 * 1024 * 1024, f"agent and master grew by {grown} bytes"
        assert (await cluster.ready())["node1"]
    await eventually(lambda: runs_not(cluster, "cat /dev/zero"), within=60, what="its process has ended")


async def top(cluster: Cluster) -> None:
    async with sampan(cluster, "exec", "web-1", "--", "sh", "-c", "while :; do :; done"):

        async def busiest() -> bool:
            rows = (await cluster.sampan("top", "pods", "--sort-by=cpu", "--no-headers")).splitlines()
            assert rows[0].split()[0] == "web-1" and int(rows[0].split()[1].removesuffix("m")) > 50, rows
            return True

        # The figure is of the time since the question before: that the loop has begun shows in the next.
        await eventually(busiest, within=60, what="web-1 uses a processor", every=0.3)
    rows = (await cluster.sampan("top", "nodes")).splitlines()
    assert rows[0].split() == ["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"]
    assert [row.split()[0] for row in rows[1:]] == ["node1", "node2"]


async def shell_pod(cluster: Cluster) -> None:
    words = ("--rm", "once", f"--image={BUSYBOX}", "--restart=Never", "--", "sh", "-c", "echo first; cat; exit 4")
    async with sampan(cluster, "run", "-i", *words) as run:
        run.process.stdin.write(b"typed\n")  # type: ignore[union-attr]
        code, out, _ = await run.outcome(90)
        assert (code, out) == (4, b"first\ntyped\n")
    with pytest.raises(CommandFailed, match="not found"):
        await cluster.sampan("get", "pod", "once")


async def a_node_away(cluster: Cluster) -> None:
    async with sampan(cluster, "exec", "web-2", "--", "sleep", "600") as hanging:
        await eventually(lambda: sleeping(cluster), within=60, what="it runs")
        await cluster.node("node2").kill()
        code, _, err = await hanging.outcome(90)
        assert code == 1 and b"node2" in err, err
    async with sampan(cluster, "logs", "-l", "app=web", "--prefix") as run:
        code, out, err = await run.outcome(60)
    assert code == 1 and out == b"[pod/web-1/web] hello from web-1\n"
    assert b"error: pod/web-2/web: " in err and b"node2" in err
    async with sampan(cluster, "top", "nodes") as run:
        code, out, err = await run.outcome(60)
    assert code == 1 and b"node2   <unknown>" in out and b"error: node/node2: " in err


async def sleeping(cluster: Cluster) -> bool:
    return "sleep 600" in await cluster.sampan("exec", "web-2", "--", "ps")
