"""The pods of a Job: how a new one looks, which indexes lack one, which are too many, when the next may start; pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence

from master.controllers.claiming import Claimer
from master.controllers.job_counts import FINALIZER, INDEX, index_of, is_indexed
from master.controllers.members import new_pod as pod_of
from master.controllers.pods import condition, is_terminating, seconds
from master.controllers.ranking import ranked
from protos import batch_pb2, core_pb2

FIRST_PAUSE, LONGEST_PAUSE = 10.0, 360.0
"""Seconds between a failed pod and the next, doubled for each failure in a row (Kubernetes' documentation)."""
INDEX_VARIABLE = "JOB_COMPLETION_INDEX"


def new_pod(claimer: Claimer, index: int | None) -> core_pb2.Pod:
    """A pod that will be counted; with `index` for this completion."""
    pod = pod_of(claimer)
    pod.metadata.finalizers.append(FINALIZER)
    if index is None:
        return pod
    name = claimer.owner.metadata.name
    pod.metadata.generateName = f"{name}-{index}-"
    pod.metadata.annotations[INDEX] = pod.metadata.labels[INDEX] = str(index)
    pod.spec.hostname = f"{name}-{index}"
    for container in (*pod.spec.initContainers, *pod.spec.containers):
        if not any(variable.name == INDEX_VARIABLE for variable in container.env):
            variable = container.env.add(name=INDEX_VARIABLE)
            variable.valueFrom.fieldRef.fieldPath = f"metadata.annotations['{INDEX}']"
    return pod


def missing(job: batch_pb2.Job, active: Sequence[core_pb2.Pod], completed: Collection[int], count: int) -> list[int]:
    """The first `count` indexes that are neither completed nor being worked on."""
    busy = {index_of(pod) for pod in active}
    free = (index for index in range(job.spec.completions) if index not in completed and index not in busy)
    return list(itertools.islice(free, count))


def surplus(
    job: batch_pb2.Job, active: Sequence[core_pb2.Pod], completed: Collection[int], wanted: int
) -> list[core_pb2.Pod]:
    """Pods that must go: without a use for their index, second ones of an index, and those beyond `wanted`."""
    order = ranked(list(active))
    useless: list[core_pb2.Pod] = []
    if is_indexed(job):
        held: set[int] = set()
        for pod in reversed(order):
            index = index_of(pod)
            if index is None or index >= job.spec.completions or index in completed or index in held:
                useless.append(pod)
            else:
                held.add(index)
    gone = {pod.metadata.uid for pod in useless}
    rest = [pod for pod in order if pod.metadata.uid not in gone]
    return useless + rest[: max(0, len(rest) - wanted)]


def pause(pods: Sequence[core_pb2.Pod], now: float) -> float:
    """Seconds until the next pod may start, after the failures since the last success; 0: at once.

    Pods that somebody deleted (a drain, a suspension) are no failures of the work: Kubernetes backs off for them, too.
    """
    there = [pod for pod in pods if not is_terminating(pod)]
    since = max((ended(pod) for pod in there if pod.status.phase == "Succeeded"), default=-math.inf)
    failures = [at for pod in there if pod.status.phase == "Failed" and (at := ended(pod)) > since]
    if not failures:
        return 0.0
    delay = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(len(failures) - 1, 16))
    return max(0.0, max(failures) + delay - now)


def ended(pod: core_pb2.Pod) -> float:
    """Unix seconds of the end of a finished pod: of its last container, else of its readiness, else of its making."""
    states = [status.state for status in pod.status.containerStatuses if status.state.HasField("terminated")]
    last = max((seconds(state.terminated.finishedAt) for state in states), default=0.0)
    if last:
        return last
    ready = condition(pod.status, "Ready")
    if ready is not None and ready.HasField("lastTransitionTime"):
        return seconds(ready.lastTransitionTime)
    return seconds(pod.metadata.creationTimestamp)
