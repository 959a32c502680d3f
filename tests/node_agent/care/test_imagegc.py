"""Which images go: only ours, only unused, the longest unused first, and no more than needed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_agent.care.imagegc import Pulled, familiar, garbage, to_free
from node_agent.care.pressure import Reading
from node_agent.runtime.seam import ImageSeen


@pytest.mark.parametrize(("used", "amount"), [(84, 0), (85, 5), (90, 10), (100, 20)])
def test_watermarks(used: int, amount: int) -> None:
    assert to_free(Reading(100 - used, 100), 85, 80) == amount


def test_watermarks_can_be_turned_off() -> None:
    assert to_free(Reading(0, 100), 100, 80) == 0
    assert to_free(Reading(0, 0), 85, 80) == 0


def picked(ours: list[Pulled], there: list[ImageSeen], **change: object) -> list[str]:
    given: dict[str, object] = {"used": set(), "wanted": set(), "now": 1000.0, "least_age": 120.0, "amount": None}
    return [one.id for one in garbage(ours, {one.id: one for one in there}, **{**given, **change})]  # type: ignore[arg-type]


OLD = Pulled("old", ("app:1",), 10.0, 100.0)
NEWER = Pulled("newer", ("app:2",), 10.0, 500.0)
THERE = [ImageSeen("old", ("app:1", "app@sha256:00"), 50), ImageSeen("newer", ("app:2",), 50)]


def test_longest_unused_first_and_no_more_than_needed() -> None:
    assert picked([NEWER, OLD], THERE) == ["old", "newer"]
    assert picked([NEWER, OLD], THERE, amount=50) == ["old"]
    assert picked([NEWER, OLD], THERE, amount=51) == ["old", "newer"]
    assert picked([NEWER, OLD], THERE, amount=0) == []


def test_who_stays() -> None:
    assert picked([OLD], THERE, used={"old"}) == []
    assert picked([OLD], THERE, wanted={"app:1"}) == []
    assert picked([OLD], THERE, now=219.0) == []
    assert picked([OLD], []) == []
    tagged = ImageSeen("old", ("app:1", "mine:kept"), 50)
    assert picked([OLD], [tagged]) == []


@pytest.mark.parametrize(
    ("reference", "listed"),
    [
        ("nginx", "nginx:latest"),
        ("docker.io/library/nginx:1", "nginx:1"),
        ("docker.io/team/app", "team/app:latest"),
        ("host:5000/app", "host:5000/app:latest"),
        ("app@sha256:00", "app@sha256:00"),
    ],
)
def test_names_as_the_engine_lists_them(reference: str, listed: str) -> None:
    assert familiar(reference) == listed


_IDS = st.sampled_from("abcdef")


@given(
    st.dictionaries(_IDS, st.tuples(st.floats(0, 1000), st.floats(0, 1000))),
    st.dictionaries(_IDS, st.integers(0, 100)),
    st.sets(_IDS),
    st.none() | st.integers(0, 300),
)
def test_safety(
    ours: dict[str, tuple[float, float]], there: dict[str, int], used: set[str], amount: int | None
) -> None:
    records = [Pulled(id, (f"{id}:1",), *times) for id, times in ours.items()]
    images = [ImageSeen(id, (f"{id}:1",), size) for id, size in there.items()]
    found = picked(records, images, used=used, amount=amount)
    assert set(found) <= (set(ours) & set(there)) - used
    assert all(1000.0 - max(ours[id]) >= 120.0 for id in found)
    if amount is not None and found:
        assert sum(there[id] for id in found[:-1]) < amount
