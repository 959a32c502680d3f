"""The store's promises: compare-and-swap, one growing revision, watches that deliver each change once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from common.errors import AlreadyExists, BadRequest, Conflict, Expired, NotFound
from master.store.store import ABSENT, Change, Put, Remove, Store, clone, revision_of
from protos.core_pb2 import ConfigMap, Pod
from tests.master.store.conftest import Open


def configmap(name: str, value: str = "", namespace: str = "default") -> ConfigMap:
    made = ConfigMap(data={"v": value})
    made.metadata.name = name
    made.metadata.namespace = namespace
    return made


def seen(changes: list[Change]) -> list[tuple[str, str, int]]:
    return [(change.type, change.key[2], change.revision) for change in changes]


async def test_a_write_is_read_back_with_its_revision(store: Store) -> None:
    (first,) = await store.commit(Put(configmap("a", "1"), ABSENT))
    (second,) = await store.commit(Put(configmap("b"), ABSENT))
    assert (revision_of(first), revision_of(second)) == (1, 2)
    assert store.get("ConfigMap", "default", "a") == first
    assert store.revision == 2
    assert store.get("ConfigMap", "default", "c") is None


async def test_list_is_sorted_and_by_namespace(store: Store) -> None:
    for namespace, name in [("z", "b"), ("z", "a"), ("a", "c")]:
        await store.commit(Put(configmap(name, namespace=namespace), ABSENT))
    assert [(o.metadata.namespace, o.metadata.name) for o in store.list("ConfigMap")] == [
        ("a", "c"),
        ("z", "a"),
        ("z", "b"),
    ]
    assert [o.metadata.name for o in store.list("ConfigMap", "z")] == ["a", "b"]
    assert store.list("ConfigMap", "none") == []


async def test_compare_and_swap(store: Store) -> None:
    (made,) = await store.commit(Put(configmap("a", "1"), ABSENT))
    with pytest.raises(AlreadyExists, match='configmaps "a" already exists'):
        await store.commit(Put(configmap("a"), ABSENT))
    await store.commit(Put(configmap("a", "2"), revision_of(made)))
    with pytest.raises(Conflict, match="since revision 1"):
        await store.commit(Put(configmap("a", "3"), revision_of(made)))
    with pytest.raises(NotFound):
        await store.commit(Put(configmap("gone"), 7))
    with pytest.raises(NotFound):
        await store.commit(Remove("ConfigMap", "default", "gone"))
    assert store.get("ConfigMap", "default", "a").data["v"] == "2"  # type: ignore[union-attr]


async def test_of_many_concurrent_swaps_one_wins(store: Store) -> None:
    (made,) = await store.commit(Put(configmap("a"), ABSENT))
    results = await asyncio.gather(
        *(store.commit(Put(configmap("a", str(i)), revision_of(made))) for i in range(20)), return_exceptions=True
    )
    assert sum(not isinstance(r, BaseException) for r in results) == 1
    assert all(isinstance(r, Conflict) for r in results if isinstance(r, BaseException))


async def test_a_refused_write_takes_its_whole_commit_with_it(store: Store) -> None:
    await store.commit(Put(configmap("a"), ABSENT))
    with pytest.raises(AlreadyExists):
        await store.commit(Put(configmap("b"), ABSENT), Put(configmap("a"), ABSENT))
    assert store.get("ConfigMap", "default", "b") is None
    (made,) = await store.commit(Put(configmap("b"), ABSENT))
    assert revision_of(made) == 2, "a refused commit uses up no revision"


async def test_what_was_committed_cannot_be_changed_from_outside(store: Store) -> None:
    mine = configmap("a", "1")
    await store.commit(Put(mine, ABSENT))
    mine.data["v"] = "changed"
    assert store.get("ConfigMap", "default", "a").data["v"] == "1"  # type: ignore[union-attr]


async def test_watch_delivers_each_change_once_and_in_order(store: Store) -> None:
    objects, revision, watch = store.snapshot_and_watch(["ConfigMap"])
    assert (objects, revision) == ([], 0)
    await asyncio.gather(*(store.commit(Put(configmap(f"n{i}"), ABSENT)) for i in range(50)))
    pod = Pod()
    pod.metadata.name, pod.metadata.namespace = "p", "default"
    await store.commit(Put(pod, ABSENT))
    await store.commit(Remove("ConfigMap", "default", "n7"))
    got: list[Change] = []
    async with asyncio.timeout(30):
        while len(got) < 51:
            got += await watch.batch()
    assert [change.revision for change in got] == [*range(1, 51), 52]
    assert got[-1].type == "DELETED" and revision_of(got[-1].obj) == 52
    assert got[-1].old.metadata.name == "n7"
    watch.close()
    assert await watch.batch() == []


async def test_a_watch_resumes_across_a_restart(tmp_path: Path, opened: Open) -> None:
    async with opened(tmp_path) as store:
        for i in range(5):
            await store.commit(Put(configmap("a", str(i))))
    async with opened(tmp_path) as store:
        watch = store.watch(["ConfigMap"], since=2)
        await store.commit(Put(configmap("b"), ABSENT))
        async with asyncio.timeout(30):
            changes = await watch.batch()
        assert seen(changes) == [("MODIFIED", "a", 3), ("MODIFIED", "a", 4), ("MODIFIED", "a", 5), ("ADDED", "b", 6)]
        assert changes[0].old.data["v"] == "1"


async def test_history_is_bounded_and_says_so(tmp_path: Path, opened: Open) -> None:
    async with opened(tmp_path, history_limit=10) as store:
        slow = store.watch(["ConfigMap"])
        for i in range(50):
            await store.commit(Put(configmap("a", str(i))))
        with pytest.raises(Expired, match="list again"):
            store.watch(["ConfigMap"], since=3)
        with pytest.raises(Expired, match="newer than the store"):
            store.watch(["ConfigMap"], since=51)
        with pytest.raises(Expired, match="fell behind"):
            await slow.batch()
    async with opened(tmp_path, history_limit=10) as store:
        assert store.watch(["ConfigMap"], since=40).revision == 40
        with pytest.raises(Expired):
            store.watch(["ConfigMap"], since=39)


async def test_backup_and_restore(tmp_path: Path, store: Store) -> None:
    await store.commit(Put(configmap("a", "then"), ABSENT))
    await store.backup(tmp_path / "copy.db")
    await store.commit(Put(configmap("a", "now")))
    await store.commit(Put(configmap("b"), ABSENT))
    watch = store.watch()
    before = store.revision
    assert await store.restore(tmp_path / "copy.db") == 1
    assert store.get("ConfigMap", "default", "a").data["v"] == "then"  # type: ignore[union-attr]
    assert store.get("ConfigMap", "default", "b") is None
    assert store.revision > before, "revisions only grow, also over a restore"
    with pytest.raises(Expired, match="restored"):
        await watch.batch()
    (made,) = await store.commit(Put(clone(store.get("ConfigMap", "default", "a"))))
    assert revision_of(made) == store.revision


async def test_restore_of_something_else_changes_nothing(tmp_path: Path, store: Store) -> None:
    await store.commit(Put(configmap("a"), ABSENT))
    (tmp_path / "text").write_text("not a database at all" * 100)
    (tmp_path / "empty").write_bytes(b"")
    for name in ("text", "empty", "missing"):
        with pytest.raises(BadRequest, match="not a whole Sampan backup"):
            await store.restore(tmp_path / name)
    assert store.get("ConfigMap", "default", "a") is not None
    await store.commit(Put(configmap("b"), ABSENT))
