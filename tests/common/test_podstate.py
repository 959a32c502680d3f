"""The table of pod phases."""

from __future__ import annotations

import itertools

import pytest

from common.podstate import (
    AGENT,
    API,
    FAILED,
    NEW,
    NODE_CONTROLLER,
    ORDER,
    PENDING,
    RUNNING,
    SUCCEEDED,
    TERMINAL,
    TRANSITIONS,
    is_terminal,
    may_follow,
)


def test_no_entry_goes_back() -> None:
    for writer, steps in TRANSITIONS.items():
        for was, now in steps:
            assert ORDER[was] < ORDER[now], f"{writer}: {was} -> {now}"


def test_nothing_leads_out_of_an_end() -> None:
    for writer in TRANSITIONS:
        for was, now in itertools.product(TERMINAL, ORDER):
            assert may_follow(was, now, writer) == (was == now)


def test_every_phase_can_be_reached() -> None:
    reached = {now for steps in TRANSITIONS.values() for _, now in steps}
    assert reached | {NEW} == set(ORDER)


@pytest.mark.parametrize(
    ("was", "now", "writer", "allowed"),
    [
        (NEW, PENDING, API, True),
        (PENDING, RUNNING, API, False),
        (PENDING, RUNNING, AGENT, True),
        (PENDING, SUCCEEDED, AGENT, True),
        (RUNNING, PENDING, AGENT, False),
        (RUNNING, RUNNING, AGENT, True),
        (RUNNING, FAILED, NODE_CONTROLLER, True),
        (PENDING, RUNNING, NODE_CONTROLLER, False),
        ("Odd", "Odd", AGENT, False),
    ],
)
def test_may_follow(was: str, now: str, writer: str, allowed: bool) -> None:
    assert may_follow(was, now, writer) == allowed


def test_unknown_writer() -> None:
    with pytest.raises(KeyError):
        may_follow(NEW, PENDING, "somebody")


def test_terminal() -> None:
    assert is_terminal(SUCCEEDED) and is_terminal(FAILED)
    assert not is_terminal(RUNNING)
