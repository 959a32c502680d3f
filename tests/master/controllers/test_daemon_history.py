"""The history of a DaemonSet: one revision a template, the present one the newest, no more than are asked for."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from master.controllers.daemon_history import KIND, reconcile
from master.controllers.daemonset import template_hash
from master.controllers.index import selector_of
from master.controllers.plan import Create, Delete
from protos import apps_pb2, core_pb2
from tests.master.controllers.planworld import PlanWorld
from tests.master.controllers.test_daemonset import daemons


class World(PlanWorld):
    """One DaemonSet, its revisions, and pods of some of them."""

    def __init__(self, keep: int = 2) -> None:
        self.ds = daemons()
        self.ds.spec.revisionHistoryLimit = keep
        super().__init__(self.ds)
        self.used: list[core_pb2.Pod] = []

    def revisions(self) -> list[apps_pb2.ControllerRevision]:
        return sorted((obj for key, obj in self.objects.items() if key[0] == KIND), key=lambda one: one.revision)

    def step(self) -> int:
        digest = template_hash(self.ds.spec.template)
        actions = reconcile(self.ds, selector_of(self.ds), self.revisions(), self.used, digest)
        for action in actions:
            if isinstance(action, Create):
                action.obj.metadata.uid = action.obj.metadata.name
                self.objects[KIND, "default", action.obj.metadata.name] = action.obj
            elif isinstance(action, Delete):
                del self.objects[action.key]
            else:
                action.change(self.objects[action.key])  # type: ignore[union-attr]
        return len(actions)

    def settle(self, image: str) -> None:
        self.ds.spec.template.spec.containers[0].image = image
        for _ in range(20):
            if not self.step():
                return
        raise AssertionError("it does not come to rest")


def images(world: World) -> list[str]:
    patches = [json.loads(one.data.raw)["spec"]["template"] for one in world.revisions()]
    assert all(patch["$patch"] == "replace" for patch in patches)
    return [patch["spec"]["containers"][0]["image"] for patch in patches]


def test_each_template_is_kept_once_and_one_that_comes_back_is_the_newest() -> None:
    world = World()
    for image in ("a", "b", "a"):
        world.settle(image)
    assert images(world) == ["b", "a"]
    assert [one.revision for one in world.revisions()] == [2, 3]
    (newest,) = [one for one in world.revisions() if one.revision == 3]
    assert newest.metadata.name == f"logs-{template_hash(world.ds.spec.template)}"
    assert newest.metadata.ownerReferences[0].uid == "uid-ds" and newest.metadata.labels["app"] == "logs"


def test_what_pods_still_have_is_not_taken() -> None:
    world = World(keep=0)
    world.settle("a")
    held = core_pb2.Pod()
    held.metadata.labels["controller-revision-hash"] = template_hash(world.ds.spec.template)
    world.used = [held]
    world.settle("b")
    world.settle("c")
    assert images(world) == ["a", "c"]
    world.used = []
    world.settle("c")
    assert images(world) == ["c"]


def test_the_change_cause_follows_while_a_template_is_the_newest() -> None:
    world = World()
    world.ds.metadata.annotations["kubernetes.io/change-cause"] = "first"
    world.ds.metadata.annotations["kubectl.kubernetes.io/last-applied-configuration"] = "{}"
    world.settle("a")
    assert dict(world.revisions()[0].metadata.annotations) == {"kubernetes.io/change-cause": "first"}
    world.ds.metadata.annotations["kubernetes.io/change-cause"] = "the very first"
    world.settle("a")
    world.ds.metadata.annotations.pop("kubernetes.io/change-cause")
    world.settle("b")
    causes = [one.metadata.annotations.get("kubernetes.io/change-cause") for one in world.revisions()]
    assert causes == ["the very first", None]


def test_one_that_was_left_behind_is_adopted_and_another_controllers_is_not() -> None:
    world = World()
    world.settle("a")
    (kept,) = world.revisions()
    del kept.metadata.ownerReferences[:]
    assert world.step() and kept.metadata.ownerReferences[0].uid == "uid-ds"
    kept.metadata.ownerReferences[0].uid = "another"
    assert len(world.revisions()) == 1
    digest = template_hash(world.ds.spec.template)
    (made,) = reconcile(world.ds, selector_of(world.ds), world.revisions(), (), digest)
    assert isinstance(made, Create), "its own, though the name is taken until the other is gone"
    world.ds.metadata.deletionTimestamp.seconds = 1
    assert reconcile(world.ds, selector_of(world.ds), world.revisions(), (), digest) == ()


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=15), st.integers(0, 4))
def test_the_present_one_is_always_there_and_no_more_than_the_limit_besides(history: list[str], keep: int) -> None:
    world = World(keep)
    for image in history:
        world.settle(image)
        assert images(world)[-1] == image
        assert len(world.revisions()) <= keep + 1
    last = list(dict.fromkeys(reversed(history)))[: keep + 1]
    assert images(world) == last[::-1]
