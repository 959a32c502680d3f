"""Tasks that are cancelled while what they wait for fails."""

from __future__ import annotations

import asyncio

from common.tasks import Tasks, apart


async def test_a_loop_round_a_group_ends_though_it_is_cancelled_while_the_group_fails() -> None:
    failing, let_go = asyncio.Event(), asyncio.Event()

    async def lasts() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            failing.set()
            await let_go.wait()

    async def fails() -> None:
        raise OSError("the connection broke")

    async def breaks() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(lasts())
            await asyncio.sleep(0)
            group.create_task(fails())

    async def again_and_again() -> None:
        while True:
            try:
                await apart("breaks", breaks())
            except* OSError:
                failing.clear()

    owner = Tasks("test")
    assert await apart("seven", asyncio.sleep(0, 7)) == 7
    looping = owner.start("loop", again_and_again())
    await failing.wait()
    looping.cancel()
    await asyncio.sleep(0)
    let_go.set()
    done, _ = await asyncio.wait([looping], timeout=10)
    assert done and looping.cancelled()
