"""Which log is meant, and why there is none."""

from __future__ import annotations

from typing import Any

import pytest

from common.errors import BadRequest
from master.api.podlogs import DEFAULT_CONTAINER, logs_command
from protos import control_pb2, core_pb2
from tests.master.api.making import pod


def made(*running: str, node: str = "n1") -> core_pb2.Pod:
    containers = [{"name": name, "image": "x"} for name in ("main", "side")]
    found: core_pb2.Pod = pod(containers=containers, initContainers=[{"name": "init", "image": "x"}], nodeName=node)
    found.metadata.uid = "u1"
    for name in running:
        found.status.containerStatuses.add(name=name).state.running.SetInParent()
    return found


def request(**fields: Any) -> control_pb2.LogsRequest:
    return control_pb2.LogsRequest(pod="web", **fields)


def refusal(pod: core_pb2.Pod, **fields: Any) -> str:
    with pytest.raises(BadRequest) as caught:
        logs_command(pod, request(**fields))
    return str(caught.value)


def test_what_is_asked_of_the_node() -> None:
    command = logs_command(made("side"), request(container="side", follow=True, since_seconds=0))
    assert (command.pod_uid, command.container, command.follow) == ("u1", "side", True)
    assert command.HasField("since_seconds") and not command.HasField("tail_lines")


def test_one_of_several_must_be_named() -> None:
    assert "name one with -c (main, side, init)" in refusal(made("main"))
    chosen = made("side")
    chosen.metadata.annotations[DEFAULT_CONTAINER] = "side"
    assert logs_command(chosen, request()).container == "side"
    assert 'no container "x": it has init, main, side' in refusal(made(), container="x")


def test_why_there_is_no_log() -> None:
    assert "not on a node yet" in refusal(made(node=""), container="main")
    assert "waiting to start (ContainerCreating)" in refusal(made(), container="main")
    waiting = made()
    status = waiting.status.containerStatuses.add(name="main")
    status.state.waiting.reason, status.state.waiting.message = "ErrImagePull", "no such image"
    assert "waiting to start (ErrImagePull: no such image)" in refusal(waiting, container="main")
    assert "tail_lines: must be 0 or more" in refusal(made("main"), container="main", tail_lines=-1)


def test_the_previous_run() -> None:
    assert "has not been restarted" in refusal(made("main"), container="main", previous=True)
    crashed = made()
    status = crashed.status.containerStatuses.add(name="main")
    status.state.waiting.reason = "CrashLoopBackOff"
    status.lastState.terminated.exitCode = 1
    assert logs_command(crashed, request(container="main", previous=True)).previous
    assert logs_command(crashed, request(container="main")).container == "main"
