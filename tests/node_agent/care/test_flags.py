"""The agent's flags of node care: Kubernetes' names, our defaults, and errors that name the flag."""

from __future__ import annotations

import pytest

from node_agent.care.settings import LogRotation
from node_agent.config import parse


def test_defaults() -> None:
    config = parse([], {})
    assert {one.signal: one.text for one in config.care.thresholds}["memory.available"] == "100Mi"
    assert (config.care.transition, config.care.image_high, config.care.image_low) == (300.0, 85, 80)
    assert config.care.image_least_age == 120.0 and config.care.max_pod_grace is None
    assert config.log_rotation == LogRotation("10m", 5)


def test_flags_and_environment() -> None:
    flags = ["--eviction-hard", "memory.available<5%", "--container-log-max-files", "3"]
    env = {
        "SAMPAN_EVICTION_SOFT": "nodefs.available<20%",
        "SAMPAN_EVICTION_SOFT_GRACE_PERIOD": "nodefs.available=2m",
        "SAMPAN_EVICTION_MAX_POD_GRACE_PERIOD": "10",
    }
    config = parse(flags, env)
    assert [(one.signal, one.share, one.grace) for one in config.care.thresholds] == [
        ("memory.available", 0.05, 0.0),
        ("nodefs.available", 0.2, 120.0),
    ]
    assert config.care.max_pod_grace == 10 and config.log_rotation.max_files == 3


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--eviction-hard", "ram<1Gi"], "--eviction-hard: signal must be one of"),
        (["--eviction-soft", "memory.available<1Gi"], "--eviction-soft: memory.available needs a time"),
        (["--eviction-soft-grace-period", "pid.available=1m"], "pid.available has no threshold in --eviction-soft"),
        (["--eviction-pressure-transition-period", "soon"], "must be a time like 5m or 1m30s"),
        (["--image-gc-high-threshold", "101"], '--image-gc-high-threshold: must be 0-100, got "101"'),
        (["--image-gc-low-threshold", "90"], "must be below --image-gc-high-threshold (85), got 90"),
        (["--container-log-max-size", "big"], '--container-log-max-size: must be a size like 10Mi, got "big"'),
        (["--container-log-max-files", "1"], '--container-log-max-files: must be 2-1000, got "1"'),
        (["--eviction-max-pod-grace-period", "-1"], "--eviction-max-pod-grace-period"),
    ],
)
def test_what_is_wrong(flags: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse([f"{flags[0]}={flags[1]}"], {})
    assert words in capsys.readouterr().err
