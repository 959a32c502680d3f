"""Preemption makes room, evicts nobody of equal or higher priority, as few as possible, and spares budgets."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from common.selectors import EVERYTHING, from_map
from master.scheduler.cluster import Cluster, Held
from master.scheduler.core import place, possible
from master.scheduler.preempt import Budget, Preemption, carry_out, is_awaited, may_preempt, preempt
from master.scheduler.requests import Request, Wanted
from master.scheduler.rules import Crowd
from tests.master.controllers.builders import node
from tests.master.scheduler.test_domains import Bench, anti, hosts, specified

REQUESTS: dict[tuple[int, int, bool], Request] = {}


def request(cpu: int, priority: int = 0, *, preempts: bool = True) -> Request:
    return REQUESTS.setdefault((cpu, priority, preempts), Request(cpu=cpu, priority=priority, preempts=preempts))


def wanted(name: str, cpu: int, priority: int = 0, **more: Any) -> Wanted:
    return Wanted("default", name, f"uid-{name}", request(cpu, priority, **more))


def cluster_of(pods: dict[str, list[tuple[str, int, int]]], cpu: str = "1") -> Cluster:
    """Nodes by name with their pods: name, milli-cores, priority."""
    cluster = Cluster()
    for name, there in pods.items():
        cluster.put_node(node(name, cpu=cpu), ready=True)
        for pod, milli, priority in there:
            crowd = Crowd("default", {"app": pod})
            cluster.hold(f"uid-{pod}", Held("default", pod, name, request(milli, priority), "", crowd))
    return cluster


def victims(found: Preemption | None) -> tuple[str, list[str]]:
    assert found is not None
    return found.node, sorted(victim.held.name for victim in found.victims)


def test_the_least_important_and_fewest_go() -> None:
    cluster = cluster_of(
        {"n1": [("a", 600, 5), ("b", 400, 1)], "n2": [("c", 500, 1), ("d", 500, 1)], "n3": [("e", 900, 9)]}
    )
    assert victims(preempt(cluster, wanted("p", 400, 10))) == ("n1", ["b"])
    assert victims(preempt(cluster, wanted("p", 1000, 10))) == ("n2", ["c", "d"])
    assert preempt(cluster, wanted("p", 400, 1)) is None
    assert preempt(cluster, wanted("p", 1100, 10)) is None
    assert not may_preempt(cluster, wanted("p", 400, 10, preempts=False))
    assert preempt(cluster, wanted("p", 400, 10, preempts=False)) is None


def test_a_budget_is_spared_where_that_is_possible() -> None:
    cluster = cluster_of({"n1": [("a", 1000, 0)], "n2": [("b", 1000, 3)]})
    closed = [Budget("default", from_map({"app": "a"}), 0)]
    assert victims(preempt(cluster, wanted("p", 500, 10), closed)) == ("n2", ["b"])
    everywhere = [Budget("default", EVERYTHING, 0)]
    found = preempt(cluster, wanted("p", 500, 10), everywhere)
    assert victims(found) == ("n1", ["a"]) and found is not None and found.broken == 1
    elsewhere = [Budget("other", EVERYTHING, 0)]
    assert victims(preempt(cluster, wanted("p", 500, 10), elsewhere)) == ("n1", ["a"])
    two = cluster_of({"n1": [("a", 500, 0), ("b", 500, 0)]})
    assert victims(preempt(two, wanted("p", 500, 10), closed)) == ("n1", ["b"])


def test_a_budget_never_weighs_more_than_an_equal_priority() -> None:
    cluster = cluster_of({"n1": [("equal", 500, 10), ("low", 500, 0)]})
    closed = [Budget("default", from_map({"app": "low"}), 0)]
    assert victims(preempt(cluster, wanted("p", 500, 10), closed)) == ("n1", ["low"])


def test_room_that_is_being_made_is_kept_for_whom_it_is_made() -> None:
    cluster = cluster_of({"n1": [("a", 500, 0), ("b", 500, 0)]})
    pod = wanted("p", 1000, 10)
    found = preempt(cluster, pod)
    assert found is not None
    carry_out(cluster, found)
    nominated = pod._replace(nominated="n1")
    assert is_awaited(cluster, nominated)
    cluster.release("uid-a")
    assert place(cluster, [wanted("thief", 400, 5), nominated]).bound == ()
    cluster.release("uid-b")
    assert not is_awaited(cluster, nominated)
    bound = place(cluster, [wanted("thief", 400, 5), nominated]).bound
    assert [(one.name, name) for one, name in bound] == [("p", "n1")] and not cluster.nominees


def test_somebody_more_important_may_take_room_that_is_being_made() -> None:
    cluster = cluster_of({"n1": [("a", 1000, 0)]})
    found = preempt(cluster, wanted("p", 1000, 10))
    assert found is not None
    carry_out(cluster, found)
    cluster.release("uid-a")
    placed = place(cluster, [wanted("p", 1000, 10)._replace(nominated="n1"), wanted("boss", 800, 20)])
    assert [one.name for one, _ in placed.bound] == ["boss"]


def test_nobody_else_goes_where_enough_are_leaving_already() -> None:
    cluster = cluster_of({"n1": [("a", 1000, 0)], "n2": [("b", 1000, 0)]})
    first = preempt(cluster, wanted("p", 500, 10))
    assert first is not None
    carry_out(cluster, first)
    second = preempt(cluster, wanted("q", 500, 10))
    assert second is not None and second.node == first.node and second.victims == ()


def test_a_pod_in_the_way_by_anti_affinity_goes() -> None:
    bench = Bench(hosts("a", "a"))
    for at in range(2):
        bench.put(specified(f"low{at}", {"affinity": anti("host")}), f"n{at}")
    pod = bench.requests.wanted(specified("p1", {"affinity": anti("host"), "priority": 10}))
    assert place(bench.cluster, [pod]).bound == ()
    assert len(victims(preempt(bench.cluster, pod))[1]) == 1


PODS = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 10), st.integers(0, 4)), max_size=16)


@settings(max_examples=100, deadline=None)
@given(PODS, st.lists(st.tuples(st.integers(1, 12), st.integers(0, 5)), min_size=1, max_size=3), st.integers(0, 2))
def test_it_makes_room_and_evicts_nobody_of_equal_or_higher_priority(
    pods: list[tuple[int, int, int]], wishes: list[tuple[int, int]], allowed: int
) -> None:
    there: dict[str, list[tuple[str, int, int]]] = {f"n{at}": [] for at in range(4)}
    for at, (row, tenths, priority) in enumerate(pods):
        if sum(cpu for _, cpu, _ in there[f"n{row}"]) + 100 * tenths <= 1000:
            there[f"n{row}"].append((f"p{at}", 100 * tenths, priority))
    cluster = cluster_of(there)
    for at, (tenths, priority) in enumerate(wishes):
        pod = wanted(f"w{at}", 100 * tenths, priority)
        before = dict(cluster.held())
        used = cluster.used.copy()
        if place(cluster, [pod]).bound:
            continue
        found = preempt(cluster, pod, [Budget("default", EVERYTHING, allowed)])
        assert dict(cluster.held()) == before and (cluster.used == used).all()
        lower = {name: sum(c for _, c, p in held if p < priority) for name, held in there.items()}
        if found is None:
            free = {name: 1000 - sum(cpu for _, cpu, _ in held) for name, held in there.items()}
            assert at or all(free[name] + lower[name] < 100 * tenths for name in there)
            continue
        assert all(victim.held.request.priority < priority for victim in found.victims)
        carry_out(cluster, found)
        gone = [uid for uid, held in cluster.on(found.node) if held.leaving]
        for uid in gone:
            cluster.release(uid)
        row = cluster.rows[found.node]
        assert possible(cluster, pod.request, pod.crowd, cluster.promised(priority, pod.uid))[row]
        for victim in found.victims:
            cluster.hold(victim.uid, victim.held)
            still = possible(cluster, pod.request, pod.crowd, cluster.promised(priority, pod.uid))[row]
            assert not still, f"{victim.held.name} could have stayed"
            cluster.release(victim.uid)
        assert place(cluster, [pod._replace(nominated=found.node)]).bound
