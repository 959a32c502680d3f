"""Is the node short of memory, disk or process ids, since when, and is it time to evict: a pure step per reading.

The rules are Kubernetes': a condition is True from the moment a threshold is met until none has been met for the
transition period; pods are evicted for a threshold that is met now and has been for its grace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from common.quantity import bytes_quantity
from node_agent.care.settings import (
    DISK_SIGNALS,
    IMAGE_INODES,
    MEMORY,
    NODE_INODES,
    PIDS,
    CareSettings,
    Threshold,
)
from protos.core_pb2 import NodeCondition

MEMORY_PRESSURE, DISK_PRESSURE, PID_PRESSURE = "MemoryPressure", "DiskPressure", "PIDPressure"
_OF_SIGNAL = {MEMORY: MEMORY_PRESSURE, PIDS: PID_PRESSURE, **dict.fromkeys(DISK_SIGNALS, DISK_PRESSURE)}
# Kubernetes' words, which its tools and people's alerts look for.
_REASONS = {
    MEMORY_PRESSURE: ("KubeletHasInsufficientMemory", "KubeletHasSufficientMemory", "memory"),
    DISK_PRESSURE: ("KubeletHasDiskPressure", "KubeletHasNoDiskPressure", "disk space"),
    PID_PRESSURE: ("KubeletHasInsufficientPID", "KubeletHasSufficientPID", "process ids"),
}
_COUNTS = frozenset({NODE_INODES, IMAGE_INODES, PIDS})


@dataclass(frozen=True)
class Reading:
    """How much of something is left, and how much there is: bytes, inodes or process ids."""

    available: int
    capacity: int


@dataclass(frozen=True)
class Met:
    """A threshold that is met, with the reading that meets it."""

    threshold: Threshold
    reading: Reading

    @property
    def resource(self) -> str:
        """As eviction messages name it."""
        signal = self.threshold.signal
        if signal in _COUNTS:
            return "pids" if signal == PIDS else "inodes"
        return "memory" if signal == MEMORY else "ephemeral-storage"

    def words(self) -> str:
        """Kubernetes' sentence."""
        limit = self.threshold.limit(self.reading.capacity)
        return (
            f"The node was low on resource: {self.resource}. Threshold quantity: {self._amount(limit)}, "
            f"available: {self._amount(self.reading.available)}."
        )

    def _amount(self, count: int) -> str:
        return str(count) if self.threshold.signal in _COUNTS else bytes_quantity(count)


@dataclass(frozen=True)
class Past:
    """Since when each threshold is met without a break, and when it was last."""

    since: Mapping[Threshold, float] = field(default_factory=dict)
    last: Mapping[Threshold, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """What a reading means: `pressed` the conditions that are True, `due` what pods are to be evicted for."""

    past: Past
    pressed: Mapping[str, Threshold]
    due: tuple[Met, ...]


def judge(past: Past, settings: CareSettings, readings: Mapping[str, Reading], now: float) -> Verdict:
    """The next step after `past`. A signal without a reading, or without capacity, is not judged: it stays as it was
    for as long as the transition period says."""
    since: dict[Threshold, float] = {}
    last = {one: at for one, at in past.last.items() if now - at < settings.transition}
    due: list[Met] = []
    for threshold in settings.thresholds:
        reading = readings.get(threshold.signal)
        if reading is None or reading.capacity <= 0 or reading.available >= threshold.limit(reading.capacity):
            continue
        since[threshold] = past.since.get(threshold, now)
        last[threshold] = now
        if now - since[threshold] >= threshold.grace and threshold.signal != PIDS:
            due.append(Met(threshold, reading))
    # Memory first, hard before soft, as in Kubernetes: it cannot wait.
    due.sort(key=lambda met: (met.threshold.signal != MEMORY, not met.threshold.hard))
    pressed: dict[str, Threshold] = {}
    for threshold in settings.thresholds:
        if threshold in last:
            pressed.setdefault(_OF_SIGNAL[threshold.signal], threshold)
    return Verdict(Past(since, last), pressed, tuple(due))


def conditions(pressed: Mapping[str, Threshold]) -> Sequence[NodeCondition]:
    """The three pressure conditions, without times."""
    found = []
    for kind, (bad, good, what) in _REASONS.items():
        threshold = pressed.get(kind)
        message = f"agent has enough {what}"
        if threshold is not None:
            message = f"agent is short of {what}: {threshold.signal} is or was lately below {threshold.text}"
        status, reason = ("True", bad) if threshold is not None else ("False", good)
        found.append(NodeCondition(type=kind, status=status, reason=reason, message=message))
    return found
