"""Writer and reader together: whatever the line does, a reader equals the writer or says Resync."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.frames import Delta, FrameReader, FrameWriter, Resync, Snapshot
from common.wireframes import decode, encode
from protos import agent_pb2

Frame = Snapshot[str] | Delta[str]

KEYS = st.sampled_from(["a", "b", "c", "d", "e"])
CHANGES = st.one_of(
    st.tuples(st.just("put"), KEYS, st.text("xyz", min_size=1, max_size=8)),
    st.tuples(st.just("remove"), KEYS, st.just("")),
)


def writer(history: int = 10_000, part_bytes: int = 10) -> FrameWriter[str]:
    return FrameWriter(len, history=history, part_bytes=part_bytes)


def change(target: FrameWriter[str], step: tuple[str, str, str]) -> None:
    kind, key, value = step
    if kind == "put":
        target.put(key, value)
    else:
        target.remove(key)


def deliver(reader: FrameReader[str], frames: list[Frame]) -> None:
    for frame in frames:
        reader.apply(frame)


@given(
    steps=st.lists(st.lists(CHANGES, max_size=4), max_size=8),
    history=st.integers(1, 6),
    data=st.data(),
)
def test_reader_equals_writer_or_says_resync(steps: Any, history: int, data: st.DataObject) -> None:
    """Frames are lost, doubled and swapped at will; the state held is always one the writer had."""
    source = writer(history)
    had: dict[int, dict[str, str]] = {0: {}}
    line: list[Frame] = list(source.frames(None))
    cursor = source.revision
    for batch in steps:
        for step in batch:
            change(source, step)
            had[source.revision] = dict(source.items)
        line += source.frames(cursor)
        cursor = source.revision
    arrived = data.draw(
        st.lists(st.sampled_from(range(len(line))), max_size=2 * len(line)).map(lambda order: [line[i] for i in order])
    )
    reader: FrameReader[str] = FrameReader()
    for frame in arrived:
        before = (dict(reader.items), reader.revision, reader.epoch)
        try:
            reader.apply(frame)
        except Resync:
            assert (dict(reader.items), reader.revision, reader.epoch) == before
            reader.reopen()
            deliver(reader, source.frames(None))
            assert dict(reader.items) == dict(source.items)
        if reader.epoch:
            assert dict(reader.items) == had[reader.revision]


@given(steps=st.lists(CHANGES, max_size=30), history=st.integers(1, 40), part_bytes=st.integers(1, 30))
def test_a_reader_that_gets_everything_follows(steps: Any, history: int, part_bytes: int) -> None:
    source = writer(history, part_bytes)
    reader: FrameReader[str] = FrameReader()
    deliver(reader, source.frames(None))
    for step in steps:
        change(source, step)
        deliver(reader, source.frames(reader.revision))
        assert dict(reader.items) == dict(source.items)
        assert reader.revision == source.revision


@given(steps=st.lists(CHANGES, max_size=30), base=st.integers(0, 30))
def test_a_delta_from_any_revision_leads_to_now(steps: Any, base: int) -> None:
    source = writer(part_bytes=1000)
    reader: FrameReader[str] = FrameReader()
    deliver(reader, source.frames(None))
    for step in steps:
        if source.revision == base:
            deliver(reader, source.frames(reader.revision))
        change(source, step)
    deliver(reader, source.frames(reader.revision))
    assert dict(reader.items) == dict(source.items)


def test_nothing_to_say_is_no_frame() -> None:
    source = writer()
    source.put("a", "1")
    assert source.frames(source.revision) == []
    assert source.frames(None) == [Snapshot(source.epoch, 1, {"a": "1"})]


def test_an_empty_state_still_opens_with_a_snapshot() -> None:
    source = writer()
    [frame] = source.frames(None)
    reader: FrameReader[str] = FrameReader()
    applied = reader.apply(frame)
    assert applied is not None and applied.whole and reader.epoch == source.epoch


def test_parts_stay_below_the_bound_and_one_large_item_travels_alone() -> None:
    source = writer(part_bytes=10)
    for key, value in {"a": "1234567", "b": "x" * 50, "c": "12", "d": "34"}.items():
        source.put(key, value)
    parts = source.frames(None)
    assert [list(part.items) for part in parts if isinstance(part, Snapshot)] == [["a"], ["b"], ["c", "d"]]
    assert [part.more for part in parts if isinstance(part, Snapshot)] == [True, True, False]


def test_nothing_is_applied_before_the_last_part() -> None:
    source = writer(part_bytes=3)
    source.put("a", "111")
    source.put("b", "222")
    first, last = source.frames(None)
    reader: FrameReader[str] = FrameReader()
    assert reader.apply(first) is None
    assert dict(reader.items) == {}
    reader.apply(last)
    assert dict(reader.items) == {"a": "111", "b": "222"}


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_lost_part_is_seen(lost: int) -> None:
    source = writer(part_bytes=3)
    for key in "abc":
        source.put(key, key * 3)
    parts = source.frames(None)
    source.put("a", "zzz")
    [delta] = writer_delta(source, 3)
    reader: FrameReader[str] = FrameReader()
    with pytest.raises(Resync):
        deliver(reader, [*parts[:lost], *parts[lost + 1 :], delta])
    assert dict(reader.items) == {}


def writer_delta(source: FrameWriter[str], base: int) -> list[Frame]:
    frames = source.frames(base)
    assert all(isinstance(frame, Delta) for frame in frames)
    return frames


def test_a_reader_behind_the_history_gets_a_snapshot() -> None:
    source = writer(history=2, part_bytes=1000)
    for key in "abcd":
        source.put(key, key)
    assert isinstance(source.frames(1)[0], Snapshot)
    assert isinstance(source.frames(2)[0], Delta)
    assert isinstance(source.frames(99)[0], Snapshot), "a reader from the future"


def test_changing_one_key_for_ever_keeps_no_history() -> None:
    source = writer(history=3, part_bytes=1000)
    source.put("still", "1")
    for number in range(100):
        source.put("busy", str(number))
    assert isinstance(source.frames(50)[0], Delta)


def test_two_writers_never_chain() -> None:
    one, other = writer(), writer()
    one.put("a", "1")
    other.put("b", "1")
    reader: FrameReader[str] = FrameReader()
    deliver(reader, one.frames(None))
    other.put("c", "2")
    with pytest.raises(Resync):
        deliver(reader, other.frames(1))
    assert dict(reader.items) == {"a": "1"}


def test_refresh_is_not_a_change_and_replace_says_only_what_differs() -> None:
    source = writer(part_bytes=1000)
    source.put("a", "1")
    source.refresh("a", "2")
    source.refresh("never", "2")
    assert source.revision == 1 and dict(source.items) == {"a": "2"}
    source.replace({"a": "2", "b": "3"})
    [frame] = source.frames(1)
    assert frame == Delta(source.epoch, 2, 1, {"b": "3"}, ())
    source.replace({"b": "3"})
    [frame] = source.frames(2)
    assert frame == Delta(source.epoch, 3, 2, {}, ("a",))


def test_protobuf_form_reads_back_equal() -> None:
    source: FrameWriter[agent_pb2.Item] = FrameWriter(lambda item: item.ByteSize())
    source.put("node/a", agent_pb2.Item(key="node/a", node=agent_pb2.PeerNode(name="a")))
    frames = source.frames(None)
    source.put("node/b", agent_pb2.Item(key="node/b", node=agent_pb2.PeerNode(name="b")))
    source.remove("node/a")
    frames += source.frames(1)
    for frame in frames:
        wire = encode(frame, lambda key, value: value).SerializeToString()
        assert decode(agent_pb2.Frame.FromString(wire)) == copy.copy(frame)
    with pytest.raises(ValueError, match="snapshot or a delta"):
        decode(agent_pb2.Frame(epoch="x"))
