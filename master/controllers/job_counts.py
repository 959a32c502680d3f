"""Counts the pods of a Job that ended, each exactly once, whatever crashes in between; pure.

A pod is counted in three steps: its uid is noted in the status, its finalizer goes, its uid leaves the list and the
count grows. Successes of an Indexed Job are a set of indexes, which needs no list.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from master.controllers.index import TRACKING
from master.controllers.pods import is_terminating
from protos import batch_pb2, core_pb2

FINALIZER = TRACKING
INDEX = "batch.kubernetes.io/job-completion-index"
NOTED_AT_ONCE = 500
"""So many uids are noted in one pass, as in Kubernetes: the status must not outgrow an object."""


@dataclass(frozen=True)
class Tally:
    """What the status is to say, and pods whose finalizer goes once it says so; `whole`: no ended pod is left out."""

    succeeded: int
    failed: int
    completed: frozenset[int]
    noted_succeeded: tuple[str, ...]
    noted_failed: tuple[str, ...]
    settled: tuple[core_pb2.Pod, ...]
    whole: bool = True

    @property
    def all_succeeded(self) -> int:
        return self.succeeded + len(self.noted_succeeded)

    @property
    def all_failed(self) -> int:
        return self.failed + len(self.noted_failed)


def outcome(pod: core_pb2.Pod) -> str:
    """Succeeded, Failed or empty. A pod on its way out has failed, as in Kubernetes: it may never get to its end."""
    if pod.status.phase == "Succeeded":
        return "Succeeded"
    return "Failed" if pod.status.phase == "Failed" or is_terminating(pod) else ""


def is_tracked(pod: core_pb2.Pod) -> bool:
    return FINALIZER in pod.metadata.finalizers


def is_indexed(job: batch_pb2.Job) -> bool:
    return bool(job.spec.completionMode == "Indexed")


def tally(job: batch_pb2.Job, pods: Sequence[core_pb2.Pod]) -> Tally:
    """Takes the Job's pods into its counts; `pods` are all of them."""
    status, tracked = job.status, [pod for pod in pods if is_tracked(pod)]
    there = {pod.metadata.uid for pod in tracked}
    noted = {
        "Succeeded": [uid for uid in status.uncountedTerminatedPods.succeeded if uid in there],
        "Failed": [uid for uid in status.uncountedTerminatedPods.failed if uid in there],
    }
    succeeded = status.succeeded + len(status.uncountedTerminatedPods.succeeded) - len(noted["Succeeded"])
    failed = status.failed + len(status.uncountedTerminatedPods.failed) - len(noted["Failed"])
    known = {*noted["Succeeded"], *noted["Failed"]}
    completed = set(read_indexes(status.completedIndexes))
    settled: list[core_pb2.Pod] = []
    whole = True
    room = max(0, NOTED_AT_ONCE - len(known))
    for pod in tracked:
        how = outcome(pod)
        if not how:
            continue
        if pod.metadata.uid in known:
            settled.append(pod)
        elif how == "Succeeded" and is_indexed(job):
            completed |= {index for index in (index_of(pod),) if index is not None and index < job.spec.completions}
            settled.append(pod)
        elif room > 0:
            room -= 1
            noted[how].append(pod.metadata.uid)
            settled.append(pod)
        else:
            whole = False
    if is_indexed(job):
        succeeded = len(completed)
    lists = tuple(noted["Succeeded"]), tuple(noted["Failed"])
    return Tally(succeeded, failed, frozenset(completed), *lists, tuple(settled), whole)


def index_of(pod: core_pb2.Pod) -> int | None:
    """The completion index a pod works on; None where it says none."""
    text = pod.metadata.annotations.get(INDEX, "")
    return int(text) if text.isascii() and text.isdigit() else None


def read_indexes(text: str) -> Iterable[int]:
    """From Kubernetes' form: `1,3-5,7`."""
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def write_indexes(indexes: Iterable[int]) -> str:
    """Into Kubernetes' form: sorted, two or more in a row as `3-5`."""
    spans: list[list[int]] = []
    for index in sorted(indexes):
        if spans and spans[-1][1] + 1 == index:
            spans[-1][1] = index
        else:
            spans.append([index, index])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)
