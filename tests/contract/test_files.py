"""Files of containers and connections to their ports, on every runtime."""

from __future__ import annotations

import io
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common.errors import NotFound
from node_agent.runtime.script import Answer
from node_agent.runtime.seam import Refused
from node_agent.runtime.simulated import SimulatedRuntime
from node_agent.runtime.stdio import PathSeen, ReachError
from tests.contract.conftest import Engine, Job, docker_engine, until


def archive(**files: tuple[bytes, int]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as made:
        for name, (data, mode) in files.items():
            entry = tarfile.TarInfo(f"made/{name}")
            entry.size, entry.mode = len(data), mode
            made.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


async def in_pieces(data: bytes, size: int = 10_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def running(engine: Engine) -> str:
    id = await engine.container("web", await engine.sandbox("web"), Job())
    await engine.runtime.start(id)
    return id


async def test_what_is_written_is_read(engine: Engine) -> None:
    id = await running(engine)
    data = bytes(range(256)) * 1000
    await engine.runtime.write_files(id, "/tmp", in_pieces(archive(one=(data, 0o640), two=(b"", 0o755))))
    seen = await engine.runtime.path_seen(id, "/tmp/made/one")
    assert (seen.name, seen.size, seen.mode, seen.directory) == ("one", len(data), 0o640, False)
    assert (await engine.runtime.path_seen(id, "/tmp")).directory
    packed = b"".join([piece async for piece in engine.runtime.read_files(id, "/tmp/made/one")])
    with tarfile.open(fileobj=io.BytesIO(packed)) as made:
        (entry,) = made.getmembers()
        content = made.extractfile(entry)
        assert content is not None and content.read() == data and (entry.name, entry.mode & 0o777) == ("one", 0o640)
    # Also when it has ended.
    await engine.runtime.kill(id)
    await engine.until(id, lambda one: one.state.value == "exited")
    assert (await engine.runtime.path_seen(id, "/tmp/made/two")).mode == 0o755


async def test_what_is_not_there(engine: Engine) -> None:
    id = await running(engine)
    with pytest.raises(NotFound, match="/missing: no such file"):
        await engine.runtime.path_seen(id, "/missing")
    with pytest.raises(NotFound):
        _ = [piece async for piece in engine.runtime.read_files(id, "/missing")]
    with pytest.raises(NotFound):
        await engine.runtime.write_files(id, "/missing", in_pieces(archive(one=(b"1", 0o600))))
    await engine.runtime.write_files(id, "/tmp", in_pieces(archive(one=(b"1", 0o600))))
    with pytest.raises(Refused, match="not a directory"):
        await engine.runtime.write_files(id, "/tmp/made/one", in_pieces(archive(one=(b"1", 0o600))))


async def test_a_port_that_nobody_has(engine: Engine) -> None:
    if isinstance(engine.runtime, SimulatedRuntime):
        engine.runtime.script.answer = lambda asked: Answer(code=1)
    await running(engine)
    (sandbox,) = [one for one in await engine.runtime.containers() if not one.name]
    with pytest.raises(ReachError, match=r"port 7 of the pod .*: connection refused"):
        async with engine.runtime.dial(sandbox.id, sandbox.identity.ip, 7):
            pass


@pytest.mark.docker
@pytest.mark.root
async def test_links_loopback_and_half_closed_connections(tmp_path: Path) -> None:
    async with docker_engine(tmp_path) as engine:
        id = await running(engine)
        script = "ln -s /tmp /way; echo page > /tmp/page; httpd -p 127.0.0.1:8001 -h /tmp; nc -ll -p 8000 -e cat"
        async with engine.runtime.exec(id, ("sh", "-c", script)):
            assert (await _eventually_seen(engine, id)).directory
            (sandbox,) = [one for one in await engine.runtime.containers() if not one.name]

            async def talk(port: int, sent: bytes) -> bytes | None:
                try:
                    async with engine.runtime.dial(sandbox.id, sandbox.identity.ip, port) as pipe:
                        await pipe.send(sent)
                        await pipe.close_stdin()
                        return b"".join([data async for _, data in pipe])
                except ReachError:
                    return None

            assert await until(lambda: talk(8000, b"echo")) == b"echo"
            assert b"page" in await until(lambda: talk(8001, b"GET /page HTTP/1.0\r\n\r\n"))


async def _eventually_seen(engine: Engine, id: str) -> PathSeen:
    async def look() -> PathSeen | None:
        try:
            return await engine.runtime.path_seen(id, "/way")
        except NotFound:
            return None

    return await until(look)
