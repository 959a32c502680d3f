"""Flags and environment, and what is said when they are wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from node_agent.config import parse


def test_flags_win_over_the_environment() -> None:
    env = {"SAMPAN_NAME": "env", "SAMPAN_MASTER": "m:1", "SAMPAN_LABELS": "a=1,b=2", "SAMPAN_NODE_IP": "10.0.0.1"}
    config = parse(["--name", "flag", "--data", "d"], env)
    assert (config.name, config.master, config.node_ip) == ("flag", "m:1", "10.0.0.1")
    assert config.labels == (("a", "1"), ("b", "2"))
    assert config.proxy_socket == Path("d").absolute() / "proxy.sock"


def test_the_proxy_has_a_worker_for_each_core_unless_told() -> None:
    assert parse([], {}).proxy_workers == min(64, len(os.sched_getaffinity(0)))
    assert parse(["--proxy-workers", "3"], {}).proxy_workers == 3


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--runtime", "podman"], '--runtime: must be "docker" or "simulated", got "podman"'),
        (["--master", "somewhere"], '--master: must be HOST:PORT, got "somewhere"'),
        (["--master", "x:99999"], "--master: must be HOST:PORT"),
        (["--label", "novalue"], '--label: must be KEY=VALUE, got "novalue"'),
        (["--proxy-workers", "0"], '--proxy-workers: must be 1-64, got "0"'),
        (["--simulate", "3"], "needs --runtime simulated"),
    ],
)
def test_wrong_flags_are_named(flags: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(flags, {})
    assert caught.value.code == 2
    assert words in capsys.readouterr().err
