"""Which container a command means."""

from __future__ import annotations

import pytest

from common.errors import BadRequest, NotFound
from node_agent.runtime.seam import Identity, Seen, State
from node_agent.streams.targets import network_holder, newest, running


def seen(name: str, attempt: int, state: State = State.RUNNING, *, sandbox: str = "s", ip: str = "") -> Seen:
    identity = Identity("c", "n", "default", "p", "u", container=name, attempt=attempt, sandbox=sandbox, ip=ip)
    return Seen(f"{name}{attempt}", identity, state, 0.0, exit_code=9)


POD = [seen("", 0, sandbox=""), seen("a", 0, State.EXITED), seen("a", 1), seen("a", 2, State.CREATED)]


def test_the_last_attempt_that_was_started() -> None:
    assert running(POD, "a", node="n").id == newest(POD, "a", node="n").id == "a1"
    with pytest.raises(BadRequest, match="has not been started"):
        newest(POD, "b", node="n")
    with pytest.raises(BadRequest, match="does not run: it ended with exit code 9"):
        running(POD[:2], "a", node="n")
    with pytest.raises(NotFound, match="not on node n"):
        newest([], "a", node="n")


def test_who_has_the_network() -> None:
    assert network_holder(POD, node="n").name == ""
    alone = [seen("a", 0, State.EXITED, sandbox=""), seen("a", 1, sandbox="", ip="10.0.0.1")]
    assert network_holder(alone, node="n").id == "a1"
    with pytest.raises(BadRequest, match="does not run"):
        network_holder(alone[:1], node="n")
    with pytest.raises(NotFound):
        network_holder([], node="n")
