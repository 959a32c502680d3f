"""What the engine and the kernel say, as the node's care reads it: ends, log options, limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from node_agent.care.settings import LogRotation
from node_agent.runtime.docker.dying import Dying
from node_agent.runtime.docker.logconfig import chosen
from node_agent.runtime.docker.machine import log_bytes, memory_limit, pids_limit, pids_within, within
from node_agent.runtime.seam import Identity, Seen, State

ALONE = Identity("c", "n", "default", "web", "uid", "main", ip="10.0.0.2")
RUNS = Seen("id", ALONE, State.RUNNING, 1.0, started_at=2.0)


def event(action: str, **attributes: str) -> dict[str, Any]:
    return {"Action": action, "timeNano": 5 * 10**9, "Actor": {"ID": "id", "Attributes": attributes}}


def test_an_end_is_known_before_the_engine_shows_it() -> None:
    dying = Dying()
    dying.heard(event("die", exitCode="137"), RUNS)
    seen = dying.seen("id", "running")
    assert seen is not None
    assert (seen.state, seen.exit_code, seen.finished_at) == (State.EXITED, 137, 5.0) and seen.unsettled
    assert dying.holding("10.0.0.2") == ["id"] and dying.holding("10.0.0.3") == []
    # From here on the engine's own word counts.
    assert dying.seen("id", "exited") is None
    assert dying.seen("id", "running") is None and dying.holding("10.0.0.2") == []


def test_what_says_nothing_of_an_end() -> None:
    dying = Dying()
    for heard, last in ((event("die", exitCode="0"), None), (event("die"), RUNS), (event("oom"), RUNS)):
        dying.heard(heard, last)
        assert dying.get("id") is None
    dying.heard(event("die", exitCode="0"), RUNS)
    dying.heard(event("destroy"), None)
    assert dying.get("id") is None
    dying.heard(event("die", exitCode="0"), RUNS)
    dying.keep({"other"})
    assert dying.get("id") is None


@pytest.mark.parametrize(
    ("driver", "default", "config"),
    [
        ("json-file", {}, {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "5"}}),
        ("local", {"Config": {"labels": "x"}}, {"Type": "local", "Config": {"max-size": "10m", "max-file": "5"}}),
        ("json-file", {"Type": "json-file", "Config": {"max-size": "1g"}}, {}),
        ("journald", {}, {}),
    ],
)
def test_logs_are_rotated_unless_the_engine_says_how(driver: str, default: dict[str, Any], config: object) -> None:
    assert chosen(driver, default, LogRotation()) == config


def test_limits_of_either_cgroup_version(tmp_path: Path) -> None:
    assert memory_limit(tmp_path) is None and pids_limit(tmp_path) is None
    one = tmp_path / "one" / "memory"
    one.mkdir(parents=True)
    (one / "memory.limit_in_bytes").write_text("1000\n")
    (one / "memory.usage_in_bytes").write_text("700\n")
    (one / "memory.stat").write_text("cache 5\ntotal_inactive_file 200\n")
    assert memory_limit(tmp_path / "one") == (1000, 500)
    two = tmp_path / "two"
    two.mkdir()
    (two / "memory.max").write_text("max\n")
    (two / "pids.max").write_text("100\n")
    (two / "pids.current").write_text("40\n")
    assert memory_limit(two) is None
    assert pids_limit(two) == (100, 40)


def test_the_tighter_limit_counts() -> None:
    assert within(8000, 3000, None) == (8000, 3000)
    assert within(8000, 3000, (10**18, 5)) == (8000, 3000)
    assert within(8000, 3000, (1000, 400)) == (1000, 600)
    assert within(8000, 3000, (5000, 6000)) == (5000, 0)
    assert pids_within(500, 1000, (100, 40)) == (40, 100)
    assert pids_within(500, 1000, (10_000, 40)) == (500, 1000)


def test_log_bytes(tmp_path: Path) -> None:
    assert log_bytes("") == 0 and log_bytes(str(tmp_path / "none" / "x-json.log")) == 0
    for name, size in (("x-json.log", 10), ("x-json.log.1", 20), ("hostname", 5)):
        (tmp_path / name).write_bytes(b"x" * size)
    assert log_bytes(str(tmp_path / "x-json.log")) == 30
