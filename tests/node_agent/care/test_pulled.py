"""The record of what this agent fetched outlives it, and never claims what was there before."""

from __future__ import annotations

from node_agent.care.pulled import FILE, PulledImages
from node_agent.storage import MemoryStorage


async def test_only_what_came_by_us() -> None:
    storage = MemoryStorage()
    images = PulledImages(storage, lambda: 5.0)
    await images.pulled("app:1", "new", before=["other"])
    await images.pulled("users:1", "theirs", before=["new", "theirs"])
    await images.pulled("app:again", "new", before=["new"])
    (one,) = PulledImages(storage, lambda: 9.0).all()
    assert (one.id, one.references, one.pulled_at) == ("new", ("app:1", "app:again"), 5.0)


async def test_a_tag_moves_on() -> None:
    images = PulledImages(MemoryStorage(), lambda: 5.0)
    await images.pulled("app:latest", "first", before=[])
    await images.pulled("app:latest", "second", before=["first"])
    assert {one.id: one.references for one in images.all()} == {"first": (), "second": ("app:latest",)}


async def test_use_and_loss() -> None:
    now = 5.0
    images = PulledImages(MemoryStorage(), lambda: now)
    await images.pulled("app:1", "a", before=[])
    now = 8.0
    images.used(["a", "unknown"])
    assert [one.used_at for one in images.all()] == [8.0]
    await images.forget(["a"])
    assert images.all() == []


def test_a_broken_record_claims_nothing() -> None:
    storage = MemoryStorage()
    storage.save(FILE, b'[{"id": 1}]')
    assert PulledImages(storage, lambda: 0.0).all() == []
