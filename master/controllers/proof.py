"""Whether a Ready pod is known to stay up: one that nobody asks is Ready the moment it starts, also if it crashes next.

Kubernetes has minReadySeconds for that, and without it takes an old pod away for a new one that was up for an instant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from master.controllers.pods import is_available, ready_since
from protos import core_pb2

PROOF_SECONDS = 2.0
"""For so long a pod without probes has to be Ready. Times are of whole seconds: it has then been up for 1 to 2 s."""
RESTARTED_SECONDS = 10.0
"""The same for one that had to be started again: it may be crashing after a while each time."""


@dataclass(frozen=True)
class Counted:
    """How many pods count as available; in `wait` seconds it may be more (None: not by waiting)."""

    available: int
    wait: float | None


def is_asked(spec: core_pb2.PodSpec) -> bool:
    """Whether every container's own answer is needed for the pod to be Ready."""
    return all(one.HasField("readinessProbe") or one.HasField("startupProbe") for one in spec.containers)


def proven_at(pod: core_pb2.Pod) -> float | None:
    """Unix seconds from which on the pod has proven itself, if it stays Ready; None for one that is not Ready."""
    since = ready_since(pod)
    if since is None or is_asked(pod.spec):
        return since
    restarted = any(one.restartCount for one in pod.status.containerStatuses)
    return since + (RESTARTED_SECONDS if restarted else PROOF_SECONDS)


def counts(pod: core_pb2.Pod, min_ready: int, now: float) -> bool:
    """Whether the pod is available and has proven itself; minReadySeconds, where it is given, is all the proof."""
    at = proven_at(pod)
    return at is not None and is_available(pod, min_ready, now) and (bool(min_ready) or at <= now)


def counted(active: Sequence[core_pb2.Pod], min_ready: int, now: float, enough: int) -> Counted:
    """Of the active pods of one template; as soon as `enough` have proven themselves the others need not.

    `enough` 0: the template is known to be good. `now` in Unix seconds.
    """
    available = sum(is_available(pod, min_ready, now) for pod in active)
    if min_ready:
        times = [since + min_ready for pod in active if (since := ready_since(pod)) is not None]
    else:
        times = [at for pod in active if (at := proven_at(pod)) is not None]
        proven = sum(at <= now for at in times)
        if proven >= enough:
            return Counted(available, None)
        available = min(available, proven)
    return Counted(available, min((at - now for at in times if at > now), default=None))
