"""Slots always hold what is wanted, without gaps, and clients that are kept at one stay where they can."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.nft.slots import Target, fit, fit_in_place, moved

targets = st.sets(st.integers(1, 12).map(lambda n: Target(f"10.0.0.{n}", 80)), max_size=12)


@settings(max_examples=200)
@given(st.lists(st.tuples(targets, st.booleans()), max_size=8))
def test_slots_hold_the_wanted_without_gaps(turns: list[tuple[set[Target], bool]]) -> None:
    slots: list[Target] = []
    kernel: dict[int, Target] = {}
    for wanted, in_place in turns:
        before = list(slots)
        (fit_in_place if in_place else fit)(slots, dict.fromkeys(sorted(wanted)))
        dropped, put = moved(before, slots)
        for slot in dropped:
            del kernel[slot]
        for slot, target in put:
            assert slot not in kernel
            kernel[slot] = target
        assert kernel == dict(enumerate(slots))
        assert set(slots) == wanted
        if in_place:
            # A client that is kept at a slot stays with its endpoint, as long as that is wanted and has but one slot.
            assert all(slots[i] == t for i, t in enumerate(before) if t in wanted and before.count(t) == 1)
        else:
            assert len(slots) == len(wanted)
