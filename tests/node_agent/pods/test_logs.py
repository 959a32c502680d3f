"""Whose output a logs command reads, and what it says when there is none."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from common.errors import BadRequest, NotFound
from node_agent.pods.logs import log_options, log_target
from node_agent.runtime.seam import LogOptions, Seen, State
from protos.agent_pb2 import LogsCommand
from protos.core_pb2 import Pod, PodStatus
from tests.node_agent.pods.build import make_pod, seen

HISTORY = [seen("a", State.EXITED, attempt=1), seen("a", attempt=2)]


def target(
    command: LogsCommand, history: Sequence[Seen], pod: Pod | None = None, status: PodStatus | None = None
) -> str:
    return log_target(command, pod or make_pod("a"), history, status or PodStatus()).id


def test_current_and_previous() -> None:
    assert target(LogsCommand(), HISTORY) == "a2"
    assert target(LogsCommand(container="a"), HISTORY) == "a2"
    assert target(LogsCommand(previous=True), HISTORY) == "a1"
    with pytest.raises(NotFound, match='previous terminated container "a" in pod "web" not found'):
        target(LogsCommand(previous=True), HISTORY[1:])


def test_crash_loop_shows_the_last_run_both_ways() -> None:
    status = PodStatus()
    one = status.containerStatuses.add(name="a")
    one.state.waiting.reason = "CrashLoopBackOff"
    assert target(LogsCommand(), HISTORY[:1], status=status) == "a1"
    assert target(LogsCommand(previous=True), HISTORY[:1], status=status) == "a1"
    one.state.terminated.exitCode = 1
    with pytest.raises(NotFound):
        target(LogsCommand(previous=True), HISTORY[:1], status=status)


def test_name_is_needed_where_there_are_several() -> None:
    with pytest.raises(BadRequest, match=r"a container name must be specified for pod web, choose one of: \[a b\]"):
        target(LogsCommand(), HISTORY, make_pod("a", "b"))
    with pytest.raises(BadRequest, match="container x is not valid for pod web"):
        target(LogsCommand(container="x"), HISTORY)


def test_not_started() -> None:
    status = PodStatus()
    status.containerStatuses.add(name="a").state.waiting.reason = "ErrImagePull"
    with pytest.raises(BadRequest, match='container "a" in pod "web" is waiting to start: ErrImagePull'):
        target(LogsCommand(), [], status=status)


def test_options() -> None:
    command = LogsCommand(follow=True, tail_lines=0, since_seconds=5, timestamps=True)
    assert log_options(command, 100.0) == LogOptions(True, 0, 95.0, True)
    assert log_options(LogsCommand(), 100.0) == LogOptions()
