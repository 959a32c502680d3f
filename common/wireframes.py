"""Frames to and from their protobuf form: the one place that knows both."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from common.frames import Delta, Snapshot
from protos import agent_pb2

V = TypeVar("V")


def encode(frame: Snapshot[V] | Delta[V], item: Callable[[str, V], agent_pb2.Item]) -> agent_pb2.Frame:
    """The message of a frame; `item` makes one item's message from key and value."""
    message = agent_pb2.Frame(epoch=frame.epoch, revision=frame.revision)
    if isinstance(frame, Snapshot):
        message.snapshot.SetInParent()
        message.snapshot.part = frame.part
        message.snapshot.more = frame.more
        message.snapshot.items.extend(item(key, value) for key, value in frame.items.items())
    else:
        message.delta.base = frame.base
        message.delta.SetInParent()
        message.delta.upserts.extend(item(key, value) for key, value in frame.upserts.items())
        message.delta.removed.extend(frame.removed)
    return message


def decode(message: agent_pb2.Frame) -> Snapshot[agent_pb2.Item] | Delta[agent_pb2.Item]:
    """The frame of a message; ValueError when it carries neither snapshot nor delta."""
    which = message.WhichOneof("change")
    if which == "snapshot":
        part = message.snapshot
        items = {item.key: item for item in part.items}
        return Snapshot(message.epoch, message.revision, items, part.part, part.more)
    if which == "delta":
        change = message.delta
        upserts = {item.key: item for item in change.upserts}
        return Delta(message.epoch, message.revision, change.base, upserts, tuple(change.removed))
    raise ValueError("a frame must carry a snapshot or a delta")
