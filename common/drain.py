"""For how long the connections of a pod that is going may live on; master and agents must agree on it; pure."""

from __future__ import annotations

from protos import core_pb2

DRAIN_SECONDS = "sampan.dev/drain-seconds"
# Where the pod does not say.
DEFAULT_DRAIN_SECONDS = 5.0
LONGEST_DRAIN_SECONDS = 3600
_DEFAULT_GRACE_SECONDS = 30


def drain_seconds(text: str) -> int | None:
    """The annotation's value; None when it is not whole seconds of 0-3600."""
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        return None
    return int(text) if int(text) <= LONGEST_DRAIN_SECONDS else None


def drain_limit(pod: core_pb2.Pod) -> float:
    """For how many seconds at most a Terminating pod's connections may live on before it is told to stop.

    Never longer than its grace period; 0 for a pod that is to be killed at once.
    """
    meta = pod.metadata
    grace = meta.deletionGracePeriodSeconds if meta.HasField("deletionGracePeriodSeconds") else _DEFAULT_GRACE_SECONDS
    wanted = drain_seconds(meta.annotations.get(DRAIN_SECONDS, ""))
    return float(max(0, min(grace, DEFAULT_DRAIN_SECONDS if wanted is None else wanted)))
