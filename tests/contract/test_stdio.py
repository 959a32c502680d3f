"""exec and attach, on every runtime."""

from __future__ import annotations

import asyncio

import pytest

from common.errors import Conflict, NotFound
from node_agent.runtime.script import Answer, Asked
from node_agent.runtime.simulated import SimulatedRuntime
from node_agent.runtime.stdio import Out
from tests.contract.conftest import Engine, Job, until

UP = Job(prints=("up",))
SAYS = "echo out; echo err >&2; exit 7"
WAITS = "echo here; exec sleep 3600"


def script(asked: Asked) -> Answer:
    """What the simulated container does for the commands of these tests."""
    if asked.detail == "cat":
        return Answer(echoes=True)
    if asked.detail.endswith(SAYS):
        return Answer(code=7, output="out\n", error="err\n")
    if asked.detail.endswith(WAITS):
        return Answer(output="here\n", seconds=3600)
    return Answer(seconds=3600) if asked.detail == "sleep 3600" else Answer()


async def running(engine: Engine, job: Job = UP) -> str:
    if isinstance(engine.runtime, SimulatedRuntime):
        engine.runtime.script.answer = script
    id = await engine.container("web", await engine.sandbox("web"), job)
    await engine.runtime.start(id)
    return id


async def test_command_with_output_and_code(engine: Engine) -> None:
    id = await running(engine)
    async with engine.runtime.exec(id, ("sh", "-c", SAYS)) as stdio:
        pieces = [piece async for piece in stdio]
        assert await stdio.exit_code() == 7
        assert await stdio.ended()
    assert b"".join(data for out, data in pieces if out is Out.STDOUT) == b"out\n"
    assert b"".join(data for out, data in pieces if out is Out.STDERR) == b"err\n"


async def test_stdin_reaches_it_until_it_is_closed(engine: Engine) -> None:
    id = await running(engine)
    async with engine.runtime.exec(id, ("cat",), stdin=True) as stdio:
        await stdio.send(b"one ")
        await stdio.send(b"two")
        await stdio.close_stdin()
        assert b"".join([data async for _, data in stdio]) == b"one two"
        assert await stdio.exit_code() == 0
        await stdio.send(b"too late")


async def test_leaving_ends_the_command(engine: Engine) -> None:
    id = await running(engine)
    async with engine.runtime.exec(id, ("sleep", "3600")) as stdio:
        assert not await stdio.ended()

    async def ended() -> bool | None:
        return True if await stdio.ended() else None

    await until(ended)


async def test_the_containers_end_ends_the_command(engine: Engine) -> None:
    id = await running(engine)
    async with asyncio.timeout(60):
        async with engine.runtime.exec(id, ("sh", "-c", WAITS)) as stdio:
            async for piece in stdio:
                assert piece == (Out.STDOUT, b"here\n")
                await engine.runtime.kill(id)
            assert await stdio.exit_code() == 137


async def test_only_running_containers(engine: Engine) -> None:
    id = await engine.container("web", await engine.sandbox("web"), UP)
    with pytest.raises(Conflict):
        async with engine.runtime.exec(id, ("true",)):
            pass
    with pytest.raises(Conflict):
        async with engine.runtime.attach(id):
            pass
    with pytest.raises(NotFound):
        async with engine.runtime.exec("0" * 63 + "f", ("true",)):
            pass


async def test_attach_sees_output_and_the_end(engine: Engine) -> None:
    id = await running(engine)

    async def said() -> bool | None:
        return True if "up" in await engine.output(id) else None

    await until(said)
    async with engine.runtime.attach(id) as stdio:
        assert not await stdio.ended()
        if isinstance(engine.runtime, SimulatedRuntime):
            engine.runtime.write(id, "more")
            async for out, data in stdio:
                assert (out, data) == (Out.STDOUT, b"more\n")
                break
        await engine.runtime.terminate(id)
        async with asyncio.timeout(60):
            assert await stdio.exit_code() == 143


async def test_leaving_an_attach_ends_nothing(engine: Engine) -> None:
    id = await running(engine)
    async with engine.runtime.attach(id):
        pass
    async with engine.runtime.exec(id, ("true",)) as stdio:
        assert [piece async for piece in stdio] == []
        assert await stdio.exit_code() == 0


async def test_a_hundred_commands_block_nothing(engine: Engine) -> None:
    id = await running(engine)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        opened = asyncio.Semaphore(0)

        async def run() -> None:
            async with engine.runtime.exec(id, ("cat",), stdin=True) as stdio:
                opened.release()
                async for _ in stdio:
                    pass

        runs = [group.create_task(run()) for _ in range(110)]
        for _ in runs:
            await opened.acquire()
        async with asyncio.timeout(30):
            assert await engine.seen(id) is not None
        await engine.runtime.kill(id)
