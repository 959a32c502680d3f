"""A ReplicationController's pods are replaced one by one, and never more than one is too many or missing."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from master.api.defaults import apply_defaults
from master.controllers.plan import Change, Create, Delete, Plan
from master.controllers.pods import controller_of, is_active, is_ready, is_terminating
from master.controllers.replication import reconcile
from master.controllers.rolling import ROLLING, made_from
from protos import core_pb2
from tests.master.controllers.builders import NOW, rc


class World:
    """A controller whose pods are all of its first template."""

    def __init__(self, replicas: int, host_port: int = 0) -> None:
        self.rc = rc("web", replicas)
        if host_port:
            self.rc.spec.template.spec.containers[0].ports.add(containerPort=80, hostPort=host_port)
        apply_defaults(self.rc)
        self.pods: dict[str, core_pb2.Pod] = {}
        self.made = 0

    def step(self) -> Plan:
        plan = reconcile(self.rc, list(self.pods.values()), NOW)
        for action in (*plan.actions, *plan.after):
            match action:
                case Create():
                    self._create(action.obj)
                case Delete():
                    self.pods[action.key[2]].metadata.deletionTimestamp.FromSeconds(1)
                case Change():
                    action.change(self.rc if action.key[0] != "Pod" else self.pods[action.key[2]])
        return plan

    def _create(self, obj: core_pb2.Pod) -> None:
        made = core_pb2.Pod()
        made.CopyFrom(obj)
        self.made += 1
        made.metadata.name = made.metadata.uid = f"web-{self.made:03}"
        apply_defaults(made)
        # As admission adds it: no mark of another template.
        made.spec.tolerations.add(key="node.kubernetes.io/not-ready", operator="Exists", tolerationSeconds=10)
        self.pods[made.metadata.name] = made

    def update(self, image: str, how: str = "once") -> None:
        self.rc.spec.template.spec.containers[0].image = image
        self.rc.metadata.annotations[ROLLING] = how
        self.rc.metadata.generation += 1

    def ready(self, pod: core_pb2.Pod, ready: bool = True) -> None:
        pod.spec.nodeName, pod.status.phase = "n1", "Running"
        del pod.status.conditions[:]
        pod.status.conditions.add(type="Ready", status="True" if ready else "False").lastTransitionTime.FromSeconds(1)

    def settle(self) -> None:
        for _ in range(60):
            self.step()
            for pod in self.pods.values():
                self.ready(pod)
            self.leave()

    def leave(self) -> None:
        self.pods = {name: pod for name, pod in self.pods.items() if not is_terminating(pod)}

    def active(self) -> list[core_pb2.Pod]:
        return [pod for pod in self.pods.values() if is_active(pod) and controller_of(pod)]

    def images(self) -> set[str]:
        return {pod.spec.containers[0].image for pod in self.active()}


def test_without_being_asked_old_pods_stay() -> None:
    world = World(3)
    world.settle()
    world.update("image:2", how="")
    before = set(world.pods)
    world.settle()
    assert set(world.pods) == before


def test_one_by_one_and_then_no_more() -> None:
    world = World(3)
    world.settle()
    world.update("image:2")
    world.step()
    assert len(world.active()) == 4
    (condition,) = [one for one in world.rc.status.conditions if one.type == "OutdatedPods"]
    assert condition.message == "3 of 3 pods are of an older template"
    world.settle()
    assert world.images() == {"image:2"} and len(world.active()) == 3
    assert ROLLING not in world.rc.metadata.annotations
    assert not [one for one in world.rc.status.conditions if one.type == "OutdatedPods"]
    assert not world.step()


def test_a_broken_template_costs_no_old_pod() -> None:
    world = World(3)
    world.settle()
    before = set(world.pods)
    world.update("broken:1")
    for _ in range(10):
        world.step()
    assert before <= {pod.metadata.name for pod in world.active()} and len(world.active()) == 4


def test_a_pod_changed_in_place_is_of_the_new_template() -> None:
    world = World(1)
    world.settle()
    (pod,) = world.pods.values()
    world.update("image:2")
    assert not made_from(pod, world.rc.spec.template)
    pod.spec.containers[0].image = "image:2"
    assert made_from(pod, world.rc.spec.template)
    world.settle()
    assert list(world.pods.values()) == [pod]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["step"] * 4 + ["ready"] * 4 + ["gone", "update", "unready", "lose", "scale"]),
        st.integers(0, 9),
    ),
    max_size=50,
)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 5), st.sampled_from([0, 8080]), STEPS)
@example(2, 0, [("step", 0), ("lose", 0), ("step", 0), ("scale", 1), ("step", 0)])
def test_bounds_hold_and_it_converges(replicas: int, host_port: int, steps: list[tuple[str, int]]) -> None:
    world = World(replicas, host_port)
    world.settle()
    world.update("image:new")
    surge = 0 if host_port else 1
    for step, number in steps:
        names = sorted(world.pods)
        chosen = world.pods[names[number % len(names)]] if names else None
        if step == "step":
            total, ready = len(world.active()), sum(map(is_ready, world.active()))
            wanted = world.rc.spec.replicas
            world.step()
            assert len(world.active()) <= max(total, wanted + surge)
            assert sum(map(is_ready, world.active())) >= min(ready, wanted - 1 + surge)
        elif step == "update":
            world.update(f"image:{number}")
        elif step == "scale":
            world.rc.spec.replicas = number % 6
        elif step == "gone":
            world.leave()
        elif step == "lose" and chosen is not None:
            del world.pods[chosen.metadata.name]
        elif step in ("ready", "unready") and chosen is not None:
            world.ready(chosen, step == "ready")
    world.settle()
    assert len(world.active()) == world.rc.spec.replicas
    assert world.images() <= {world.rc.spec.template.spec.containers[0].image}
