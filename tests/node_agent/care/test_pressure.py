"""Conditions with their hysteresis, and when pods are to be evicted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from node_agent.care.pressure import Past, Reading, conditions, judge
from node_agent.care.settings import DEFAULT_HARD, CareSettings, parse_thresholds

MIB = 1024 * 1024
HARD = CareSettings(transition=300.0)
SOFT = CareSettings(
    thresholds=(
        *parse_thresholds("memory.available<100Mi"),
        *parse_thresholds("memory.available<500Mi", {"memory.available": 60.0}),
    )
)


def memory(mib: int) -> dict[str, Reading]:
    return {"memory.available": Reading(mib * MIB, 8000 * MIB)}


def test_conditions_have_kubernetes_words() -> None:
    shown = {one.type: (one.status, one.reason) for one in conditions({})}
    assert shown == {
        "MemoryPressure": ("False", "KubeletHasSufficientMemory"),
        "DiskPressure": ("False", "KubeletHasNoDiskPressure"),
        "PIDPressure": ("False", "KubeletHasSufficientPID"),
    }
    low = {"memory.available": Reading(50 * MIB, 8000 * MIB), "nodefs.inodesFree": Reading(4, 100)}
    shown = {one.type: (one.status, one.reason) for one in conditions(judge(Past(), HARD, low, 0.0).pressed)}
    assert shown["MemoryPressure"] == ("True", "KubeletHasInsufficientMemory")
    assert shown["DiskPressure"] == ("True", "KubeletHasDiskPressure")
    assert shown["PIDPressure"] == ("False", "KubeletHasSufficientPID")


def test_a_condition_outlasts_the_shortage() -> None:
    first = judge(Past(), HARD, memory(50), 0.0)
    assert first.pressed and [met.threshold.signal for met in first.due] == ["memory.available"]
    later = judge(first.past, HARD, memory(150), 299.0)
    assert "MemoryPressure" in later.pressed and not later.due
    over = judge(later.past, HARD, memory(150), 300.0)
    assert not over.pressed


def test_process_ids_are_a_condition_and_no_reason_to_evict() -> None:
    verdict = judge(Past(), HARD, {"pid.available": Reading(10, 1000)}, 0.0)
    assert list(verdict.pressed) == ["PIDPressure"] and not verdict.due


def test_a_soft_threshold_waits_and_starts_over() -> None:
    first = judge(Past(), SOFT, memory(400), 0.0)
    assert "MemoryPressure" in first.pressed and not first.due
    broken = judge(first.past, SOFT, memory(600), 30.0)
    again = judge(broken.past, SOFT, memory(400), 40.0)
    assert not judge(again.past, SOFT, memory(400), 99.0).due
    (due,) = judge(again.past, SOFT, memory(400), 100.0).due
    assert not due.threshold.hard
    assert due.words() == "The node was low on resource: memory. Threshold quantity: 500Mi, available: 400Mi."
    assert [met.threshold.hard for met in judge(again.past, SOFT, memory(50), 100.0).due] == [True, False]


_READINGS = st.dictionaries(
    st.sampled_from([one.signal for one in parse_thresholds(DEFAULT_HARD)]),
    st.builds(Reading, st.integers(0, 10_000), st.just(10_000)),
)


@given(st.lists(st.tuples(_READINGS, st.floats(0.1, 400.0)), max_size=20))
def test_safety(steps: list[tuple[dict[str, Reading], float]]) -> None:
    """Nobody is evicted for what is not met now; what is met is shown; nothing is shown longer than it may be."""
    past, now, met_at = Past(), 0.0, {}
    for readings, pause in steps:
        now += pause
        verdict = judge(past, HARD, readings, now)
        past = verdict.past
        for threshold in HARD.thresholds:
            reading = readings.get(threshold.signal)
            if reading is not None and reading.available < threshold.limit(reading.capacity):
                met_at[threshold] = now
        assert {met.threshold for met in verdict.due} == {
            one for one, at in met_at.items() if at == now and one.signal != "pid.available"
        }
        recent = {one for one, at in met_at.items() if now - at < HARD.transition}
        assert bool(verdict.pressed) == bool(recent)
        assert set(verdict.pressed.values()) <= recent
