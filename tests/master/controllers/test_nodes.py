"""The two clocks of a silent node, what stops them, and pod CIDRs."""

from __future__ import annotations

import ipaddress
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import Unavailable
from master.controllers.nodes import (
    REJOIN_SECONDS,
    Memory,
    Timeouts,
    allocate_pod_cidr,
    reconcile,
    toleration,
)
from master.controllers.plan import Change, Delete, Plan
from master.controllers.pods import condition
from master.controllers.tolerations import UNREACHABLE
from protos import core_pb2
from tests.master.controllers.builders import NOW, node, pod

TIMEOUTS = Timeouts(traffic=4.0, reschedule=10.0)


class World:
    def __init__(self, *names: str, base: float = 0.0) -> None:
        self.nodes = {name: node(name) for name in names}
        self.pods: dict[str, list[core_pb2.Pod]] = {name: [pod(f"on-{name}", node=name, ready=True)] for name in names}
        self.heard: dict[str, float] = {}
        self.base = base
        self.memory = Memory()

    def at(self, tick: float) -> Plan:
        plan, self.memory = reconcile(
            list(self.nodes.values()),
            self.heard.get,
            lambda name: self.pods[name],
            now=NOW + tick,
            tick=tick,
            base=self.base,
            timeouts=TIMEOUTS,
            memory=self.memory,
        )
        return plan

    def apply(self, plan: Plan) -> None:
        for action in (*plan.actions, *plan.after):
            if isinstance(action, Change):
                kind, _, name = action.key
                pods = {p.metadata.name: p for found in self.pods.values() for p in found}
                action.change(self.nodes[name] if kind == "Node" else pods[name])

    def ready(self, name: str) -> str:
        found = condition(self.nodes[name].status, "Ready")
        return str(found.status) if found else ""


def evicted(plan: Plan) -> set[str]:
    return {action.key[2] for action in plan.actions if isinstance(action, Delete)}


def test_traffic_leaves_after_four_seconds_and_pods_after_ten_more() -> None:
    world = World("n1", "n2")
    world.heard = {"n1": 100.0, "n2": 100.0}
    assert not world.at(103.9)
    world.heard["n2"] = 104.0
    plan = world.at(104.0)
    world.apply(plan)
    assert world.ready("n1") == "Unknown" and world.ready("n2") == "True"
    found = condition(world.nodes["n1"].status, "Ready")
    assert found is not None and found.reason == "NodeStatusUnknown"
    assert found.lastTransitionTime.seconds == int(NOW + 104)
    unready = condition(world.pods["n1"][0].status, "Ready")
    assert unready is not None and unready.status == "False"
    assert any(getattr(action, "reason", "") == "NodeNotReady" for action in plan.after)
    world.heard["n2"] = 113.0
    assert not evicted(world.at(113.9))
    assert evicted(world.at(114.0)) == {"on-n1"}


def test_again_is_the_next_deadline() -> None:
    world = World("n1", "n2")
    world.heard = {"n1": 100.0, "n2": 101.5}
    assert world.at(102.0).again == pytest.approx(2.0)
    plan = world.at(104.0)
    assert plan.again == pytest.approx(1.5)


def test_after_a_stall_every_node_has_its_full_time_and_after_a_start_time_to_come_back() -> None:
    world = World("heard", "not-yet", base=1000.0)
    world.heard = {"heard": 10.0}
    assert not world.at(1003.9)
    assert [action.key[2] for action in world.at(1004.0).actions if isinstance(action, Change)] == ["heard"]
    assert world.at(1004.0).again == pytest.approx(REJOIN_SECONDS)
    marked = [action.key[2] for action in world.at(1004.0 + REJOIN_SECONDS).actions if isinstance(action, Change)]
    assert "not-yet" in marked


def test_while_all_nodes_look_dead_nothing_is_evicted_and_the_clock_starts_anew() -> None:
    world = World("n1", "n2", "n3")
    world.heard = dict.fromkeys(world.nodes, 100.0)
    for tick in (104.0, 114.0, 300.0):
        plan = world.at(tick)
        world.apply(plan)
        assert not evicted(plan)
    assert {world.ready(name) for name in world.nodes} == {"Unknown"}
    world.heard["n1"] = 301.0
    assert not evicted(world.at(301.0))
    world.heard["n1"] = 313.0
    assert not evicted(world.at(313.0))
    assert evicted(world.at(314.0)) == {"on-n2", "on-n3"}


def test_a_node_that_says_it_is_not_ready_loses_its_pods_after_the_second_clock() -> None:
    world = World("n1", "n2")
    world.nodes["n1"] = node("n1", ready="False", reason="ContainerRuntimeNotReady")
    for tick in (100.0, 105.0, 109.9, 110.0):
        world.heard = {"n1": tick, "n2": tick}
        assert evicted(world.at(tick)) == ({"on-n1"} if tick == 110.0 else set())


def test_a_report_that_came_meanwhile_is_not_overwritten() -> None:
    world = World("n1", "n2")
    world.heard = {"n1": 100.0, "n2": 104.0}
    plan = world.at(104.0)
    world.heard["n1"] = 104.5
    world.apply(plan)
    assert world.ready("n1") == "True"


def test_terminating_and_finished_pods_stay_as_they_are() -> None:
    world = World("n1", "n2")
    world.pods["n1"] = [pod("going", node="n1", terminating=True), pod("done", node="n1", phase="Succeeded")]
    world.heard = {"n1": 0.0, "n2": 100.0}
    assert not evicted(world.at(100.0))


def test_tolerations() -> None:
    made = pod("p")
    assert toleration(made, UNREACHABLE, 10) == 10
    made.spec.tolerations.add(key=UNREACHABLE, operator="Exists", effect="NoExecute", tolerationSeconds=300)
    assert toleration(made, UNREACHABLE, 10) == 300
    made.spec.tolerations.add(operator="Exists", tolerationSeconds=2)
    assert toleration(made, UNREACHABLE, 10) == 2
    forever = pod("q")
    forever.spec.tolerations.add(operator="Exists")
    assert toleration(forever, UNREACHABLE, 10) == math.inf


def test_the_time_out_grows_with_the_heartbeat_period() -> None:
    assert Timeouts().at_pace(1.0).traffic == Timeouts().traffic == 3.7
    assert Timeouts().at_pace(10.0).traffic == 30.7


def test_a_node_that_has_just_registered_is_not_called_silent_before_its_first_word() -> None:
    """Long after the master's start: its clock starts with its object."""
    world = World("new")
    world.nodes["new"].metadata.creationTimestamp.FromMicroseconds(int((NOW + 499) * 1e6))
    assert not world.at(500.0)
    assert world.at(500.0).again == 3.0
    assert [type(action) for action in world.at(503.0).actions] == [Change]


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["n1", "n2", "n3", "n4"]), st.floats(0, 100), min_size=1), st.floats(100, 140))
def test_a_node_that_was_heard_in_time_is_never_touched(heard: dict[str, float], tick: float) -> None:
    world = World("n1", "n2", "n3", "n4", base=50.0)
    world.heard = dict(heard)
    plan = world.at(tick)
    alive = {name for name in world.nodes if tick - max(heard.get(name, 50.0), 50.0) < TIMEOUTS.traffic}
    touched = {action.key[2] for action in plan.actions if isinstance(action, Change)}
    assert touched == set(world.nodes) - alive
    assert not evicted(plan) & {f"on-{name}" for name in alive}
    if not alive:
        assert not evicted(plan)


def test_pod_cidrs_are_the_lowest_free() -> None:
    assert allocate_pod_cidr("10.244.0.0/16", []) == "10.244.0.0/24"
    assert allocate_pod_cidr("10.244.0.0/16", ["10.244.0.0/24", "10.244.2.0/24"]) == "10.244.1.0/24"
    assert allocate_pod_cidr("10.244.0.0/16", ["10.244.0.0/23", "192.168.0.0/24"]) == "10.244.2.0/24"
    with pytest.raises(Unavailable, match=r"no free /24 .*2 in use"):
        allocate_pod_cidr("10.0.0.0/23", ["10.0.0.0/24", "10.0.1.0/24"])
    with pytest.raises(ValueError, match="smaller"):
        allocate_pod_cidr("10.0.0.0/25", [])


@settings(deadline=None)
@given(st.lists(st.integers(0, 15), unique=True))
def test_pod_cidrs_never_overlap(order: list[int]) -> None:
    taken = [f"10.244.{index}.0/24" for index in order]
    if len(taken) == 16:
        return
    found = ipaddress.IPv4Network(allocate_pod_cidr("10.244.0.0/20", taken))
    assert not any(found.overlaps(ipaddress.IPv4Network(other)) for other in taken)
    assert found.subnet_of(ipaddress.IPv4Network("10.244.0.0/20"))
