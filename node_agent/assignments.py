"""What this node is to run and where services are, as the frames tell; kept on disk for a boot without a master."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import structlog
from google.protobuf.message import DecodeError

from common.frames import Applied, FrameReader
from common.wireframes import decode
from node_agent.storage import Storage
from protos import agent_pb2

log = structlog.get_logger()

ASSIGNMENTS = "assignments.pb"
ROUTES = "routes.pb"
REGISTRATION = "registration.pb"
STATUSES = "statuses.pb"

# Changes that come within so many seconds are written once. What is not here is written by `save_now`.
WRITE_EVERY_SECONDS = {ROUTES: 1.0, STATUSES: 0.5}

Items = Mapping[str, agent_pb2.Item]


class Keeper:
    """Writes the latest state of each file, one at a time and off the event loop."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._dirty: dict[str, Callable[[], bytes]] = {}
        self._wake = asyncio.Event()

    def load(self, name: str) -> bytes | None:
        return self._storage.load(name)

    def keep(self, name: str, make: Callable[[], bytes]) -> None:
        """Has the file written soon; `make` is called on the event loop when its turn comes."""
        self._dirty[name] = make
        self._wake.set()

    async def save_now(self, name: str, data: bytes) -> None:
        """Returns when it is on disk. Raises OSError."""
        self._dirty.pop(name, None)
        await asyncio.to_thread(self._storage.save, name, data)

    async def run(self) -> None:
        """Writes until cancelled; a full disk is logged and tried again."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(min((WRITE_EVERY_SECONDS[name] for name in self._dirty), default=0.0))
            for name in sorted(self._dirty):
                make = self._dirty.pop(name)
                try:
                    await asyncio.to_thread(self._storage.save, name, make())
                except OSError as error:
                    log.error("state.not_written", file=name, cause=str(error))
                    self._dirty.setdefault(name, make)
                    await asyncio.sleep(1.0)
                    self._wake.set()


class FrameState:
    """One stream's state: follows frames, and restores itself from one file.

    With `lazily` it also keeps itself there; otherwise the owner does, by `serialized()`, before it acts.
    """

    def __init__(self, name: str, keeper: Keeper, *, lazily: bool) -> None:
        self._name = name
        self._keeper = keeper
        self._lazily = lazily
        self._reader: FrameReader[agent_pb2.Item] = FrameReader()
        # True once there is a complete state, from disk or from the master.
        self.complete = False

    @property
    def items(self) -> Items:
        return self._reader.items

    @property
    def epoch(self) -> str:
        return self._reader.epoch

    @property
    def revision(self) -> int:
        return self._reader.revision

    def restore(self) -> bool:
        """Takes what the last run kept; False when there is nothing usable."""
        data = self._keeper.load(self._name)
        if data is None:
            return False
        try:
            frame = decode(agent_pb2.Frame.FromString(data))
        except (DecodeError, ValueError) as error:
            log.error("state.unreadable", file=self._name, cause=str(error))
            return False
        self._reader.restore(frame.epoch, frame.revision, getattr(frame, "items", {}))
        self.complete = True
        return True

    def reopen(self) -> None:
        """A new stream begins."""
        self._reader.reopen()

    def apply(self, message: agent_pb2.Frame) -> Applied[agent_pb2.Item] | None:
        """Follows one frame; None while parts of a snapshot are to come. Raises Resync, ValueError."""
        applied = self._reader.apply(decode(message))
        if applied is not None:
            self.complete = True
            if self._lazily:
                self._keeper.keep(self._name, self.serialized)
        return applied

    def serialized(self) -> bytes:
        """The state as `restore` reads it."""
        frame = agent_pb2.Frame(epoch=self._reader.epoch, revision=self._reader.revision)
        frame.snapshot.items.extend(self._reader.items.values())
        frame.snapshot.SetInParent()
        return frame.SerializeToString()
