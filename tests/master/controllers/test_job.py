"""A Job runs as many pods as it takes, counts each end once whatever crashes, and ends for the right reason."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from master.api.defaults.job import add_selector, default_job
from master.controllers.job import ending_of, reconcile, reconcile_orphan
from master.controllers.job_counts import FINALIZER, index_of, is_tracked
from master.controllers.plan import Create
from master.controllers.pods import is_terminating
from protos import batch_pb2, core_pb2
from tests.master.controllers.builders import NOW, pod
from tests.master.controllers.planworld import PlanWorld


def job(name: str = "pi", **spec: object) -> batch_pb2.Job:
    made = batch_pb2.Job()
    made.metadata.name, made.metadata.namespace, made.metadata.uid, made.metadata.generation = name, "default", "u", 1
    for field, value in spec.items():
        setattr(made.spec, field, value)
    made.spec.template.spec.containers.add(name="main", image="perl")
    made.spec.template.spec.restartPolicy = "Never"
    default_job(made)
    add_selector(made)
    return made


class World(PlanWorld):
    """One Job and its passes."""

    KEY = ("Job", "default", "pi")

    @property
    def job(self) -> batch_pb2.Job:
        found: batch_pb2.Job = self.objects[self.KEY]
        return found

    def step(self, only: int | None = None) -> bool:
        plan = reconcile(self.job, self.pods(), self.now)
        self.apply(plan, only=only)
        return bool(plan)

    def passes(self) -> None:
        for _ in range(50):
            if not self.step():
                return
        raise AssertionError("it never rests")

    def finish(self, phase: str, count: int = 1) -> None:
        for found in self.live()[:count]:
            self.end(found, phase)
        self.passes()

    def held(self, kind: str) -> str:
        return next(
            (c.reason or "yes" for c in self.job.status.conditions if c.type == kind and c.status == "True"), ""
        )

    def spec(self, **changes: object) -> None:
        copy = batch_pb2.Job()
        copy.CopyFrom(self.job)
        for field, value in changes.items():
            setattr(copy.spec, field, value)
        self.put(copy)


def test_a_job_of_one_pod_completes() -> None:
    world = World(job())
    world.passes()
    (made,) = world.pods()
    assert made.metadata.generateName == "pi-" and is_tracked(made)
    assert made.metadata.labels["job-name"] == made.metadata.labels["batch.kubernetes.io/job-name"] == "pi"
    assert made.metadata.labels["controller-uid"] == "u"
    assert (world.job.status.active, world.job.status.startTime.seconds) == (1, int(NOW))
    world.finish("Succeeded")
    status = world.job.status
    assert world.held("Complete") and (status.succeeded, status.failed, status.active) == (1, 0, 0)
    assert status.completionTime.seconds == int(NOW) and "Completed" in world.notes
    assert not any(map(is_tracked, world.pods())) and len(world.pods()) == 1


def test_never_more_pods_than_parallelism_nor_than_are_still_needed() -> None:
    world = World(job(completions=5, parallelism=3))
    world.passes()
    assert len(world.live()) == 3
    world.finish("Succeeded", 3)
    assert len(world.live()) == 2 and world.job.status.succeeded == 3
    world.finish("Succeeded", 2)
    assert world.held("Complete") and world.made == 5


def test_a_work_queue_ends_with_its_first_success_and_starts_nothing_more() -> None:
    world = World(job(parallelism=3))
    world.passes()
    world.finish("Succeeded")
    assert len(world.live()) == 2 and not world.held("Complete")
    world.finish("Failed")
    assert len(world.live()) == 1
    world.finish("Succeeded")
    assert world.held("Complete") and (world.job.status.succeeded, world.job.status.failed) == (2, 1)


def test_failures_are_tried_again_after_10_20_40_seconds_and_then_the_job_fails() -> None:
    world = World(job(backoffLimit=3))
    pauses = []
    for _ in range(3):
        world.passes()
        world.finish("Failed")
        waited = 0
        while not world.live():
            plan = reconcile(world.job, world.pods(), world.now)
            assert plan.again is not None or plan
            world.apply(plan)
            if not world.live():
                world.now += 1
                waited += 1
        pauses.append(waited)
    assert pauses == [10, 20, 40]
    world.finish("Failed")
    assert world.held("Failed") == "BackoffLimitExceeded" and world.job.status.failed == 4
    assert not world.held("Complete") and not world.job.status.HasField("completionTime")


def test_restarts_count_against_the_limit_where_pods_restart() -> None:
    made = job(backoffLimit=2)
    made.spec.template.spec.restartPolicy = "OnFailure"
    world = World(made)
    world.passes()
    running = world.pods()[0]
    world.run(running)
    copy = core_pb2.Pod()
    copy.CopyFrom(world.pods()[0])
    copy.status.containerStatuses.add(name="main", restartCount=2)
    world.put(copy)
    world.passes()
    assert world.held("Failed") == "BackoffLimitExceeded" and not world.live()


def test_the_deadline_ends_running_pods() -> None:
    world = World(job(activeDeadlineSeconds=30, parallelism=2, completions=2))
    world.passes()
    plan = reconcile(world.job, world.pods(), world.now + 1)
    assert plan.again == pytest.approx(29)
    for found in world.pods():
        world.run(found)
    world.now += 30
    world.passes()
    assert world.held("Failed") == "DeadlineExceeded" and not world.live()
    assert (world.job.status.active, world.job.status.failed) == (0, 2)


def test_a_suspended_job_runs_nothing_and_what_it_stops_is_no_failure() -> None:
    world = World(job(parallelism=2, completions=2))
    world.passes()
    for found in world.pods():
        world.run(found)
    world.spec(suspend=True)
    world.passes()
    assert world.held("Suspended") == "JobSuspended" and not world.live()
    assert not world.job.status.HasField("startTime") and world.job.status.failed == 0
    for found in world.pods():
        world.end(found, "Failed")
    world.now += 5
    world.spec(suspend=False)
    world.passes()
    assert not world.held("Suspended") and world.notes[-1] == "Resumed"
    assert len(world.live()) == 2 and world.job.status.startTime.seconds == int(world.now)


def test_a_pod_that_somebody_deletes_counts_as_failed_and_is_replaced_at_once() -> None:
    world = World(job())
    world.passes()
    world.run(world.pods()[0])
    world.delete(world.pods()[0])
    world.passes()
    assert len(world.live()) == 1 and world.job.status.failed == 1
    world.stopped(next(p for p in world.pods() if is_terminating(p)))
    world.passes()
    assert world.job.status.failed == 1


def test_an_indexed_job_does_every_index_once() -> None:
    world = World(job(completions=4, parallelism=2, completionMode="Indexed"))
    world.passes()
    assert sorted(map(index_of, world.live())) == [0, 1]  # type: ignore[type-var]
    first = world.live()[0]
    assert first.metadata.generateName == "pi-0-" and first.spec.hostname == "pi-0"
    variable = first.spec.containers[0].env[0]
    assert variable.name == "JOB_COMPLETION_INDEX"
    path = variable.valueFrom.fieldRef.fieldPath
    assert path == "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    assert first.metadata.labels["batch.kubernetes.io/job-completion-index"] == "0"
    world.end(next(p for p in world.live() if index_of(p) == 1), "Succeeded")
    world.passes()
    assert world.job.status.completedIndexes == "1"
    assert sorted(map(index_of, world.live())) == [0, 2]  # type: ignore[type-var]
    while world.live():
        world.finish("Succeeded")
    assert world.held("Complete") and world.job.status.completedIndexes == "0-3" and world.job.status.succeeded == 4


def test_of_two_pods_with_one_index_one_goes_uncounted() -> None:
    world = World(job(completions=2, parallelism=2, completionMode="Indexed"))
    world.passes()
    double = core_pb2.Pod()
    double.CopyFrom(world.live()[0])
    double.metadata.name, double.metadata.uid = "double", "uid-double"
    world.put(double)
    world.passes()
    assert sorted(map(index_of, world.live())) == [0, 1]  # type: ignore[type-var]
    assert world.job.status.failed == 0


def test_a_finished_job_goes_when_its_time_is_over() -> None:
    world = World(job(ttlSecondsAfterFinished=100))
    world.passes()
    world.finish("Succeeded")
    plan = reconcile(world.job, world.pods(), world.now + 1)
    assert plan.again == pytest.approx(99)
    world.now += 100
    world.step()
    assert World.KEY not in world.objects


def test_pods_of_a_job_that_is_gone_are_let_go() -> None:
    world = World(job())
    world.passes()
    (made,) = world.pods()
    assert not reconcile_orphan(made, world.job)
    world.apply(reconcile_orphan(made, None))
    assert not is_tracked(world.pods()[0])
    assert not reconcile_orphan(world.pods()[0], None)


def test_an_orphan_that_fits_is_adopted_and_counted() -> None:
    world = World(job(parallelism=1, completions=1))
    orphan = pod("orphan", labels=dict(world.job.spec.selector.matchLabels), node="n")
    world.put(orphan)
    world.step()
    adopted = world.objects[("Pod", "default", "orphan")]
    assert adopted.metadata.ownerReferences[0].uid == "u" and FINALIZER in adopted.metadata.finalizers


def test_a_status_that_somebody_changed_is_not_written_over() -> None:
    world = World(job())
    world.passes()
    world.end(world.pods()[0], "Failed")
    plan = reconcile(world.job, world.pods(), world.now)
    other = batch_pb2.Job()
    other.CopyFrom(world.job)
    other.status.failed = 3
    world.put(other)
    world.apply(plan, only=1)
    assert world.job.status.failed == 3


@settings(deadline=None, max_examples=25)
@given(st.booleans(), st.integers(1, 5), st.integers(1, 4), st.integers(0, 10_000))
def test_each_end_is_counted_once_whatever_crashes(
    indexed: bool, completions: int, parallelism: int, seed: int
) -> None:
    """Pods end, are deleted and vanish in any order, and passes break off anywhere: counts are exact, never go down."""
    dice = random.Random(seed)
    mode = "Indexed" if indexed else "NonIndexed"
    world = World(job(completions=completions, parallelism=parallelism, completionMode=mode, backoffLimit=10_000))
    ended: dict[str, set[object]] = {"Succeeded": set(), "Failed": set()}
    before = (0, 0)
    for _ in range(300):
        world.step(only=dice.choice([0, 1, 2, 3, None, None]))
        world.now += dice.choice([0, 1, 400])
        status = world.job.status
        noted = status.uncountedTerminatedPods
        counts = (status.succeeded + len(noted.succeeded), status.failed + len(noted.failed))
        assert (counts[0] >= before[0] and counts[1] >= before[1]) or ending_of(world.job)
        before = counts
        assert len(world.live()) <= parallelism
        if indexed:
            indexes = [index_of(p) for p in world.live()]
            assert len(indexes) == len(set(indexes))
        if ending_of(world.job):
            break
        pods = world.live()
        if pods and dice.random() < 0.7:
            one = dice.choice(pods)
            if dice.random() < 0.15:
                world.run(one)
                world.delete(world.objects[("Pod", "default", one.metadata.name)])
                ended["Failed"].add(one.metadata.uid)
            else:
                how = "Succeeded" if dice.random() < 0.6 else "Failed"
                world.end(one, how)
                ended[how].add(index_of(one) if indexed and how == "Succeeded" else one.metadata.uid)
        for one in world.pods():
            if is_terminating(one) and dice.random() < 0.5:
                world.stopped(one)
            elif one.status.phase in ("Succeeded", "Failed") and dice.random() < 0.2:
                world.delete(one)
    assert ending_of(world.job) is not None
    assert world.job.status.succeeded == len(ended["Succeeded"]) == completions
    assert world.job.status.failed == len(ended["Failed"])
    world.passes()
    assert not any(map(is_tracked, world.pods())) and not world.live()


def test_creates_name_their_owner() -> None:
    plan = reconcile(job(), [], NOW)
    (made,) = [action for action in plan.actions if isinstance(action, Create)]
    assert made.owner.metadata.uid == made.obj.metadata.ownerReferences[0].uid == "u"
