"""State from frames survives a restart; files are private and replaced as a whole."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from common.errors import Unavailable
from common.frames import FrameWriter, Resync
from common.wireframes import encode
from node_agent.assignments import ROUTES, FrameState, Keeper
from node_agent.storage import DirectoryLock, FileStorage, MemoryStorage
from protos import agent_pb2, core_pb2


def item(name: str) -> agent_pb2.Item:
    pod = core_pb2.Pod(metadata=core_pb2.ObjectMeta(name=name, uid=name))
    return agent_pb2.Item(key=f"pod/{name}", pod=pod)


def source(*names: str) -> FrameWriter[agent_pb2.Item]:
    writer: FrameWriter[agent_pb2.Item] = FrameWriter(lambda one: one.ByteSize())
    for name in names:
        writer.put(f"pod/{name}", item(name))
    return writer


def frames(writer: FrameWriter[agent_pb2.Item], base: int | None) -> list[agent_pb2.Frame]:
    return [encode(frame, lambda key, value: value) for frame in writer.frames(base)]


async def test_what_was_applied_is_there_after_a_restart(tmp_path: Path) -> None:
    keeper = Keeper(FileStorage(tmp_path))
    state = FrameState(ROUTES, keeper, lazily=True)
    assert not state.restore() and not state.complete
    writer = source("a")
    for frame in frames(writer, None):
        state.apply(frame)
    writer.put("pod/b", item("b"))
    for frame in frames(writer, 1):
        state.apply(frame)
    async with asyncio.TaskGroup() as group:
        writing = group.create_task(keeper.run())
        async with asyncio.timeout(30):
            again = FrameState(ROUTES, Keeper(FileStorage(tmp_path)), lazily=True)
            while not (again.restore() and len(again.items) == 2):
                await asyncio.sleep(0.01)
        writing.cancel()
    assert dict(again.items) == dict(state.items)
    assert (again.complete, again.epoch, again.revision) == (True, writer.epoch, 2)
    assert (tmp_path / ROUTES).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [ROUTES]


def test_an_unreadable_file_is_not_taken_for_an_empty_state(tmp_path: Path) -> None:
    (tmp_path / ROUTES).write_bytes(b"\xff\xff")
    state = FrameState(ROUTES, Keeper(FileStorage(tmp_path)), lazily=True)
    assert not state.restore() and not state.complete


async def test_a_gap_leaves_the_state_for_use() -> None:
    state = FrameState(ROUTES, Keeper(MemoryStorage()), lazily=True)
    writer = source("a")
    for frame in frames(writer, None):
        state.apply(frame)
    writer.put("pod/b", item("b"))
    writer.put("pod/c", item("c"))
    [frame] = frames(writer, 2)
    with pytest.raises(Resync):
        state.apply(frame)
    state.reopen()
    assert set(state.items) == {"pod/a"} and state.complete
    for frame in frames(writer, None):
        state.apply(frame)
    assert len(state.items) == 3


def test_a_failed_write_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = FileStorage(tmp_path)
    storage.save("x", b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        storage.save("x", b"new")
    assert storage.load("x") == b"old" and len(list(tmp_path.iterdir())) == 1
    assert storage.load("missing") is None


def test_one_agent_a_directory(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path)
    with pytest.raises(Unavailable, match="another agent"):
        DirectoryLock(tmp_path)
    lock.release()
    DirectoryLock(tmp_path).release()
