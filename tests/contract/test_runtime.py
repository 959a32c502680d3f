"""What pods rely on, of every runtime."""

from __future__ import annotations

import asyncio

import pytest

from common.errors import Conflict, NotFound
from node_agent.network.seam import NetworkSpec
from node_agent.runtime.seam import (
    ContainerSpec,
    ImageError,
    LogOptions,
    Mount,
    Refused,
    SandboxSpec,
    State,
)
from tests.contract.conftest import MISSING_IMAGE, Engine, Job, until
from tests.harness.images import BUSYBOX


async def test_life_of_a_container(engine: Engine) -> None:
    sandbox = await engine.sandbox("web")
    id = await engine.container("web", sandbox, Job(prints=("hello",), exit_code=3))
    made = await engine.seen(id)
    assert made is not None and made.state is State.CREATED
    assert made.identity == engine.identity("web", "main", sandbox=sandbox)
    await engine.runtime.start(id)
    ended = await engine.until(id, lambda seen: seen.state is State.EXITED)
    assert ended.exit_code == 3
    assert ended.error == ""
    assert made.created_at <= ended.started_at <= ended.finished_at
    assert ended.image == BUSYBOX
    assert ended.image_id.startswith("sha256:")
    await engine.runtime.remove(id)
    assert await engine.seen(id) is None
    await engine.runtime.remove(id)


async def test_sandbox_and_listing_by_pod(engine: Engine) -> None:
    first, second = await engine.sandbox("one"), await engine.sandbox("two")
    await engine.container("one", first, Job())
    one = await engine.runtime.containers(engine.identity("one").uid)
    assert {seen.name for seen in one} == {"", "main"}
    box = next(seen for seen in one if seen.identity.kind == "sandbox")
    assert box.id == first and box.state is State.RUNNING and box.identity.ip.startswith(engine.prefix)
    assert {seen.id for seen in await engine.runtime.containers() if not seen.name} == {first, second}


async def test_container_that_stands_alone(engine: Engine) -> None:
    ip = f"{engine.prefix}.9"
    first = await engine.alone("web", Job(), ip)
    await engine.runtime.start(first)
    seen = await engine.seen(first)
    assert seen is not None and seen.identity.alone and seen.identity.ip == ip
    other = await engine.alone("other", Job(), ip)
    with pytest.raises(Conflict, match=r"(?i)address already in use"):
        await engine.runtime.start(other)
    await engine.runtime.kill(first)
    await engine.until(first, lambda seen: seen.state is State.EXITED)

    async def free() -> bool | None:
        try:
            await engine.runtime.start(other)
        except Conflict:
            return None
        return True

    # The dead one's address is free, though it is still there; and a start that found it in use may be tried again.
    await until(free)
    seen = await engine.seen(other)
    assert seen is not None and seen.state is State.RUNNING


async def test_terminate_lets_it_end_by_itself(engine: Engine) -> None:
    sandbox = await engine.sandbox("web")
    id = await engine.container("web", sandbox, Job(prints=("up",)))
    await engine.runtime.start(id)
    await until(lambda: _text(engine, id, "up"))
    await engine.runtime.terminate(id)
    ended = await engine.until(id, lambda seen: seen.state is State.EXITED)
    assert ended.exit_code == 143
    await engine.runtime.terminate(id)
    await engine.runtime.kill(id)


async def test_kill_ends_what_ignores_the_signal(engine: Engine) -> None:
    sandbox = await engine.sandbox("web")
    id = await engine.container("web", sandbox, Job(prints=("up",), ignores_term=True))
    await engine.runtime.start(id)
    await until(lambda: _text(engine, id, "up"))
    await engine.runtime.terminate(id)
    seen = await engine.seen(id)
    assert seen is not None and seen.state is State.RUNNING
    await engine.runtime.kill(id)
    ended = await engine.until(id, lambda seen: seen.state is State.EXITED)
    assert ended.exit_code == 137
    assert not ended.oom_killed


async def test_start_that_fails_is_told_and_stays(engine: Engine) -> None:
    sandbox = await engine.sandbox("web")
    id = await engine.container("web", sandbox, Job(cannot_start=True))
    with pytest.raises(Refused, match="no such file or directory"):
        await engine.runtime.start(id)
    seen = await engine.seen(id)
    assert seen is not None
    assert seen.state is State.EXITED and seen.exit_code in (127, 128)
    assert "no such file or directory" in seen.error


async def test_name_in_use_is_a_conflict(engine: Engine) -> None:
    sandbox = await engine.sandbox("web")
    await engine.container("web", sandbox, Job())
    with pytest.raises(Conflict):
        await engine.container("web", sandbox, Job())
    await engine.container("web", sandbox, Job(), attempt=1)


async def test_logs(engine: Engine) -> None:
    sandbox = await engine.sandbox("web")
    id = await engine.container("web", sandbox, Job(prints=("one", "two", "three"), exit_code=0))
    await engine.runtime.start(id)
    assert await engine.output(id, LogOptions(follow=True)) == "one\ntwo\nthree\n"
    assert await engine.output(id) == "one\ntwo\nthree\n"
    assert await engine.output(id, LogOptions(tail=2)) == "two\nthree\n"
    assert await engine.output(id, LogOptions(tail=0)) == ""
    stamped = (await engine.output(id, LogOptions(timestamps=True))).splitlines()
    assert [line.partition(" ")[2] for line in stamped] == ["one", "two", "three"]
    assert stamped[0][:2] == "20" and stamped[0].partition(" ")[0].endswith("Z")
    ended = await engine.until(id, lambda seen: seen.state is State.EXITED)
    assert await engine.output(id, LogOptions(since=ended.finished_at + 10)) == ""


async def test_a_hundred_open_logs_block_nothing(engine: Engine) -> None:
    sandbox = await engine.sandbox("web")
    id = await engine.container("web", sandbox, Job(prints=("up",)))
    await engine.runtime.start(id)
    opened = asyncio.Semaphore(0)

    async def read() -> None:
        async for _ in engine.runtime.logs(id, LogOptions(follow=True)):
            opened.release()

    async with asyncio.TaskGroup() as group:
        readers = [group.create_task(read()) for _ in range(110)]
        async with asyncio.timeout(30):
            for _ in readers:
                await opened.acquire()
        async with asyncio.timeout(30):
            assert await engine.seen(id) is not None
        await engine.runtime.kill(id)


async def test_unknown_ids(engine: Engine) -> None:
    nobody = "0" * 63 + "f"
    for call in (engine.runtime.start, engine.runtime.usage):
        with pytest.raises(NotFound):
            await call(nobody)
    with pytest.raises(NotFound):
        await engine.output(nobody)
    await engine.runtime.terminate(nobody)
    await engine.runtime.kill(nobody)
    await engine.runtime.remove(nobody)


async def test_images(engine: Engine) -> None:
    found = await engine.runtime.image(BUSYBOX)
    assert found is not None and BUSYBOX in found.names and found.id.startswith("sha256:")
    assert any(BUSYBOX in image.names for image in await engine.runtime.images())
    assert await engine.runtime.image(MISSING_IMAGE) is None
    with pytest.raises(ImageError):
        await engine.runtime.pull(MISSING_IMAGE, None)


async def test_container_of_an_image_that_is_not_there(engine: Engine) -> None:
    sandbox = await engine.sandbox("web")
    identity = engine.identity("web", "main", sandbox=sandbox)
    with pytest.raises(ImageError):
        await engine.runtime.create_container(ContainerSpec(identity, MISSING_IMAGE))


async def test_hints_tell_of_starts_and_ends(engine: Engine) -> None:
    sandbox = await engine.sandbox("web")
    id = await engine.container("web", sandbox, Job())
    uid = engine.identity("web").uid
    told: list[str] = []
    connected = asyncio.Event()

    async def follow() -> None:
        async for hint in engine.runtime.hints():
            if not hint.uid:
                connected.set()
            elif hint.uid == uid:
                told.append(hint.what)

    async with asyncio.TaskGroup() as group:
        follower = group.create_task(follow())
        async with asyncio.timeout(30):
            await connected.wait()
        await engine.runtime.start(id)
        await engine.runtime.kill(id)

        async def both() -> bool | None:
            return True if {"start", "die"} <= set(told) else None

        await until(both)
        follower.cancel()


async def test_memory_volume_lives_with_its_containers(engine: Engine) -> None:
    name = f"{engine.cluster}-scratch"
    await engine.runtime.create_memory_volume(name, 1024 * 1024)
    await engine.runtime.create_memory_volume(name, 1024 * 1024)
    assert await engine.runtime.volumes() == [name]
    identity = engine.identity("web")
    mount = Mount("volume", name, "/scratch")
    identity = type(identity)(**{**vars(identity), "ip": f"{engine.prefix}.9"})
    id = await engine.runtime.create_sandbox(SandboxSpec(identity, "web", engine.network, mounts=(mount,)))
    await engine.runtime.start(id)
    with pytest.raises(Conflict):
        await engine.runtime.remove_volume(name)
    await engine.runtime.remove(id)
    await engine.runtime.remove_volume(name)
    await engine.runtime.remove_volume(name)
    assert await engine.runtime.volumes() == []


async def test_network(engine: Engine) -> None:
    assert await engine.runtime.network_bridge(engine.network)
    same = NetworkSpec(engine.network, f"{engine.prefix}.0/28", f"{engine.prefix}.1")
    await engine.runtime.ensure_network(same)
    sandbox = await engine.sandbox("web")
    with pytest.raises(Conflict):
        await engine.runtime.ensure_network(NetworkSpec(engine.network, f"{engine.prefix}.0/28", f"{engine.prefix}.14"))
    with pytest.raises(Conflict):
        await engine.runtime.remove_network(engine.network)
    await engine.runtime.remove(sandbox)
    with pytest.raises(NotFound):
        await engine.runtime.network_bridge("sampan-no-such-network")
    await engine.runtime.remove_network("sampan-no-such-network")


async def test_machine_and_usage(engine: Engine) -> None:
    machine = await engine.runtime.machine()
    assert machine.cpus >= 1
    assert 0 < machine.memory_available <= machine.memory
    assert 0 < machine.disk_free <= machine.disk
    sandbox = await engine.sandbox("web")
    id = await engine.container("web", sandbox, Job())
    await engine.runtime.start(id)
    usage = await engine.runtime.usage(id)
    assert usage.memory >= 0 and usage.cpu_seconds >= 0


async def test_paths_of_the_machine(engine: Engine) -> None:
    assert await engine.runtime.self_container() is None
    assert await engine.runtime.host_path("/var/lib/x") == "/var/lib/x"


async def _text(engine: Engine, id: str, text: str) -> bool | None:
    return True if text in await engine.output(id) else None
