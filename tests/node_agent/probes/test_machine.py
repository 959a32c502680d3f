"""Thresholds and gates of probes."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_agent.probes.health import Health
from node_agent.probes.machine import Progress, after, begin, is_asked, pause
from node_agent.probes.rules import Kind, Rules

S, L, R = Kind.STARTUP, Kind.LIVENESS, Kind.READINESS
ALL = {S: Rules(failure=2), L: Rules(failure=2), R: Rules(success=2, failure=2)}


def played(rules: dict[Kind, Rules], answers: Iterable[tuple[Kind, bool]], kept: Health | None = None) -> Progress:
    progress = begin(rules, kept)
    for kind, well in answers:
        progress = after(rules, progress, kind, well)
    return progress


def test_without_probes_a_container_that_runs_is_ready() -> None:
    assert begin({}) == Progress(started=True, ready=True)
    assert begin({L: Rules()}) == Progress(started=True, ready=True)


def test_startup_gates_the_others() -> None:
    progress = begin(ALL)
    assert (progress.started, progress.ready) == (False, False)
    assert [kind for kind in Kind if is_asked(progress, kind)] == [S]
    early = played(ALL, [(L, False), (L, False), (R, True), (R, True)])
    assert early == progress
    started = played(ALL, [(S, False), (S, True)])
    assert (started.started, started.ready) == (True, False)
    assert [kind for kind in Kind if is_asked(started, kind)] == [L, R]


def test_startup_alone_makes_ready() -> None:
    assert played({S: Rules()}, [(S, True)]).ready


@pytest.mark.parametrize("kind", [S, L])
def test_failures_in_a_row_end_it(kind: Kind) -> None:
    rules = {kind: Rules(failure=3)}
    assert played(rules, [(kind, False)] * 2).failed is None
    ended = played(rules, [(kind, False)] * 3)
    assert ended.failed is kind
    assert after(rules, ended, kind, True) == ended
    assert not any(is_asked(ended, one) for one in Kind)
    if kind is L:
        mixed = played(rules, [(L, False), (L, False), (L, True), (L, False), (L, False)])
        assert mixed.failed is None


def test_readiness_comes_and_goes_by_its_thresholds() -> None:
    rules = {R: Rules(success=2, failure=2)}
    answers = [True, True, False, True, False, False, True, True]
    readies = [played(rules, [(R, well) for well in answers[: n + 1]]).ready for n in range(len(answers))]
    assert readies == [False, True, True, True, True, False, False, True]


def test_what_an_earlier_agent_reported_holds_until_a_probe_says_otherwise() -> None:
    kept = Health(started=True, ready=True)
    assert begin(ALL, kept) == Progress(started=True, ready=True)
    assert played(ALL, [(R, False)], kept).ready
    assert not played(ALL, [(R, False), (R, False)], kept).ready
    assert begin(ALL, Health(started=True, ready=False)) == Progress(started=True, ready=False)


def test_who_was_never_ready_is_asked_sooner_at_first() -> None:
    rule = Rules(period=10.0)
    pauses = []
    for failures in range(30):
        progress = played({R: rule}, [(R, False)] * failures)
        pauses.append(pause(rule, progress, R, was_ready=False))
    assert pauses[:4] == pytest.approx([10.0, 0.2, 0.25, 0.3125]) and pauses[-1] == 10.0
    assert all(later <= 0.25 * sum(pauses[1:at]) + 0.2 for at, later in enumerate(pauses[1:], 1))
    late = played({R: rule}, [(R, True), *[(R, False)] * 3])
    assert pause(rule, late, R, was_ready=True) == 10.0
    assert pause(Rules(period=1.0), played({L: Rules()}, [(L, False)]), L, was_ready=False) == 1.0


rule = st.builds(Rules, success=st.integers(1, 3), failure=st.integers(1, 3))
rulesets = st.fixed_dictionaries({}, optional={L: rule, R: rule, S: rule})
answers = st.lists(st.tuples(st.sampled_from(list(Kind)), st.booleans()), max_size=25)


@given(rulesets, answers)
def test_safety(rules: dict[Kind, Rules], said: list[tuple[Kind, bool]]) -> None:
    progress = begin(rules)
    for kind, well in said:
        if kind not in rules:
            continue
        before, progress = progress, after(rules, progress, kind, well)
        assert progress.started or not before.started, "started never goes back"
        assert progress.started or not progress.ready, "nothing is ready before it has started"
        if progress.failed is not before.failed:
            assert (progress.failed, well) == (kind, False) and kind is not R
        if progress.ready and not before.ready:
            assert well
        if before.ready and not progress.ready:
            assert (kind, well) == (R, False)


@given(rulesets, answers)
def test_enough_good_answers_always_make_it_ready(rules: dict[Kind, Rules], said: list[tuple[Kind, bool]]) -> None:
    progress = played(rules, [one for one in said if one[0] in rules])
    if progress.failed is not None:
        return
    for kind in (S, L, R):
        for _ in range(rules[kind].success if kind in rules else 0):
            progress = after(rules, progress, kind, True)
    assert progress.started and progress.ready
