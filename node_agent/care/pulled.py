"""Which images on the engine this agent has fetched: kept on disk, so that nobody else's are ever removed."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Callable, Iterable

import structlog

from node_agent.care.imagegc import Pulled
from node_agent.storage import Storage

FILE = "images.json"

log = structlog.get_logger(__name__)


class PulledImages:
    """The agent's own images. What is not in here was there before, or came by other hands."""

    def __init__(self, storage: Storage, now: Callable[[], float]) -> None:
        self._storage, self._now = storage, now
        self._images = {one.id: one for one in _read(storage.load(FILE))}
        self._saving = asyncio.Lock()

    def all(self) -> list[Pulled]:
        return list(self._images.values())

    async def pulled(self, reference: str, id: str, before: Iterable[str]) -> None:
        """`reference` was fetched and is `id`; `before` are the ids of the images that were there already."""
        known, now = self._images.get(id), self._now()
        if known is None:
            if id in set(before):
                return
            known = Pulled(id, (), now, now)
        references = tuple(dict.fromkeys((*known.references, reference)))
        # A name stands for one image: what had it before has it no more.
        for other in self._images.values():
            if other.id != id and reference in other.references:
                rest = tuple(name for name in other.references if name != reference)
                self._images[other.id] = dataclasses.replace(other, references=rest)
        self._images[id] = dataclasses.replace(known, references=references, pulled_at=now)
        await self._save()

    def used(self, ids: Iterable[str]) -> None:
        """These are in use now. On disk with the next change: a crash makes them look older, not younger."""
        now = self._now()
        for id in ids:
            known = self._images.get(id)
            if known is not None:
                self._images[id] = dataclasses.replace(known, used_at=now)

    async def forget(self, ids: Iterable[str]) -> None:
        """They are gone, by whoever's hand: who fetches them next owns them."""
        gone = [id for id in ids if self._images.pop(id, None) is not None]
        if gone:
            await self._save()

    async def _save(self) -> None:
        async with self._saving:
            data = json.dumps([dataclasses.asdict(one) for one in self._images.values()]).encode()
            try:
                await asyncio.to_thread(self._storage.save, FILE, data)
            except OSError as error:
                # An image that is not on record stays on the engine: the harmless side.
                log.error("state.not_written", file=FILE, cause=str(error))


def _read(data: bytes | None) -> list[Pulled]:
    if data is None:
        return []
    try:
        return [
            Pulled(str(one["id"]), tuple(one["references"]), float(one["pulled_at"]), float(one["used_at"]))
            for one in json.loads(data)
        ]
    except (ValueError, KeyError, TypeError) as error:
        log.error("state.unreadable", file=FILE, cause=str(error))
        return []
