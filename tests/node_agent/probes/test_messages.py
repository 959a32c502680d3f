"""Termination messages of scripted containers."""

from __future__ import annotations

import pytest

from node_agent.probes.messages import Messages
from node_agent.runtime.script import Behaviour, Script
from node_agent.runtime.seam import ContainerSpec, Identity, SandboxSpec, State
from node_agent.runtime.simulated import SimulatedRuntime
from protos.core_pb2 import Pod

LINES = tuple(f"line {n}" for n in range(100))


async def message(behaviour: Behaviour, code: int, policy: str = "File") -> str:
    runtime = SimulatedRuntime("c", "n", Script(behave=lambda spec: behaviour), images=("app:1",))
    identity = Identity("c", "n", "default", "web", "uid-1")
    sandbox = await runtime.create_sandbox(SandboxSpec(identity, "web", "net"))
    await runtime.start(sandbox)
    mine = Identity("c", "n", "default", "web", "uid-1", "a", sandbox=sandbox)
    id = await runtime.create_container(ContainerSpec(mine, "app:1"))
    await runtime.start(id)
    pod = Pod()
    pod.spec.containers.add(name="a", terminationMessagePolicy=policy)
    messages = Messages(runtime)
    assert all(not one.message for one in await messages.put_in(pod, await runtime.containers()))
    runtime.crash(id, code)
    first = await messages.put_in(pod, await runtime.containers())
    # Read once: an engine that is gone later takes nothing back.
    seen = await runtime.containers()
    runtime.script.down = True
    assert await messages.put_in(pod, seen) == first
    (found,) = [one.message for one in first if one.state is State.EXITED]
    return found


@pytest.mark.parametrize(
    ("behaviour", "code", "policy", "expected"),
    [
        (Behaviour(message="out of luck", lines=LINES), 1, "File", "out of luck"),
        (Behaviour(message="done well"), 0, "File", "done well"),
        (Behaviour(lines=LINES), 1, "File", ""),
        (Behaviour(message="out of luck", lines=LINES), 1, "FallbackToLogsOnError", "out of luck"),
        (Behaviour(lines=LINES), 1, "FallbackToLogsOnError", "\n".join(LINES[-80:])),
        (Behaviour(lines=LINES), 0, "FallbackToLogsOnError", ""),
        (Behaviour(lines=("y" * 5000,)), 1, "FallbackToLogsOnError", "y" * 2047),
    ],
)
async def test_message(behaviour: Behaviour, code: int, policy: str, expected: str) -> None:
    assert await message(behaviour, code, policy) == expected
