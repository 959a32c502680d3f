"""One pod on every node that fits; updates never take more than they may; any order of events converges."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from master.controllers.daemonset import fits, pod_spec, reconcile, template_hash
from master.controllers.nodefit import pinned_to
from master.controllers.plan import Create, Delete
from master.controllers.pods import is_terminating
from master.controllers.tolerations import MEMORY_PRESSURE, NO_EXECUTE, NO_SCHEDULE, NOT_READY, UNSCHEDULABLE
from protos import apps_pb2, core_pb2
from tests.master.controllers.builders import node, pod
from tests.master.controllers.planworld import PlanWorld


def daemons(name: str = "logs", *, surge: int = 0, unavailable: int = 1, image: str = "image:1") -> apps_pb2.DaemonSet:
    ds = apps_pb2.DaemonSet()
    ds.metadata.name, ds.metadata.namespace, ds.metadata.uid, ds.metadata.generation = name, "default", "uid-ds", 1
    ds.spec.selector.matchLabels["app"] = name
    ds.spec.template.metadata.labels["app"] = name
    ds.spec.template.spec.containers.add(name="main", image=image)
    ds.spec.updateStrategy.type = "RollingUpdate"
    ds.spec.updateStrategy.rollingUpdate.maxUnavailable.intVal = unavailable
    ds.spec.updateStrategy.rollingUpdate.maxSurge.intVal = surge
    return ds


class World(PlanWorld):
    """Nodes, one DaemonSet, and its passes."""

    def __init__(self, ds: apps_pb2.DaemonSet, *nodes: core_pb2.Node) -> None:
        super().__init__(ds, *nodes)
        self._key = ("DaemonSet", "default", ds.metadata.name)
        self.memory: object = {}

    @property
    def ds(self) -> apps_pb2.DaemonSet:
        found: apps_pb2.DaemonSet = self.objects[self._key]
        return found

    def nodes(self) -> list[core_pb2.Node]:
        return [obj for key, obj in sorted(self.objects.items()) if key[0] == "Node"]

    def step(self) -> bool:
        """One pass; True when it did something."""
        plan, self.memory = reconcile(self.ds, self.pods(), self.nodes(), self.now, self.memory)  # type: ignore[arg-type]
        self.apply(plan)
        return bool(plan)

    def settle(self) -> None:
        """Passes and nodes that do what they are told, until nothing changes any more."""
        for _ in range(500):
            moved = self.step()
            for found in self.pods():
                if is_terminating(found):
                    self.stopped(found)
                    moved = True
                elif found.status.phase == "Pending":
                    self.run(found)
                    moved = True
            self.now += 1000 if not moved and any(p.status.phase == "Failed" for p in self.pods()) else 1
            if not moved and not any(p.status.phase == "Failed" for p in self.pods()):
                return
        raise AssertionError("it does not settle")

    def on(self) -> dict[str, list[core_pb2.Pod]]:
        found: dict[str, list[core_pb2.Pod]] = {}
        for one in self.live():
            found.setdefault(pinned_to(one.spec), []).append(one)
        return found

    def available(self) -> int:
        return sum(any(c.status == "True" for p in pods for c in p.status.conditions) for pods in self.on().values())

    def change_template(self, image: str) -> None:
        ds = apps_pb2.DaemonSet()
        ds.CopyFrom(self.ds)
        ds.spec.template.spec.containers[0].image = image
        ds.metadata.generation += 1
        self.put(ds)


def tainted(name: str, key: str, effect: str) -> core_pb2.Node:
    made = node(name)
    made.spec.taints.add(key=key, effect=effect)
    return made


def test_every_node_that_fits_gets_one_pod_made_for_it() -> None:
    ds = daemons()
    ds.spec.template.spec.nodeSelector["disk"] = "ssd"
    world = World(ds, node("n1", labels={"disk": "ssd"}), node("n2"), node("n3", labels={"disk": "ssd"}))
    world.settle()
    assert sorted(world.on()) == ["n1", "n3"]
    made = world.on()["n1"][0]
    assert made.metadata.labels["controller-revision-hash"] == template_hash(ds.spec.template)
    assert made.metadata.ownerReferences[0].kind == "DaemonSet" and made.metadata.generateName == "logs-"
    status = world.ds.status
    assert (status.desiredNumberScheduled, status.currentNumberScheduled, status.numberAvailable) == (2, 2, 2)
    assert (status.updatedNumberScheduled, status.numberUnavailable, status.observedGeneration) == (2, 0, 1)


def test_a_new_node_gets_a_pod_and_a_node_that_is_gone_loses_its_own() -> None:
    world = World(daemons(), node("n1"))
    world.settle()
    world.put(node("n2"))
    world.settle()
    assert sorted(world.on()) == ["n1", "n2"]
    del world.objects[("Node", "", "n1")]
    world.settle()
    assert sorted(world.on()) == ["n2"]


def test_taints_of_the_node_are_borne_and_taints_of_users_are_not() -> None:
    spec = pod_spec(daemons())
    assert fits(spec, tainted("n", MEMORY_PRESSURE, NO_SCHEDULE)) == (True, True)
    assert fits(spec, tainted("n", UNSCHEDULABLE, NO_SCHEDULE)) == (True, True)
    assert fits(spec, tainted("n", NOT_READY, NO_EXECUTE)) == (True, True)
    assert fits(spec, tainted("n", "dedicated", NO_SCHEDULE)) == (False, True)
    assert fits(spec, tainted("n", "dedicated", NO_EXECUTE)) == (False, False)
    assert fits(spec, tainted("n", "dedicated", "PreferNoSchedule")) == (True, True)


def test_a_pod_stays_on_a_node_that_would_get_none_now_and_is_counted_there() -> None:
    world = World(daemons(), node("n1"))
    world.settle()
    world.put(tainted("n1", "dedicated", NO_SCHEDULE))
    world.settle()
    assert sorted(world.on()) == ["n1"]
    assert (world.ds.status.desiredNumberScheduled, world.ds.status.numberMisscheduled) == (0, 1)
    world.put(tainted("n1", "dedicated", NO_EXECUTE))
    world.settle()
    assert not world.on()


def test_a_pod_on_its_way_out_still_holds_its_place() -> None:
    world = World(daemons(), node("n1"))
    world.settle()
    world.delete(world.pods()[0])
    plan, _ = reconcile(world.ds, world.pods(), world.nodes(), world.now, {})
    assert not [action for action in plan.actions if isinstance(action, Create)]


def test_failed_pods_are_replaced_after_a_growing_pause() -> None:
    world = World(daemons(), node("n1"))
    world.settle()
    pauses = []
    for _ in range(4):
        world.end(world.live()[0], "Failed")
        waited = 0
        while any(p.status.phase == "Failed" for p in world.pods()):
            world.step()
            if any(p.status.phase == "Failed" for p in world.pods()):
                world.now += 1
                waited += 1
        pauses.append(waited)
        world.step()
        world.run(world.live()[0])
    assert pauses == [0, 1, 2, 4]
    assert world.notes.count("FailedDaemonPod") == 4


def test_on_delete_waits_for_the_user() -> None:
    ds = daemons()
    ds.spec.updateStrategy.type = "OnDelete"
    ds.spec.updateStrategy.ClearField("rollingUpdate")
    world = World(ds, node("n1"), node("n2"))
    world.settle()
    world.change_template("image:2")
    world.settle()
    assert {p.spec.containers[0].image for p in world.live()} == {"image:1"}
    world.delete(world.on()["n1"][0])
    world.settle()
    assert [pods[0].spec.containers[0].image for _, pods in sorted(world.on().items())] == ["image:2", "image:1"]
    assert world.ds.status.updatedNumberScheduled == 1


def test_a_broken_old_pod_goes_at_once_whatever_maxunavailable_says() -> None:
    world = World(daemons(), *(node(f"n{i}") for i in range(3)))
    world.settle()
    for name in ("n0", "n1"):
        world.run(world.on()[name][0], ready=False)
    world.change_template("image:2")
    plan, _ = reconcile(world.ds, world.pods(), world.nodes(), world.now, {})
    gone = {action.key[2] for action in plan.actions if isinstance(action, Delete)}
    assert gone == {world.on()[name][0].metadata.name for name in ("n0", "n1")}


def test_min_ready_seconds_hold_the_update_back() -> None:
    ds = daemons()
    ds.spec.minReadySeconds = 60
    world = World(ds, node("n1"))
    world.step()
    world.run(world.pods()[0])
    plan, _ = reconcile(world.ds, world.pods(), world.nodes(), world.now, {})
    assert plan.again is not None and 59 <= plan.again <= 60
    world.apply(plan)
    assert (world.ds.status.numberReady, world.ds.status.numberAvailable) == (1, 0)
    world.now += 61
    world.step()
    assert world.ds.status.numberAvailable == 1


def test_a_foreign_pod_is_never_touched() -> None:
    world = World(daemons(), node("n1"))
    other = pod("other", node="n1", labels={"app": "other"})
    world.put(other)
    world.settle()
    assert world.objects[("Pod", "default", "other")] == other


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 6), st.integers(0, 3), st.integers(1, 3), st.integers(0, 10_000))
def test_an_update_keeps_its_promises_at_every_step(count: int, surge: int, unavailable: int, seed: int) -> None:
    """Pods start and stop in any order; never too few available, never two of one template, at most surge extra."""
    dice = random.Random(seed)
    world = World(daemons(surge=surge, unavailable=unavailable), *(node(f"n{i}") for i in range(count)))
    world.settle()
    world.change_template("image:2")
    least = count if surge else count - unavailable
    for _ in range(400):
        world.step()
        for pods in world.on().values():
            images = [p.spec.containers[0].image for p in pods]
            assert len(images) == len(set(images)), images
        assert sum(len(pods) - 1 for pods in world.on().values()) <= surge
        assert world.available() >= least
        moves = [p for p in world.pods() if is_terminating(p) or p.status.phase == "Pending"]
        if not moves:
            break
        one = dice.choice(moves)
        world.stopped(one) if is_terminating(one) else world.run(one)
        world.now += 1
    world.settle()
    assert {p.spec.containers[0].image for p in world.live()} == {"image:2"} and len(world.live()) == count
    assert world.ds.status.updatedNumberScheduled == count


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(["add", "remove", "cordon", "ready", "gone", "fail", "delete", "change", "step"]),
                max_size=40), st.integers(0, 10_000))  # fmt: skip
def test_any_order_of_events_converges(events: list[str], seed: int) -> None:
    dice = random.Random(seed)
    world = World(daemons(), node("n0"))
    number = 0
    for event in events:
        pods = world.pods()
        match event:
            case "add":
                number += 1
                world.put(node(f"n{number}"))
            case "remove" if world.nodes():
                del world.objects[("Node", "", dice.choice(world.nodes()).metadata.name)]
            case "cordon" if world.nodes():
                world.put(tainted(dice.choice(world.nodes()).metadata.name, UNSCHEDULABLE, NO_SCHEDULE))
            case "ready" if pods:
                world.run(dice.choice(pods), ready=dice.random() < 0.7)
            case "gone" if any(map(is_terminating, pods)):
                world.stopped(dice.choice([p for p in pods if is_terminating(p)]))
            case "fail" if pods:
                world.end(dice.choice(pods), "Failed")
            case "delete" if pods:
                world.delete(dice.choice(pods))
            case "change":
                number += 1
                world.change_template(f"image:{number}")
            case "step":
                world.step()
        world.now += 1
        assert all(len(found) <= 1 for found in world.on().values())
    world.settle()
    assert sorted(world.on()) == sorted(n.metadata.name for n in world.nodes())
    images = {p.spec.containers[0].image for p in world.live()}
    assert images <= {world.ds.spec.template.spec.containers[0].image}
