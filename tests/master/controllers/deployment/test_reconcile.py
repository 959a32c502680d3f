"""A Deployment's pass: ReplicaSets made and sized, conditions, revisions, history, config, and the way back."""

from __future__ import annotations

import pytest

from common.errors import Forbidden
from master.controllers.deployment import revisions
from master.controllers.plan import Change, Create
from protos import apps_pb2, core_pb2
from tests.master.controllers.deployment.world import World, deployment

CHANGE_CAUSE = "kubernetes.io/change-cause"


def rolled_out(**spec: object) -> World:
    """A world whose first template is all there."""
    world = World(deployment(**spec))  # type: ignore[arg-type]
    world.settle()
    return world


def newest(world: World) -> apps_pb2.ReplicaSet:
    return max(world.sets.values(), key=revisions.revision_of)


def test_the_first_replica_set() -> None:
    found = deployment(replicas=3, min_ready=5)
    found.metadata.annotations[CHANGE_CAUSE] = "first"
    found.metadata.annotations["kubectl.kubernetes.io/last-applied-configuration"] = "{}"
    world = World(found)
    (create,) = [action for action in world.plan().actions if isinstance(action, Create)]
    made = create.obj
    digest = made.metadata.labels["pod-template-hash"]
    assert made.metadata.name == f"web-{digest}" and len(digest) == 10
    assert made.spec.replicas == 3 and made.spec.minReadySeconds == 5
    assert dict(made.spec.selector.matchLabels) == {"app": "web", "pod-template-hash": digest}
    assert dict(made.spec.template.metadata.labels) == {"app": "web", "pod-template-hash": digest}
    assert dict(made.metadata.annotations) == {
        CHANGE_CAUSE: "first",
        "deployment.kubernetes.io/revision": "1",
        "deployment.kubernetes.io/desired-replicas": "3",
        "deployment.kubernetes.io/max-replicas": "4",
    }
    (owner,) = made.metadata.ownerReferences
    assert (owner.apiVersion, owner.kind, owner.controller) == ("apps/v1", "Deployment", True)
    world.deploy()
    assert world.condition("Progressing") == ("True", "NewReplicaSetCreated")
    assert world.condition("Available") == ("False", "MinimumReplicasUnavailable")
    assert world.deployment.metadata.annotations[revisions.REVISION] == "1"
    assert [note.message for note in world.notes] == [f"Scaled up replica set web-{digest} from 0 to 3"]
    world.settle()
    assert world.condition("Progressing") == ("True", "NewReplicaSetAvailable")
    assert world.condition("Available") == ("True", "MinimumReplicasAvailable")
    status = world.deployment.status
    assert (status.replicas, status.updatedReplicas, status.readyReplicas, status.availableReplicas) == (3, 3, 3, 3)


def test_a_new_template_and_back_again() -> None:
    world = rolled_out(replicas=2)
    (first,) = world.sets.values()
    world.template("web:2")
    world.settle()
    assert world.images() == ["web:2", "web:2"]
    assert revisions.revision_of(newest(world)) == 2
    world.template("web:1")
    world.settle()
    assert len(world.sets) == 2 and newest(world).metadata.name == first.metadata.name
    assert newest(world).metadata.annotations[revisions.REVISION] == "3"
    assert newest(world).metadata.annotations[revisions.HISTORY] == "1"


def test_pods_stay_when_only_annotations_of_the_deployment_change() -> None:
    world = rolled_out(replicas=2)
    before = set(world.pods)
    world.deployment.metadata.annotations[CHANGE_CAUSE] = "a better word"
    world.settle()
    assert set(world.pods) == before and len(world.sets) == 1
    assert newest(world).metadata.annotations[CHANGE_CAUSE] == "a better word"


def test_history_is_cut_to_its_limit() -> None:
    found = deployment(replicas=1)
    found.spec.revisionHistoryLimit = 2
    world = World(found)
    for number in range(6):
        world.template(f"web:{number}")
        world.settle()
    assert sorted(revisions.revision_of(rs) for rs in world.sets.values()) == [4, 5, 6]


def test_history_is_cut_though_no_rollout_ever_ends_and_the_way_back_stays() -> None:
    found = deployment(replicas=1)
    found.spec.revisionHistoryLimit = 2
    world = World(found)
    world.settle()
    for number in range(2, 9):
        world.template(f"web:{number}")
        world.settle(rounds=5, good=lambda pod: pod.spec.containers[0].image == "web:1")
    assert sorted(revisions.revision_of(rs) for rs in world.sets.values()) == [1, 6, 7, 8]


def test_pods_that_ended_do_not_keep_their_set() -> None:
    found = deployment(replicas=1)
    found.spec.revisionHistoryLimit = 0
    world = World(found)
    world.settle()
    next(iter(world.pods.values())).status.phase = "Failed"
    world.settle()
    world.template("web:2")
    world.settle()
    assert [revisions.revision_of(rs) for rs in world.sets.values()] == [2]


def test_another_template_with_the_same_name() -> None:
    found = deployment(replicas=1)
    world = World(found)
    name = f"web-{revisions.template_hash(found.spec.template)}"
    foreign = apps_pb2.ReplicaSet()
    foreign.metadata.name, foreign.metadata.namespace, foreign.metadata.uid = name, "default", "uid-foreign"
    foreign.metadata.labels["app"] = "other"
    world.sets[name] = foreign
    world.deploy()
    assert world.deployment.status.collisionCount == 1 and len(world.sets) == 1
    world.deploy()
    assert len(world.sets) == 2 and all(made == name or made.startswith("web-") for made in world.sets)


def test_a_replica_set_without_owner_is_adopted_and_a_stray_released() -> None:
    world = rolled_out(replicas=2)
    (rs,) = world.sets.values()
    del rs.metadata.ownerReferences[:]
    before = set(world.pods)
    world.settle()
    assert rs.metadata.ownerReferences and set(world.pods) == before and len(world.sets) == 1
    rs.metadata.labels["app"] = "strayed"
    world.deploy()
    assert not rs.metadata.ownerReferences


def test_paused_changes_wait_and_scaling_goes_on() -> None:
    world = rolled_out(replicas=2)
    world.pause()
    world.template("web:2")
    world.scale(4)
    world.settle()
    assert world.images() == ["web:1"] * 4
    assert world.condition("Progressing") == ("Unknown", "DeploymentPaused")
    world.pause(False)
    world.deploy()
    assert "NewReplicaSetCreated" in world.condition("Progressing")
    world.settle()
    assert world.images() == ["web:2"] * 4


def test_scaling_in_the_middle_of_a_rollout_is_proportional() -> None:
    world = rolled_out(replicas=10, surge=3, unavailable=2)
    world.template("web:2")
    for _ in range(6):
        # The new pods never become ready.
        world.deploy()
        world.keep_all()
        world.leave()
    sizes = {rs.spec.template.spec.containers[0].image: rs.spec.replicas for rs in world.sets.values()}
    assert sizes == {"web:1": 8, "web:2": 5}
    world.scale(15)
    for _ in range(3):
        world.deploy()
        world.keep_all()
        world.leave()
    sizes = {rs.spec.template.spec.containers[0].image: rs.spec.replicas for rs in world.sets.values()}
    # The example of Kubernetes' documentation: 3 of the 5 more go to the old, larger set.
    assert sizes == {"web:1": 11, "web:2": 7}


def test_no_progress_in_time() -> None:
    found = deployment(replicas=2)
    found.spec.progressDeadlineSeconds = 60
    world = World(found)
    world.settle()
    world.template("bad:1")
    world.settle(rounds=5, good=lambda pod: False)
    plan = world.plan()
    assert plan.again is not None and 0 < plan.again <= 60
    assert world.condition("Progressing")[0] == "True"
    world.now += 61
    world.deploy()
    assert world.condition("Progressing") == ("False", "ProgressDeadlineExceeded")
    assert world.images().count("web:1") == 2, "old pods serve throughout"
    world.template("web:1")
    world.settle()
    assert world.condition("Progressing") == ("True", "NewReplicaSetAvailable")


def test_the_deadline_of_one_rollout_says_nothing_of_the_next() -> None:
    found = deployment(replicas=1)
    found.metadata.annotations["sampan.dev/auto-rollback"] = "true"
    world = World(found)
    world.settle()
    world.template("web:2")
    world.deploy()
    # As if the master had died before it wrote the status: that still tells of an older failure.
    for one in world.deployment.status.conditions:
        if one.type == "Progressing":
            one.status, one.reason, one.message = (
                "False",
                "ProgressDeadlineExceeded",
                'ReplicaSet "web-older" timed out',
            )
    world.deploy()
    assert world.condition("Progressing") == ("True", "ReplicaSetUpdated")
    assert "RolledBack" not in world.reasons()


def failing(world: World, reason: str, restarts: int = 0) -> None:
    """The pods of the newest template have this trouble, for a minute already."""
    for pod in world.pods_of(newest(world)):
        pod.spec.nodeName, pod.status.phase = "n1", "Running"
        pod.status.startTime.FromSeconds(int(world.now) - 60)
        del pod.status.containerStatuses[:]
        status = pod.status.containerStatuses.add(name="app", restartCount=restarts)
        status.state.waiting.reason, status.state.waiting.message = reason, "because of this"


@pytest.mark.parametrize(
    ("reason", "restarts", "words"),
    [("ImagePullBackOff", 0, "because of this"), ("CrashLoopBackOff", 3, "restarted 3 times")],
)
def test_automatic_rollback_leaves_old_pods_alone(reason: str, restarts: int, words: str) -> None:
    found = deployment(replicas=3)
    found.metadata.annotations["sampan.dev/auto-rollback"] = "true"
    world = World(found)
    world.settle()
    before = set(world.pods)
    world.template("bad:1")
    for _ in range(4):
        world.deploy()
        world.keep_all()
    failing(world, reason, restarts)
    world.deploy()
    assert world.deployment.spec.template.spec.containers[0].image == "web:1"
    world.settle()
    assert set(world.pods) == before
    assert world.condition("RolledBack") == ("True", reason)
    (told,) = [one.message for one in world.deployment.status.conditions if one.type == "RolledBack"]
    assert told.startswith("revision 2 was rolled back: pod web-") and words in told
    assert world.condition("Progressing") == ("True", "NewReplicaSetAvailable")
    assert world.reasons().count("RolledBack") == 1
    # The same template again is tried again, and anything else ends the matter.
    world.template("web:3")
    world.settle()
    assert world.images() == ["web:3"] * 3 and world.condition("RolledBack") == ("", "")
    assert not any(mark in world.deployment.metadata.annotations for mark in revisions.ROLLBACK_MARKS)


def test_a_template_that_was_rolled_out_with_no_pods_has_proven_nothing() -> None:
    found = deployment(replicas=2)
    found.metadata.annotations["sampan.dev/auto-rollback"] = "true"
    world = World(found)
    world.settle()
    world.scale(0)
    world.settle()
    world.template("bad:1")
    world.settle()
    assert world.condition("Progressing") == ("True", "NewReplicaSetAvailable")
    assert revisions.ROLLED_OUT not in newest(world).metadata.annotations
    world.scale(2)
    for _ in range(4):
        world.deploy()
        world.keep_all()
    failing(world, "CrashLoopBackOff", 3)
    world.deploy()
    assert world.deployment.spec.template.spec.containers[0].image == "web:1"


def test_a_few_crashes_are_no_reason_to_go_back() -> None:
    found = deployment(replicas=1)
    found.metadata.annotations["sampan.dev/auto-rollback"] = "true"
    world = World(found)
    world.settle()
    world.template("web:2")
    world.deploy()
    world.keep_all()
    failing(world, "CrashLoopBackOff", restarts=2)
    world.deploy()
    assert world.deployment.spec.template.spec.containers[0].image == "web:2"


def test_without_a_complete_revision_there_is_no_way_back() -> None:
    found = deployment(replicas=1)
    found.metadata.annotations["sampan.dev/auto-rollback"] = "true"
    world = World(found)
    world.deploy()
    world.keep_all()
    failing(world, "ImagePullBackOff")
    world.template("bad:2")
    for _ in range(3):
        world.deploy()
        world.keep_all()
    failing(world, "ImagePullBackOff")
    world.deploy()
    assert world.deployment.spec.template.spec.containers[0].image == "bad:2"


def config(text: str) -> core_pb2.ConfigMap:
    return core_pb2.ConfigMap(metadata=core_pb2.ObjectMeta(name="settings", namespace="default"), data={"a": text})


def test_a_changed_config_rolls_the_pods_where_that_is_asked_for() -> None:
    found = deployment(replicas=2)
    found.metadata.annotations["sampan.dev/restart-on-config-change"] = "true"
    found.spec.template.spec.containers[0].envFrom.add().configMapRef.localObjectReference.name = "settings"
    world = World(found)
    key = ("ConfigMap", "default", "settings")
    world.configs[key] = config("one")
    world.settle()
    assert len(world.sets) == 1 and world.deployment.spec.template.metadata.annotations["sampan.dev/config-hash"]
    before = set(world.pods)
    world.configs[key] = config("two")
    world.settle()
    assert len(world.sets) == 2 and not before & set(world.pods)
    kept = set(world.pods)
    del world.configs[key]
    world.settle()
    assert set(world.pods) == kept, "pods that run are not replaced by pods that could not start"


def test_a_config_that_failed_is_not_tried_again_until_it_changes() -> None:
    found = deployment(replicas=1)
    found.metadata.annotations["sampan.dev/restart-on-config-change"] = "true"
    found.metadata.annotations["sampan.dev/auto-rollback"] = "true"
    found.spec.template.spec.containers[0].envFrom.add().configMapRef.localObjectReference.name = "settings"
    world = World(found)
    key = ("ConfigMap", "default", "settings")
    world.configs[key] = config("good")
    world.settle()
    before = set(world.pods)
    world.configs[key] = config("bad")
    for _ in range(3):
        world.deploy()
        world.keep_all()
    failing(world, "CrashLoopBackOff", 3)
    world.settle()
    assert set(world.pods) == before and world.condition("RolledBack")[0] == "True"
    world.configs[key] = config("better")
    world.settle()
    assert not before & set(world.pods) and world.condition("RolledBack") == ("", "")


def test_stop_first_is_chosen_and_told() -> None:
    world = rolled_out(replicas=1, surge=1, host_port=8080)
    world.template("web:2")
    world.settle()
    assert world.images() == ["web:2"]
    (note,) = [note for note in world.notes if note.reason == "StopFirst"]
    assert "host port 8080/TCP" in note.message


def test_a_replica_set_that_cannot_be_made_is_told() -> None:
    world = World(deployment(replicas=1))
    plan = world.plan()
    assert plan.failed is not None
    (create,) = [action for action in plan.actions if isinstance(action, Create)]
    (write,) = plan.failed([(create, Forbidden("no more of them"))])
    assert isinstance(write, Change)
    world._change(write)
    assert world.condition("Progressing") == ("False", "ReplicaSetCreateError")


def test_a_deployment_on_its_way_out_makes_nothing() -> None:
    found = deployment(replicas=2)
    found.metadata.deletionTimestamp.FromSeconds(1)
    world = World(found)
    assert not [action for action in world.plan().actions if isinstance(action, Create)]
