"""The table on disk: what was written is read back, damage is nothing worse than no table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.routing import Route, route_to_json
from proxy import storage
from proxy.table import Delta, read_delta
from tests.proxy.support import route, table, until


def test_written_and_read_back(tmp_path: Path) -> None:
    held = table(route("10.96.0.1", 80, [("10.0.0.1", 80)], node_port=30000), addresses=("192.0.2.1",))
    assert storage.load(tmp_path) is None
    storage.save(tmp_path, held)
    assert storage.load(tmp_path) == held
    assert (tmp_path / storage.FILE_NAME).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [storage.FILE_NAME]


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"epoch": "e"}', '{"epoch":"e","revision":1,"addresses":3}'])
def test_damage_is_no_table(tmp_path: Path, damage: str) -> None:
    (tmp_path / storage.FILE_NAME).write_text(damage)
    assert storage.load(tmp_path) is None


async def test_tables_in_quick_succession_end_with_the_latest(tmp_path: Path) -> None:
    saver = storage.Saver(tmp_path)
    for _ in range(20):
        last = table()
        saver.put(last)
    await until(lambda: storage.load(tmp_path) == last, "the latest is on disk")
    last = table()
    saver.put(last)
    await saver.close()
    assert storage.load(tmp_path) == last


async def test_a_directory_that_cannot_be_written_is_survived(tmp_path: Path) -> None:
    saver = storage.Saver(tmp_path / "missing")
    saver.put(table())
    await saver.close()


def delta(base: int, *upserts: Route) -> tuple[bytes, Delta]:
    body = {"epoch": "test", "base": base, "revision": base + 1, "upserts": [route_to_json(r) for r in upserts]}
    body["removed"] = []
    return json.dumps({"delta": body}).encode() + b"\n", read_delta(body)


async def test_changes_are_added_and_a_torn_line_is_not_read(tmp_path: Path) -> None:
    saver = storage.Saver(tmp_path)
    held = table(route("10.96.0.1", 80, [("10.0.0.1", 80)]))
    saver.put(held)
    saver.finish()
    size = (tmp_path / storage.FILE_NAME).stat().st_size
    for number in range(5):
        line, change = delta(held.revision, route(f"10.96.1.{number}", 80, [("10.0.0.1", 80)], key=f"a/{number}"))
        held.follow(change)
        saver.add(line)
    await until(lambda: storage.load(tmp_path) == held, "the changes are on disk")
    assert (tmp_path / storage.FILE_NAME).stat().st_size > size
    with (tmp_path / storage.FILE_NAME).open("ab") as file:
        file.write(b'{"delta":{"epoch":"te')
    assert storage.load(tmp_path) == held
    await saver.close()


async def test_changes_that_outweigh_the_table_are_folded_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "SMALL_JOURNAL", 2000)
    monkeypatch.setattr(storage, "SHORTEST_PAUSE", 0.001)
    saver = storage.Saver(tmp_path)
    held = table(route("10.96.0.1", 80, [("10.0.0.1", 80)]))
    saver.put(held)
    largest = 0
    for number in range(100):
        line, change = delta(held.revision, route("10.96.0.1", 80, [("10.0.0.1", 1 + number)]))
        held.follow(change)
        saver.add(line)
        await until(lambda: not saver._lines and not len(saver._tasks), "written")
        largest = max(largest, (tmp_path / storage.FILE_NAME).stat().st_size)
    assert storage.load(tmp_path) == held
    assert largest < 4000
    await saver.close()


async def test_after_a_failed_write_the_whole_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "late"
    saver = storage.Saver(folder)
    held = table(route("10.96.0.1", 80, [("10.0.0.1", 80)]))
    saver.put(held)
    saver.finish()
    folder.mkdir()
    line, change = delta(held.revision)
    held.follow(change)
    saver.add(line)
    await until(lambda: storage.load(folder) == held, "the whole table is there")
    await saver.close()
