"""One image per ReplicaSet: the first pod finds out, the others are told."""

from __future__ import annotations

from master.controllers import imagepins, replicaset
from master.controllers.imagepins import ALONE_SECONDS, MIXED, PINS
from master.controllers.plan import Create, Note, Plan
from protos import core_pb2
from tests.master.controllers.deployment.world import World, deployment

DIGEST = "docker-pullable://web@sha256:aaaa"


def begun(replicas: int = 3) -> World:
    world = World(deployment(replicas=replicas))
    world.deploy()
    world.keep_all()
    return world


def image_of(pod: core_pb2.Pod, id: str) -> None:
    pod.spec.nodeName = "n1"
    del pod.status.containerStatuses[:]
    pod.status.containerStatuses.add(name="app", image="web:1", imageID=id)


def keep(world: World) -> Plan:
    (rs,) = world.sets.values()
    plan = replicaset.reconcile(rs, list(world.pods.values()), world.now)
    world.apply(plan)
    return plan


def test_one_pod_first_and_its_digest_for_the_rest() -> None:
    world = begun()
    assert len(world.pods) == 1
    plan = keep(world)
    assert len(world.pods) == 1 and plan.again == ALONE_SECONDS
    (first,) = world.pods.values()
    assert PINS not in first.metadata.annotations
    image_of(first, DIGEST)
    keep(world)
    (rs,) = world.sets.values()
    assert imagepins.read(rs.metadata.annotations) == {"web:1": "web@sha256:aaaa"}
    assert len(world.pods) == 3
    later = [pod for pod in world.pods.values() if pod is not first]
    assert all(imagepins.read(pod.metadata.annotations) == {"web:1": "web@sha256:aaaa"} for pod in later)
    # What the tag means by now is no matter.
    image_of(first, "docker-pullable://web@sha256:bbbb")
    keep(world)
    assert imagepins.read(rs.metadata.annotations) == {"web:1": "web@sha256:aaaa"}


def test_a_first_pod_that_cannot_find_out_holds_nobody_for_long() -> None:
    world = begun()
    world.now += ALONE_SECONDS
    keep(world)
    assert len(world.pods) == 3


def test_images_of_no_registry_are_compared() -> None:
    world = begun(2)
    (first,) = world.pods.values()
    image_of(first, "docker://sha256:one")
    keep(world)
    assert len(world.pods) == 2, "there is no digest to wait for"
    for pod in world.pods.values():
        if pod is not first:
            image_of(pod, "docker://sha256:two")
    plan = keep(world)
    (note,) = [action for action in plan.actions if isinstance(action, Note)]
    assert note.reason == "MixedImages" and "sha256:one, sha256:two" in note.message
    (rs,) = world.sets.values()
    assert MIXED in rs.metadata.annotations
    assert not [action for action in keep(world).actions if isinstance(action, Note)], "told once"


def test_a_digest_in_the_template_needs_no_finding_out() -> None:
    world = World(deployment(replicas=3, image="web@sha256:aaaa"))
    world.deploy()
    world.keep_all()
    assert len(world.pods) == 3


def test_a_replica_set_of_its_own_is_not_pinned() -> None:
    world = begun()
    (rs,) = world.sets.values()
    del rs.metadata.ownerReferences[:]
    world.pods.clear()
    plan = keep(world)
    assert len([action for action in plan.actions if isinstance(action, Create)]) == 3


def test_annotations_that_are_no_json_are_none() -> None:
    assert imagepins.read({PINS: "["}) == {} and imagepins.read({PINS: "[1]"}) == {}
