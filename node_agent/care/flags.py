"""The flags of node care, and their check; `parser.error` names the flag that is wrong."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import TypeVar

from node_agent.care.settings import (
    DEFAULT_HARD,
    CareSettings,
    LogRotation,
    log_size,
    parse_graces,
    parse_thresholds,
    seconds,
)

_T = TypeVar("_T")


def add_flags(flag: Callable[[str, str, str], None]) -> None:
    """`flag(name, default, help)` adds one; names are the kubelet's."""
    flag("eviction-hard", DEFAULT_HARD, "below these the node is under pressure and pods are evicted at once")
    flag("eviction-soft", "", "below these for longer than the grace period pods are evicted, with their own grace")
    flag("eviction-soft-grace-period", "", "SIGNAL=TIME for each signal of --eviction-soft")
    flag("eviction-max-pod-grace-period", "", "most seconds a pod gets at a soft threshold; its own when left out")
    flag("eviction-pressure-transition-period", "5m", "how long a pressure condition stays after the last shortage")
    flag("image-gc-high-threshold", "85", "percent of the image file system in use at which unused images are removed")
    flag("image-gc-low-threshold", "80", "percent in use at which that stops")
    flag("minimum-image-ttl-duration", "2m", "an image younger than this, or used since, is not removed")
    flag("container-log-max-size", "10Mi", "size of a container's log at which it is rotated")
    flag("container-log-max-files", "5", "log files kept of a container")
    flag(
        "readings-file",
        "",
        "for drills: JSON file (below --data) whose figures, by eviction signal, stand for the machine's own",
    )


def care_settings(parser: argparse.ArgumentParser, args: argparse.Namespace) -> CareSettings:
    """Ends the process with a message when a flag is wrong."""

    def of(name: str, read: Callable[[str], _T]) -> _T:
        try:
            return read(getattr(args, name.replace("-", "_")))
        except ValueError as error:
            parser.error(f"--{name}: {error}")

    hard = of("eviction-hard", parse_thresholds)
    graces = of("eviction-soft-grace-period", parse_graces)
    soft = of("eviction-soft", lambda text: parse_thresholds(text, graces))
    spare = set(graces) - {one.signal for one in soft}
    if spare:
        parser.error(f"--eviction-soft-grace-period: {min(spare)} has no threshold in --eviction-soft")
    settings = CareSettings(
        thresholds=(*hard, *soft),
        transition=of("eviction-pressure-transition-period", seconds),
        max_pod_grace=of("eviction-max-pod-grace-period", lambda text: _whole(text, 0, 86_400) if text else None),
        image_high=of("image-gc-high-threshold", lambda text: _whole(text, 0, 100)),
        image_low=of("image-gc-low-threshold", lambda text: _whole(text, 0, 100)),
        image_least_age=of("minimum-image-ttl-duration", seconds),
        # Within the node's data, unless it says where.
        readings_file=os.path.join(os.path.abspath(args.data), args.readings_file) if args.readings_file else "",
    )
    if settings.image_low > settings.image_high or (settings.image_low == settings.image_high < 100):
        parser.error(
            f"--image-gc-low-threshold: must be below --image-gc-high-threshold ({settings.image_high}), "
            f"got {settings.image_low}"
        )
    return settings


def log_rotation(parser: argparse.ArgumentParser, args: argparse.Namespace) -> LogRotation:
    """Ends the process with a message when a flag is wrong."""
    try:
        size = log_size(args.container_log_max_size)
    except ValueError as error:
        parser.error(f"--container-log-max-size: {error}")
    try:
        # With one file there would be nothing left of it at each rotation.
        return LogRotation(size, _whole(args.container_log_max_files, 2, 1000))
    except ValueError as error:
        parser.error(f"--container-log-max-files: {error}")


def _whole(text: str, least: int, most: int) -> int:
    if not text.isdigit() or not least <= int(text) <= most:
        raise ValueError(f'must be {least}-{most}, got "{text}"')
    return int(text)
