"""Pages: bounded in number and size, of one moment, and said to be gone when they are."""

from __future__ import annotations

import pytest

from common.errors import BadRequest, Expired
from master.api.paging import KEEP_LISTS, KEEP_SECONDS, PAGE_BYTES, Pages
from protos import core_pb2
from tests.master.api.conftest import Clock

QUESTION = ("Pod", "", "", "")


def objects(count: int, size: int = 1) -> list[core_pb2.ConfigMap]:
    return [core_pb2.ConfigMap(data={"k": "x" * size}) for _ in range(count)]


def test_pages_end() -> None:
    pages, rest = Pages(Clock()), objects(5)
    page = pages.first(rest, 7, QUESTION, 2)
    sizes = [len(page.objects)]
    while page.token:
        page = pages.next(page.token, QUESTION, 2)
        sizes.append(len(page.objects))
        assert page.revision == 7
    assert sizes == [2, 2, 1]
    assert pages.first([], 7, QUESTION, 0).token == ""


def test_a_page_fits_one_message() -> None:
    page = Pages(Clock()).first(objects(10, 1_000_000), 1, QUESTION, 0)
    assert 0 < len(page.objects) < 10 and page.token
    assert sum(obj.ByteSize() for obj in page.objects) <= PAGE_BYTES
    assert len(Pages(Clock()).first(objects(2, 4_000_000), 1, QUESTION, 0).objects) == 1


def test_tokens_expire_and_belong_to_their_question() -> None:
    clock = Clock()
    pages = Pages(clock)
    token = pages.first(objects(3), 1, QUESTION, 1).token
    with pytest.raises(BadRequest, match="another kind"):
        pages.next(token, ("Node", "", "", ""), 1)
    clock.now += KEEP_SECONDS + 1
    with pytest.raises(Expired, match="list again"):
        pages.next(token, QUESTION, 1)
    with pytest.raises(BadRequest, match="limit"):
        pages.first([], 1, QUESTION, -1)


def test_what_is_kept_is_bounded() -> None:
    pages = Pages(Clock())
    tokens = [pages.first(objects(2), 1, QUESTION, 1).token for _ in range(KEEP_LISTS + 5)]
    assert len(pages._rests) == KEEP_LISTS
    with pytest.raises(Expired):
        pages.next(tokens[0], QUESTION, 1)
    pages.next(tokens[-1], QUESTION, 1)
