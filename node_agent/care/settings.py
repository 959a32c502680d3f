"""When a node counts as short of something, and what is done about it: the settings and their flags; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from common.quantity import value

MEMORY, NODE_DISK, NODE_INODES = "memory.available", "nodefs.available", "nodefs.inodesFree"
IMAGE_DISK, IMAGE_INODES, PIDS = "imagefs.available", "imagefs.inodesFree", "pid.available"
SIGNALS = (MEMORY, NODE_DISK, NODE_INODES, IMAGE_DISK, IMAGE_INODES, PIDS)
DISK_SIGNALS = frozenset({NODE_DISK, NODE_INODES, IMAGE_DISK, IMAGE_INODES})

DEFAULT_HARD = (
    "memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%,"
    "imagefs.available<10%,imagefs.inodesFree<5%,pid.available<5%"
)
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_LOG_SIZE = re.compile(r"([1-9]\d*)([kKmMgG]?)i?[bB]?")
_LEAST_LOG_BYTES = 1024


@dataclass(frozen=True)
class Threshold:
    """Met while `signal` is below `amount` (or, where it is set, below `share` of what there is).

    `grace`: seconds it has to be met before pods are evicted; 0 is a hard threshold, with no grace for pods either.
    """

    signal: str
    amount: int = 0
    share: float = 0.0
    grace: float = 0.0
    text: str = ""

    @property
    def hard(self) -> bool:
        return self.grace == 0

    def limit(self, capacity: int) -> int:
        """The signal's least value that is enough."""
        return int(capacity * self.share) if self.share else self.amount


@dataclass(frozen=True)
class CareSettings:
    """Kubernetes' settings of the kubelet, with its names and defaults where docs/node-care.md says nothing else.

    Seconds, shares of the image file system in percent. `max_pod_grace` caps a pod's grace at a soft threshold (None:
    the pod's own). `readings_file`: a JSON file whose figures stand for the machine's own, for drills.
    """

    thresholds: tuple[Threshold, ...] = field(default_factory=lambda: parse_thresholds(DEFAULT_HARD))
    transition: float = 300.0
    max_pod_grace: int | None = None
    image_high: int = 85
    image_low: int = 80
    image_least_age: float = 120.0
    readings_file: str = ""


@dataclass(frozen=True)
class LogRotation:
    """How much of a container's output is kept: files of `max_size` (Docker's notation), `max_files` of them."""

    max_size: str = "10m"
    max_files: int = 5


def parse_thresholds(text: str, graces: Mapping[str, float] | None = None) -> tuple[Threshold, ...]:
    """`memory.available<100Mi,nodefs.available<10%`; `graces` by signal makes them soft. Raises ValueError."""
    found: dict[str, Threshold] = {}
    for part in filter(None, (one.strip() for one in text.split(","))):
        signal, sign, amount = (word.strip() for word in part.partition("<"))
        if not sign or not amount:
            raise ValueError(f'must be like memory.available<100Mi, got "{part}"')
        if signal not in SIGNALS:
            raise ValueError(f'signal must be one of {", ".join(SIGNALS)}, got "{signal}"')
        if signal in found:
            raise ValueError(f"{signal} is given twice")
        grace = 0.0
        if graces is not None:
            if signal not in graces:
                raise ValueError(f"{signal} needs a time in --eviction-soft-grace-period")
            grace = graces[signal]
        found[signal] = _threshold(signal, amount, grace, part)
    return tuple(found.values())


def _threshold(signal: str, amount: str, grace: float, text: str) -> Threshold:
    if amount.endswith("%"):
        try:
            percent = float(amount[:-1])
        except ValueError:
            percent = -1.0
        if not 0 <= percent < 100:
            raise ValueError(f'percentage must be 0-99, got "{text}"')
        return Threshold(signal, share=percent / 100, grace=grace, text=amount)
    try:
        count = value(amount)
    except ValueError:
        count = -1
    if count < 0:
        raise ValueError(f'must be a quantity (100Mi) or a percentage (10%), got "{text}"')
    return Threshold(signal, amount=count, grace=grace, text=amount)


def parse_graces(text: str) -> dict[str, float]:
    """`memory.available=1m30s,…` as seconds by signal. Raises ValueError."""
    found = {}
    for part in filter(None, (one.strip() for one in text.split(","))):
        signal, sign, time = (word.strip() for word in part.partition("="))
        if not sign or signal not in SIGNALS:
            raise ValueError(f'must be like memory.available=1m30s, got "{part}"')
        found[signal] = seconds(time)
        if not found[signal]:
            raise ValueError(f'must be longer than 0 (a threshold without grace is a hard one), got "{part}"')
    return found


def seconds(text: str) -> float:
    """A time like 5m, 1m30s or 90s; plain digits are seconds. Raises ValueError."""
    if text.isdigit():
        return float(text)
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError(f'must be a time like 5m or 1m30s, got "{text}"')
    hours, minutes, rest = (int(word or 0) for word in match.groups())
    return float(hours * 3600 + minutes * 60 + rest)


def log_size(text: str) -> str:
    """Docker's max-size for 10m, 10Mi, 512Ki (powers of two, all of them). Raises ValueError."""
    match = _LOG_SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f'must be a size like 10Mi, got "{text}"')
    unit = match[2].lower()
    if int(match[1]) * {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}[unit] < _LEAST_LOG_BYTES:
        raise ValueError(f'must be 1Ki or more, got "{text}"')
    return f"{match[1]}{unit}"
