"""Runs the pods of a Job to their end: from the Job and its pods to a Plan; pure. Rules: Kubernetes' job controller."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from common.errors import SampanError, Unavailable
from master.controllers.claiming import Claimer
from master.controllers.index import selector_of
from master.controllers.job_counts import FINALIZER, Tally, is_indexed, is_tracked, tally, write_indexes
from master.controllers.job_pods import missing, new_pod, pause, surplus
from master.controllers.plan import NOTHING, Action, Change, Create, Delete, Note, Plan, Release
from master.controllers.pods import FINISHED, is_active, is_ready, is_terminating, seconds
from master.store.store import key_of
from protos import batch_pb2, core_pb2

KIND = "Job"
BURST = 500
COMPLETE, FAILED, SUSPENDED = "Complete", "Failed", "Suspended"


@dataclass(frozen=True)
class _End:
    """How a Job ends: the condition, with its reason and message."""

    type: str
    reason: str = ""
    message: str = ""


def reconcile(job: batch_pb2.Job, pods: Iterable[core_pb2.Pod], now: float) -> Plan:
    """Counts what ended, starts what is missing, stops what is too much, and ends the Job when it is over.

    `pods`: at least all of the namespace that match the selector or that the Job owns; `now` in Unix seconds.
    """
    claimer = Claimer(job, selector_of(job), is_active)
    mine, adopt, release = claimer.claim(pods)
    if is_terminating(job):
        return Plan(tuple(_untrack(pod) for pod in mine if is_tracked(pod)))
    if ending_of(job):
        return _cleared(job, mine, now)
    counts = tally(job, mine)
    active = [pod for pod in mine if is_active(pod) and is_tracked(pod)]
    status = _counted(job, counts, mine, active)
    end = _end(job, counts, mine, active, now) if counts.whole else None
    if end is not None:
        return _finish(job, status, end, mine, active, now)
    notes = _start(job, status, now)
    creates, doomed, again = _work(claimer, counts, mine, active, now)
    actions: list[Action] = [_tracking(action) for action in claimer.actions(adopt, ())]
    actions += claimer.actions((), release)
    if status != job.status:
        actions.append(_write(job, status))
    # What the Job itself takes away is not counted: its finalizer goes before the pod does.
    actions += [_untrack(pod) for pod in doomed]
    unmarked = [pod for pod in mine if is_active(pod) and not is_tracked(pod)]
    after: list[Action] = [Delete(key_of(pod), pod.metadata.uid, owner=job) for pod in doomed + unmarked]
    after += [_untrack(pod) for pod in counts.settled]
    return _careful([*actions, *creates], [*after, *notes], again)


def _careful(actions: list[Action], after: list[Action], again: float | None) -> Plan:
    """A refused pod must not keep others from being counted; a refused status must."""

    def failed(errors: Sequence[tuple[Action, SampanError]]) -> tuple[Action, ...]:
        return tuple(after) if all(isinstance(action, Create) for action, _ in errors) else ()

    return Plan(tuple(actions), tuple(after), again, failed)


def ending_of(job: batch_pb2.Job) -> batch_pb2.JobCondition | None:
    """The condition Complete or Failed that is True, or None while the Job goes on."""
    return next((c for c in job.status.conditions if c.type in (COMPLETE, FAILED) and c.status == "True"), None)


def reconcile_orphan(pod: core_pb2.Pod, job: batch_pb2.Job | None) -> Plan:
    """Takes the finalizer off a pod that no Job counts any more; `job` is the one that its owner reference means."""
    if job is not None or not is_tracked(pod):
        return NOTHING
    return Plan((_untrack(pod),))


def _cleared(job: batch_pb2.Job, mine: Sequence[core_pb2.Pod], now: float) -> Plan:
    """After the end: no pod runs, none is held, and the Job itself goes when its time is over."""
    actions: list[Action] = [_untrack(pod) for pod in mine if is_tracked(pod)]
    actions += [Delete(key_of(pod), pod.metadata.uid, owner=job) for pod in mine if is_active(pod)]
    if not job.spec.HasField("ttlSecondsAfterFinished"):
        return Plan(tuple(actions))
    end = ending_of(job)
    wait = seconds(end.lastTransitionTime) + job.spec.ttlSecondsAfterFinished - now if end is not None else 0.0
    if wait > 0:
        return Plan(tuple(actions), again=wait)
    return Plan(tuple(actions), (Delete(key_of(job), job.metadata.uid, propagation="Foreground"),))


def _end(
    job: batch_pb2.Job, counts: Tally, mine: Sequence[core_pb2.Pod], active: Sequence[core_pb2.Pod], now: float
) -> _End | None:
    limit = job.spec.backoffLimit
    restarts = _restarts(job, mine)
    if counts.all_failed > limit or (restarts > 0 and restarts >= limit):
        return _End(FAILED, "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    left = _time_left(job, now)
    if left is not None and left <= 0:
        return _End(FAILED, "DeadlineExceeded", "Job was active longer than specified deadline")
    if job.spec.HasField("completions"):
        over = counts.all_succeeded >= job.spec.completions
    else:
        over = counts.all_succeeded > 0 and not active
    return _End(COMPLETE) if over and not job.spec.suspend else None


def _restarts(job: batch_pb2.Job, mine: Sequence[core_pb2.Pod]) -> int:
    """Restarts of containers in pods that go on: with OnFailure a failure does not end the pod."""
    if job.spec.template.spec.restartPolicy != "OnFailure":
        return 0
    going = [pod for pod in mine if pod.status.phase not in FINISHED]
    return sum(
        status.restartCount
        for pod in going
        for status in (*pod.status.initContainerStatuses, *pod.status.containerStatuses)
    )


def _time_left(job: batch_pb2.Job, now: float) -> float | None:
    """Seconds until the deadline; None where there is none, or it does not run."""
    if job.spec.suspend or not job.spec.HasField("activeDeadlineSeconds") or not job.status.HasField("startTime"):
        return None
    return seconds(job.status.startTime) + job.spec.activeDeadlineSeconds - now


def _counted(
    job: batch_pb2.Job, counts: Tally, mine: Sequence[core_pb2.Pod], active: Sequence[core_pb2.Pod]
) -> batch_pb2.JobStatus:
    status = batch_pb2.JobStatus()
    status.CopyFrom(job.status)
    status.active = len(active)
    status.ready = sum(is_ready(pod) for pod in active)
    status.terminating = sum(is_terminating(pod) and pod.status.phase not in FINISHED for pod in mine)
    status.succeeded, status.failed = counts.succeeded, counts.failed
    if is_indexed(job):
        status.completedIndexes = write_indexes(counts.completed)
    del status.uncountedTerminatedPods.succeeded[:], status.uncountedTerminatedPods.failed[:]
    status.uncountedTerminatedPods.succeeded.extend(counts.noted_succeeded)
    status.uncountedTerminatedPods.failed.extend(counts.noted_failed)
    return status


def _finish(
    job: batch_pb2.Job,
    status: batch_pb2.JobStatus,
    end: _End,
    mine: Sequence[core_pb2.Pod],
    active: Sequence[core_pb2.Pod],
    now: float,
) -> Plan:
    """One write says how it ended, with everything counted; only then are pods stopped and let go."""
    noted = status.uncountedTerminatedPods
    killed = len(active) if end.type == FAILED else 0
    status.succeeded += len(noted.succeeded)
    status.failed += len(noted.failed) + killed
    del noted.succeeded[:], noted.failed[:]
    status.active = status.ready = 0
    status.terminating = 0
    if not status.HasField("startTime"):
        status.startTime.FromSeconds(int(now))
    if end.type == COMPLETE:
        status.completionTime.FromSeconds(int(now))
    _set(status, end.type, "True", end.reason, end.message, now)
    after: list[Action] = [_untrack(pod) for pod in mine if is_tracked(pod)]
    after += [Delete(key_of(pod), pod.metadata.uid, owner=job) for pod in active]
    if end.type == COMPLETE:
        after.append(Note(job, "Normal", "Completed", "Job completed"))
    else:
        after.append(Note(job, "Warning", end.reason, end.message))
    return Plan((_write(job, status),), tuple(after))


def _start(job: batch_pb2.Job, status: batch_pb2.JobStatus, now: float) -> list[Action]:
    """Start time and the condition Suspended; the events about a change of it."""
    known = next((c for c in status.conditions if c.type == SUSPENDED), None)
    if job.spec.suspend:
        status.ClearField("startTime")
        if known is not None and known.status == "True":
            return []
        _set(status, SUSPENDED, "True", "JobSuspended", "Job suspended", now)
        return [Note(job, "Normal", SUSPENDED, "Job suspended")]
    if not status.HasField("startTime"):
        status.startTime.FromSeconds(int(now))
    if known is None or known.status != "True":
        return []
    _set(status, SUSPENDED, "False", "JobResumed", "Job resumed", now)
    return [Note(job, "Normal", "Resumed", "Job resumed")]


def _work(
    claimer: Claimer, counts: Tally, mine: Sequence[core_pb2.Pod], active: Sequence[core_pb2.Pod], now: float
) -> tuple[list[Action], list[core_pb2.Pod], float | None]:
    """Pods to make, pods to take away, and the seconds until the next look."""
    job: batch_pb2.Job = claimer.owner
    left = _time_left(job, now)
    if job.spec.suspend:
        return [], list(active), None
    most = job.spec.parallelism
    if job.spec.HasField("completions"):
        wanted = min(most, job.spec.completions - counts.all_succeeded)
    else:
        wanted = min(most, len(active)) if counts.all_succeeded else most
    doomed = surplus(job, active, counts.completed, wanted)
    lacking = min(wanted - len(active) + len(doomed), BURST)
    if lacking <= 0 or doomed:
        return [], doomed, left
    wait = pause(mine, now)
    if wait > 0:
        return [], doomed, min(wait, left) if left is not None else wait
    if is_indexed(job):
        made = [new_pod(claimer, index) for index in missing(job, active, counts.completed, lacking)]
    else:
        made = [new_pod(claimer, None) for _ in range(lacking)]
    return [Create(pod, owner=job) for pod in made], doomed, left


def _set(status: batch_pb2.JobStatus, type: str, value: str, reason: str, message: str, now: float) -> None:
    found = next((c for c in status.conditions if c.type == type), None) or status.conditions.add(type=type)
    found.status, found.reason, found.message = value, reason, message
    found.lastProbeTime.FromSeconds(int(now))
    found.lastTransitionTime.FromSeconds(int(now))


def _write(job: batch_pb2.Job, status: batch_pb2.JobStatus) -> Change:
    before = batch_pb2.JobStatus()
    before.CopyFrom(job.status)

    def change(newest: batch_pb2.Job) -> None:
        # Counts are only right on top of the status they were made from.
        if newest.status != before:
            raise Unavailable("the status was changed meanwhile: the Job is looked at anew")
        newest.status.CopyFrom(status)

    return Change(key_of(job), job.metadata.uid, "status", change, status=True)


def _untrack(pod: core_pb2.Pod) -> Release:
    return Release(key_of(pod), pod.metadata.uid, FINALIZER)


def _tracking(adoption: Action) -> Action:
    """The adoption of a pod, which is then counted, too."""
    assert isinstance(adoption, Change)

    def change(newest: core_pb2.Pod) -> None:
        owners = len(newest.metadata.ownerReferences)
        adoption.change(newest)
        if len(newest.metadata.ownerReferences) > owners and not is_tracked(newest):
            newest.metadata.finalizers.append(FINALIZER)

    return Change(adoption.key, adoption.uid, adoption.what, change)
