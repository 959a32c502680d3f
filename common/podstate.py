"""The phases of a pod and who may move it from which to which; the one table both ends check; pure."""

from __future__ import annotations

from typing import Final

PENDING: Final = "Pending"
RUNNING: Final = "Running"
SUCCEEDED: Final = "Succeeded"
FAILED: Final = "Failed"

API: Final = "api"
AGENT: Final = "agent"
NODE_CONTROLLER: Final = "node-controller"

NEW: Final = ""
TERMINAL: Final = frozenset({SUCCEEDED, FAILED})

ORDER: Final[dict[str, int]] = {NEW: 0, PENDING: 1, RUNNING: 2, SUCCEEDED: 3, FAILED: 3}
"""Where each phase stands; no step of the table leads to a lower one."""

TRANSITIONS: Final[dict[str, frozenset[tuple[str, str]]]] = {
    API: frozenset({(NEW, PENDING)}),
    AGENT: frozenset(
        {
            (NEW, PENDING),
            (NEW, RUNNING),
            (NEW, SUCCEEDED),
            (NEW, FAILED),
            # A slow session may have missed the steps between: the agent sends the latest status only.
            (PENDING, RUNNING),
            (PENDING, SUCCEEDED),
            (PENDING, FAILED),
            (RUNNING, SUCCEEDED),
            (RUNNING, FAILED),
        }
    ),
    NODE_CONTROLLER: frozenset({(PENDING, FAILED), (RUNNING, FAILED)}),
}
"""The steps each writer may take. Staying where one is is always allowed and not listed."""


def is_terminal(phase: str) -> bool:
    """True for a pod that will never run again."""
    return phase in TERMINAL


def may_follow(was: str, now: str, writer: str = AGENT) -> bool:
    """Whether `writer` may report phase `now` of a pod whose phase is `was`. KeyError for an unknown writer.

    A report that may not follow is stale (it was overtaken): drop it.
    """
    steps = TRANSITIONS[writer]
    return (was == now and was in ORDER) or (was, now) in steps
