"""postStart and preStop against scripted containers."""

from __future__ import annotations

import time

import pytest

from node_agent.probes.handlers import Handlers, Target
from node_agent.probes.hooks import HookFailed, Hooks
from node_agent.runtime.script import Answer
from protos.core_pb2 import Lifecycle, Pod
from tests.node_agent.probes.test_handlers import IP, make_target

Notes = list[tuple[str, str, str, str]]


async def hooks(lifecycle: Lifecycle, answers: dict[str, Answer]) -> tuple[Hooks, Target, Notes]:
    runtime, target = await make_target(answers)
    target.container.lifecycle.CopyFrom(lifecycle)
    notes: Notes = []
    return Hooks(Handlers(runtime), lambda pod, *note: notes.append(note)), target, notes


async def test_without_hooks_nothing_happens() -> None:
    made, target, notes = await hooks(Lifecycle(), {})
    await made.post_start(Pod(), target)
    await made.pre_stop(Pod(), target, 30)
    assert notes == []


async def test_a_failed_post_start_names_the_container() -> None:
    lifecycle = Lifecycle()
    lifecycle.postStart.exec.command.append("setup")
    made, target, notes = await hooks(lifecycle, {"setup": Answer(code=1, error="no disk")})
    with pytest.raises(HookFailed, match="Container a failed its postStart hook") as raised:
        await made.post_start(Pod(), target)
    assert raised.value.id == target.id
    assert notes == [("Warning", "FailedPostStartHook", "postStart hook of container a failed: no disk", "a")]


async def test_any_http_answer_is_well() -> None:
    lifecycle = Lifecycle()
    lifecycle.postStart.httpGet.port.intVal = 80
    lifecycle.preStop.httpGet.port.intVal = 80
    lifecycle.preStop.httpGet.host = "10.0.0.9"
    made, target, notes = await hooks(lifecycle, {f"http://{IP}:80/": Answer(code=500)})
    await made.post_start(Pod(), target)
    assert notes == []
    await made.pre_stop(Pod(), target, 30)
    assert notes[0][1] == "FailedPreStopHook" and "connection refused" in notes[0][2]


async def test_pre_stop_has_the_grace_and_no_more() -> None:
    lifecycle = Lifecycle()
    lifecycle.preStop.sleep.seconds = 3600
    made, target, notes = await hooks(lifecycle, {})
    began = time.monotonic()
    await made.pre_stop(Pod(), target, 0.05)
    assert time.monotonic() - began < 60
    assert "not over within the grace period of 0.05s" in notes[0][2]
