"""What only real processes can show of exec and attach: terminals, stdin, back-pressure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from node_agent.runtime.seam import ContainerSpec
from node_agent.runtime.stdio import Out, Stdio
from tests.contract.conftest import Engine, Job, docker_engine, until
from tests.harness.images import BUSYBOX

pytestmark = pytest.mark.docker
_MIB = 1024 * 1024


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    async with docker_engine(tmp_path) as engine:
        yield engine


async def started(engine: Engine, **fields: object) -> str:
    sandbox = await engine.sandbox("web")
    if not fields:
        id = await engine.container("web", sandbox, Job())
    else:
        identity = engine.identity("web", "main", sandbox=sandbox)
        id = await engine.runtime.create_container(ContainerSpec(identity, BUSYBOX, **fields))  # type: ignore[arg-type]
    await engine.runtime.start(id)
    return id


async def read_until(stdio: Stdio, words: bytes) -> bytes:
    found = b""
    async with asyncio.timeout(30):
        async for _, piece in stdio:
            found += piece
            if words in found:
                return found
    raise AssertionError(f"ended with {found!r}")


async def test_a_terminal_has_a_size_and_one_output(engine: Engine) -> None:
    id = await started(engine)
    async with engine.runtime.exec(id, ("sh",), stdin=True, tty=True) as stdio:
        await stdio.resize(rows=50, cols=132)
        await stdio.send(b"stty size; echo to-stderr >&2\n")
        await read_until(stdio, b"50 132")
        await stdio.resize(rows=24, cols=80)
        await stdio.send(b"stty size\n")
        await read_until(stdio, b"24 80")
        await stdio.send(b"exit 5\n")
        assert {out async for out, _ in stdio} <= {Out.STDOUT}
        assert await stdio.exit_code() == 5
        await stdio.resize(rows=1, cols=1)


async def test_a_command_that_is_not_there(engine: Engine) -> None:
    id = await started(engine)
    async with engine.runtime.exec(id, ("/no/such/program",)) as stdio:
        said = b"".join([piece async for _, piece in stdio])
        assert b"no such file or directory" in said
        assert await stdio.exit_code() in (126, 127)


async def test_who_does_not_read_holds_the_process_up(engine: Engine) -> None:
    id = await started(engine)
    writes = "n=0; while :; do head -c 1048576 /dev/zero; n=$((n+1)); echo $n > /tmp/written; done"

    async def written() -> int:
        async with engine.runtime.exec(id, ("sh", "-c", "cat /tmp/written || echo 0")) as stdio:
            return int(b"".join([piece async for out, piece in stdio if out is Out.STDOUT]))

    before = -1

    async def stopped() -> int | None:
        nonlocal before
        now, same = await written(), before
        before = now
        await asyncio.sleep(0.5)
        return now + 1 if now == same else None

    async with engine.runtime.exec(id, ("sh", "-c", writes)) as stdio:
        held = await until(stopped, 60)
        assert held < 16, "megabytes between a process and who does not read it"
        got = 0
        async for _, piece in stdio:
            got += len(piece)
            if got > (held + 4) * _MIB:
                break
        assert await written() > held


async def test_attached_stdin_reaches_the_container(engine: Engine) -> None:
    id = await started(engine, command=("sh", "-c", "while read line; do echo got $line; done; exit 9"), stdin=True,
                       stdin_once=True)  # fmt: skip
    async with engine.runtime.attach(id, stdin=True) as stdio:
        await stdio.send(b"one\n")
        await read_until(stdio, b"got one\n")
        await stdio.close_stdin()
        assert await stdio.exit_code() == 9


async def test_what_was_written_before_can_be_had_again(engine: Engine) -> None:
    id = await started(engine, command=("sh", "-c", "echo before; read line; echo after; exit 4"), stdin=True)

    async def said() -> bool | None:
        return True if "before" in await engine.output(id) else None

    await until(said)
    async with engine.runtime.attach(id, stdin=True, replay=True) as stdio:
        await read_until(stdio, b"before\n")
        await stdio.send(b"go\n")
        await read_until(stdio, b"after\n")
        assert await stdio.exit_code() == 4
