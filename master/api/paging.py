"""Lists in pages that belong together: the later pages show the state of the first one."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from common.errors import BadRequest, Expired

DEFAULT_LIMIT = 500
LARGEST_LIMIT = 5000
# gRPC's own bound for one message is 4 MiB unless a client raises it.
PAGE_BYTES = 3 * 1024 * 1024
KEEP_SECONDS = 300.0
KEEP_LISTS = 64


@dataclass
class _Rest:
    objects: Sequence[Any]
    revision: int
    question: tuple[str, ...]
    until: float


@dataclass(frozen=True)
class Page:
    objects: Sequence[Any]
    revision: int
    token: str


class Pages:
    """Holds the rest of lists that are being read; objects are shared with the store, so this costs little.

    `clock` gives monotonic seconds. A token works for five minutes, with the same question.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._rests: OrderedDict[str, _Rest] = OrderedDict()

    def first(self, objects: Sequence[Any], revision: int, question: tuple[str, ...], limit: int) -> Page:
        return self._cut(objects, revision, question, limit)

    def next(self, token: str, question: tuple[str, ...], limit: int) -> Page:
        """Raises Expired when the rest is kept no longer, BadRequest when the question is another one."""
        rest = self._rests.get(token)
        if rest is None or rest.until < self._clock():
            raise Expired("the continue token is no longer valid: list again from the start")
        if rest.question != question:
            raise BadRequest("continue_token: belongs to a list with another kind, namespace or selector")
        return self._cut(rest.objects, rest.revision, question, limit)

    def _cut(self, objects: Sequence[Any], revision: int, question: tuple[str, ...], limit: int) -> Page:
        limit = _limit(limit)
        count = size = 0
        while count < min(limit, len(objects)):
            size += objects[count].ByteSize()
            if count and size > PAGE_BYTES:
                break
            count += 1
        if count == len(objects):
            return Page(objects, revision, "")
        token = secrets.token_urlsafe(12)
        now = self._clock()
        while self._rests and (len(self._rests) >= KEEP_LISTS or next(iter(self._rests.values())).until < now):
            self._rests.popitem(last=False)
        self._rests[token] = _Rest(objects[count:], revision, question, now + KEEP_SECONDS)
        return Page(objects[:count], revision, token)


def _limit(limit: int) -> int:
    if limit < 0:
        raise BadRequest(f"limit: must be 0-{LARGEST_LIMIT} (0 means {DEFAULT_LIMIT}), got {limit}")
    return min(limit or DEFAULT_LIMIT, LARGEST_LIMIT)
