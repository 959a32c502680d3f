"""The number of pods is kept: adoption never steals, surplus goes in order, any order of events converges."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from master.controllers.members import BURST
from master.controllers.plan import Change, Create, Delete, Plan
from master.controllers.pods import controller_of, is_active
from master.controllers.ranking import ranked
from master.controllers.replication import reconcile
from protos import core_pb2
from tests.master.controllers.builders import NOW, pod, rc, reference


def of(plan: Plan, kind: type) -> list[Any]:
    return [action for action in (*plan.actions, *plan.after) if isinstance(action, kind)]


def whats(plan: Plan) -> list[str]:
    return sorted(action.what for action in of(plan, Change))


def test_creates_what_is_missing_with_owner_labels_and_generated_name() -> None:
    web = rc("web", 3)
    plan = reconcile(web, [pod("web-a", labels={"app": "web"}, owner=web)], NOW)
    creates = of(plan, Create)
    assert len(creates) == 2
    made = creates[0].obj
    assert (made.metadata.name, made.metadata.generateName) == ("", "web-")
    assert made.metadata.labels["app"] == "web"
    assert made.metadata.ownerReferences[0] == reference(web)
    assert "create 2 Pod" in plan.summary()


def test_terminating_and_finished_pods_do_not_count() -> None:
    web, labels = rc("web", 2), {"app": "web"}
    pods = [
        pod("a", labels=labels, owner=web, node="n", terminating=True),
        pod("b", labels=labels, owner=web, node="n", phase="Failed"),
        pod("c", labels=labels, owner=web, node="n"),
    ]
    assert len(of(reconcile(web, pods, NOW), Create)) == 1


def test_adopts_orphans_and_releases_those_that_no_longer_match() -> None:
    web = rc("web", 2)
    orphan = pod("orphan", labels={"app": "web"})
    strayed = pod("strayed", labels={"app": "other"}, owner=web)
    plan = reconcile(web, [orphan, strayed], NOW)
    assert whats(plan) == ["adopt", "release", "status"]
    assert len(of(plan, Create)) == 1
    changes = {action.what: action for action in of(plan, Change)}
    changes["adopt"].change(orphan)
    changes["release"].change(strayed)
    owner = controller_of(orphan)
    assert owner is not None and owner.uid == web.metadata.uid
    assert not strayed.metadata.ownerReferences


def test_adoption_looks_again_and_never_steals() -> None:
    web, other = rc("web", 1), rc("other", 1, {"app": "web"})
    orphan = pod("orphan", labels={"app": "web"})
    plan = reconcile(web, [orphan], NOW)
    orphan.metadata.ownerReferences.append(reference(other))
    of(plan, Change)[0].change(orphan)
    assert [owner.uid for owner in orphan.metadata.ownerReferences] == [other.metadata.uid]


def test_an_adoption_deletes_nothing_in_the_same_pass() -> None:
    web, labels = rc("web", 1), {"app": "web"}
    plan = reconcile(web, [pod("a", labels=labels, owner=web), pod("orphan", labels=labels)], NOW)
    assert not of(plan, Delete) and "adopt" in whats(plan)


def test_surplus_goes_in_kubernetes_order() -> None:
    web = rc("web", 0)

    def make(name: str, **kinds: Any) -> core_pb2.Pod:
        return pod(name, labels={"app": "web"}, owner=web, **kinds)

    cheap = make("cheap", node="n1", ready=True)
    cheap.metadata.annotations["controller.kubernetes.io/pod-deletion-cost"] = "-5"
    worth = [
        make("unassigned"),
        make("pending", node="n1", phase="Pending"),
        make("not-ready", node="n1"),
        cheap,
        make("crowded", node="n1", ready=True),
        make("young", node="n2", ready=True, ready_at=NOW - 5),
        make("old", node="n3", ready=True, ready_at=NOW - 500),
        make("oldest", node="n1", ready=True, ready_at=NOW - 900),
    ]
    assert [p.metadata.name for p in ranked(list(reversed(worth)))] == [p.metadata.name for p in worth]
    assert len(of(reconcile(web, worth, NOW), Delete)) == len(worth)


def test_what_stays_is_spread_evenly() -> None:
    web = rc("web", 3)
    pods = [
        pod(f"{n}{i}", labels={"app": "web"}, owner=web, node=n, ready=True)
        for n in "xyz"
        for i in range({"x": 6, "y": 2, "z": 1}[n])
    ]
    gone = {p.metadata.name for p in ranked(pods)[:6]}
    assert sorted(p.spec.nodeName for p in pods if p.metadata.name not in gone) == ["x", "y", "z"]


def test_never_more_than_the_burst_in_one_pass() -> None:
    assert len(of(reconcile(rc("web", 3 * BURST), [], NOW), Create)) == BURST


def test_a_controller_that_is_going_neither_creates_nor_adopts() -> None:
    web = rc("web", 3)
    web.metadata.deletionTimestamp.FromSeconds(1)
    plan = reconcile(web, [pod("orphan", labels={"app": "web"})], NOW)
    assert not of(plan, Create) and "adopt" not in whats(plan)


def test_available_after_min_ready_seconds() -> None:
    web = rc("web", 2)
    web.spec.minReadySeconds = 60
    labels = {"app": "web"}
    pods = [
        pod("a", labels=labels, owner=web, node="n", ready=True, ready_at=NOW - 100),
        pod("b", labels=labels, owner=web, node="n", ready=True, ready_at=NOW - 50),
    ]
    plan = reconcile(web, pods, NOW)
    (write,) = of(plan, Change)
    write.change(web)
    status = web.status
    assert (status.replicas, status.readyReplicas, status.availableReplicas) == (2, 2, 1)
    assert (status.fullyLabeledReplicas, status.observedGeneration) == (2, 1)
    assert plan.again == 10
    assert not reconcile(web, pods, NOW)


class World:
    """Pods and a controller; plans are carried out here as the API would."""

    def __init__(self, replicas: int) -> None:
        self.rc = rc("web", replicas)
        self.other = rc("other", 0, {"app": "web", "extra": "yes"})
        self.pods: dict[str, core_pb2.Pod] = {}
        self.count = 0

    def apply(self, plan: Plan) -> None:
        for action in (*plan.actions, *plan.after):
            match action:
                case Create():
                    made = core_pb2.Pod()
                    made.CopyFrom(action.obj)
                    self.count += 1
                    made.metadata.name = f"{made.metadata.generateName}{self.count}"
                    made.metadata.uid = made.metadata.name
                    self.pods[made.metadata.name] = made
                case Delete():
                    found = self.pods.get(action.key[2])
                    if found is not None and found.spec.nodeName:
                        found.metadata.deletionTimestamp.FromSeconds(1)
                    else:
                        self.pods.pop(action.key[2], None)
                case Change():
                    action.change(self.rc if action.key[0] != "Pod" else self.pods[action.key[2]])

    def mine(self) -> list[core_pb2.Pod]:
        return [
            p
            for p in self.pods.values()
            if is_active(p) and (owner := controller_of(p)) is not None and owner.uid == self.rc.metadata.uid
        ]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["pass", "kill", "fail", "bind", "orphan", "foreign", "relabel", "scale", "lose"]),
        st.integers(0, 9),
    ),
    max_size=25,
)


@settings(max_examples=150)
@given(st.integers(0, 6), STEPS)
def test_any_order_of_events_converges(replicas: int, steps: list[tuple[str, int]]) -> None:
    world = World(replicas)
    foreign: set[str] = set()
    for step, number in steps:
        names = sorted(world.pods)
        chosen = world.pods[names[number % len(names)]] if names else None
        if step == "pass":
            before = len(world.mine())
            plan = reconcile(world.rc, list(world.pods.values()), NOW)
            adopted = sum(action.what == "adopt" for action in of(plan, Change))
            assert not (of(plan, Create) and of(plan, Delete))
            world.apply(plan)
            assert len(world.mine()) <= max(before + adopted, world.rc.spec.replicas)
        elif step == "scale":
            world.rc.spec.replicas = number
        elif step in ("orphan", "foreign"):
            world.count += 1
            made = pod(f"x{world.count}", labels={"app": "web"})
            if step == "foreign":
                made.metadata.ownerReferences.append(reference(world.other))
                foreign.add(made.metadata.name)
            world.pods[made.metadata.name] = made
        elif chosen is not None and chosen.metadata.name not in foreign:
            if step == "kill":
                chosen.metadata.deletionTimestamp.FromSeconds(1)
            elif step == "lose":
                del world.pods[chosen.metadata.name]
            elif step == "fail":
                chosen.status.phase = "Failed"
            elif step == "bind":
                chosen.spec.nodeName = "n1"
            else:
                chosen.metadata.labels["app"] = "strayed"
    for _ in range(4):
        world.apply(reconcile(world.rc, list(world.pods.values()), NOW))
    assert len(world.mine()) == world.rc.spec.replicas
    assert world.rc.status.replicas == world.rc.spec.replicas
    assert not reconcile(world.rc, list(world.pods.values()), NOW)
    for name in foreign:
        owner = controller_of(world.pods[name])
        assert owner is not None and owner.uid == world.other.metadata.uid
        assert not world.pods[name].metadata.HasField("deletionTimestamp")
