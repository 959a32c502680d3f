"""Placing: what fits is placed in one pass, nothing is overcommitted, the same input gives the same answer."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from master.scheduler.cluster import Cluster, Held
from master.scheduler.columns import Bools
from master.scheduler.core import place
from master.scheduler.filters import fitting
from master.scheduler.requests import Request, Requests, Wanted
from master.scheduler.rules import NOBODY
from master.scheduler.scores import Scorer
from protos import core_pb2
from tests.master.controllers.builders import node, pod, rc

MIB = 1024 * 1024


def cluster_of(*nodes: core_pb2.Node) -> Cluster:
    cluster = Cluster()
    for made in nodes:
        cluster.put_node(made, ready=made.status.conditions[0].status == "True")
    return cluster


def wanted(name: str, request: Request, group: str = "") -> Wanted:
    return Wanted("default", name, f"uid-{name}", request, group)


def where(cluster: Cluster, pods: list[Wanted]) -> dict[str, str]:
    return {made.name: name for made, name in place(cluster, pods).bound}


def test_siblings_spread_evenly() -> None:
    cluster = cluster_of(*(node(f"n{i}") for i in range(3)))
    request = Request(score_cpu=100, score_memory=200 * MIB)
    placed = where(cluster, [wanted(f"p{i}", request, "web") for i in range(20)])
    assert sorted(Counter(placed.values()).values()) == [6, 7, 7]


def test_single_pods_of_many_controllers_spread_too() -> None:
    cluster = cluster_of(*(node(f"n{i}") for i in range(4)))
    request = Request(score_cpu=100, score_memory=200 * MIB)
    placed = where(cluster, [wanted(f"p{i}", request, f"group-{i}") for i in range(40)])
    assert set(Counter(placed.values()).values()) == {10}


def test_a_node_with_the_image_wins_among_equals_but_siblings_stay_apart() -> None:
    nodes = [node(f"n{i}") for i in range(3)]
    nodes[2].status.images.add(names=["web:1"])
    cluster = cluster_of(*nodes)
    request = Request(score_cpu=100, score_memory=200 * MIB, images=("web:1",))
    assert where(cluster, [wanted("a", request, "web")]) == {"a": "n2"}
    placed = where(cluster, [wanted("b", request, "web"), wanted("c", request, "web")])
    assert set(placed.values()) == {"n0", "n1"}


def test_filters() -> None:
    tainted, cordoned = node("tainted"), node("cordoned")
    tainted.spec.taints.add(key="gpu", value="yes", effect="NoSchedule")
    cordoned.spec.unschedulable = True
    cluster = cluster_of(
        tainted,
        cordoned,
        node("sick", ready="Unknown"),
        node("silent"),
        node("ssd", labels={"disk": "ssd"}),
        node("full", pods=0),
    )
    cluster.set_fresh("silent", False)

    def names(mask: Bools) -> set[str]:
        return {name for name, ok in zip(cluster.names, mask, strict=True) if ok}

    assert names(fitting(cluster, Request())) == {"ssd"}
    assert names(fitting(cluster, Request(tolerations=(("gpu", "Equal", "yes", ""),)))) == {"ssd", "tainted"}
    everything = {"cordoned", "ssd", "tainted"}
    assert names(fitting(cluster, Request(tolerations=(("", "Exists", "", ""),)))) == everything
    cordon = ("node.kubernetes.io/unschedulable", "Exists", "", "NoSchedule")
    assert names(fitting(cluster, Request(tolerations=(cordon,)))) == {"cordoned", "ssd"}
    assert not names(fitting(cluster, Request(tolerations=(("gpu", "Equal", "no", ""),), selector=(("disk", "hdd"),))))
    assert names(fitting(cluster, Request(selector=(("disk", "ssd"),)))) == {"ssd"}
    assert not names(fitting(cluster, Request(extra=(("example.com/gpu", 1),))))
    assert names(fitting(cluster, Request(extra=(("ephemeral-storage", 1),)))) == {"ssd"}


def test_a_host_port_is_given_once_per_node_and_freed_again() -> None:
    cluster = cluster_of(node("n1"), node("n2"))
    request = Request(ports=(("TCP", 80, ""),))
    placed = where(cluster, [wanted(name, request, "web") for name in "abc"])
    assert sorted(placed.values()) == ["n1", "n2"] and len(placed) == 2
    cluster.release("uid-a")
    assert where(cluster, [wanted("c", request, "web")]) == {"c": placed["a"]}


def test_pods_share_a_node_on_different_addresses_of_it() -> None:
    cluster = cluster_of(node("n1"))
    everywhere, one, other = ((("TCP", 80, address),) for address in ("", "10.0.0.1", "10.0.0.2"))
    for name, ports, fits in (("a", one, True), ("b", other, True), ("c", everywhere, False), ("d", one, False)):
        assert bool(where(cluster, [wanted(name, Request(ports=ports))])) is fits
    cluster.release("uid-a")
    assert where(cluster, [wanted("d", Request(ports=one))])


def test_pods_bound_by_hand_may_share_a_port_which_is_free_after_the_last() -> None:
    cluster = cluster_of(node("n1"))
    request = Request(ports=(("TCP", 80, ""),))
    for name in "ab":
        cluster.hold(f"uid-{name}", Held("default", name, "n1", request, ""))
    cluster.release("uid-b")
    assert not where(cluster, [wanted("c", request)])
    cluster.release("uid-a")
    assert where(cluster, [wanted("c", request)]) == {"c": "n1"}


def test_what_a_node_held_counts_again_when_it_comes_back() -> None:
    cluster = cluster_of(node("n1", cpu="1"))
    request = Request(cpu=600)
    assert where(cluster, [wanted("a", request)]) == {"a": "n1"}
    cluster.remove_node("n1")
    assert not where(cluster, [wanted("b", request)])
    cluster.put_node(node("n0"), ready=False)
    cluster.put_node(node("n1", cpu="1"), ready=True)
    assert not where(cluster, [wanted("b", request)])
    cluster.release("uid-a")
    assert where(cluster, [wanted("b", request)]) == {"b": "n1"}


def test_requests_of_a_pod_are_kubernetes_effective_requests() -> None:
    made = pod("p", cpu="250m", memory="64Mi")
    second = made.spec.containers.add(name="second", image="b")
    second.resources.limits["cpu"].value = "0.5"
    second.ports.add(containerPort=80, hostPort=8080)
    init = made.spec.initContainers.add(name="init", image="c")
    init.resources.requests["memory"].value = "1Gi"
    init.resources.requests["cpu"].value = "100m"
    made.spec.nodeSelector["disk"] = "ssd"
    requests = Requests()
    read = requests.of(made)
    assert (read.cpu, read.memory) == (750, 1024 * MIB)
    assert (read.ports, read.selector, read.images) == ((("TCP", 8080, ""),), (("disk", "ssd"),), ("b", "image:1"))
    assert requests.of(made) is read
    made.spec.hostname = "another-spec"
    assert requests.of(made) is read


def test_sidecars_count_for_as_long_as_the_pod_lasts() -> None:
    made = pod("p", cpu="100m", memory="64Mi")
    for name, cpu, policy in (("early", "1", None), ("side", "300m", "Always"), ("late", "200m", None)):
        init = made.spec.initContainers.add(name=name, image=name, restartPolicy=policy)
        init.resources.requests["cpu"].value = cpu
    assert Requests().of(made).cpu == 1000
    made.spec.initContainers[2].resources.requests["cpu"].value = "900m"
    assert Requests().of(made).cpu == 1200
    made.spec.containers[0].resources.requests["cpu"].value = "1"
    made.spec.initContainers[1].ports.add(containerPort=1, hostPort=1, protocol="TCP")
    read = Requests().of(made)
    assert (read.cpu, read.ports, read.images) == (1300, (("TCP", 1, ""),), ("image:1", "side"))


def test_an_equal_request_is_one_object_as_long_as_anybody_has_it() -> None:
    requests = Requests(limit=2)
    placed = requests.of(pod("placed", cpu="123m"))
    for number in range(10):
        requests.of(pod("other", cpu=f"{number + 1}m"))
    assert len(requests._by_spec) == 2 and len(requests._by_value) == 3, "what nobody asks for is not kept"
    assert requests.of(pod("late", cpu="123m")) is placed


def test_siblings_are_pods_of_one_controller_or_with_the_same_labels() -> None:
    requests, web = Requests(), rc("web", 1)
    assert requests.wanted(pod("a", owner=web)).group == requests.wanted(pod("b", owner=web)).group != ""
    assert requests.wanted(pod("a", labels={"x": "1"})).group == requests.wanted(pod("b", labels={"x": "1"})).group
    assert requests.wanted(pod("a")).group == ""


NODES = st.lists(
    st.tuples(st.integers(1, 8), st.integers(1, 8), st.integers(0, 4), st.booleans()), min_size=1, max_size=20
)
PODS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.booleans()), max_size=40)


def build(nodes: list[tuple[int, int, int, bool]]) -> Cluster:
    return cluster_of(
        *(
            node(f"n{i}", cpu=str(cpu), memory=f"{memory}Gi", pods=pods, labels={"disk": "ssd"} if ssd else {})
            for i, (cpu, memory, pods, ssd) in enumerate(nodes)
        )
    )


def pods_of(specs: list[tuple[int, int, bool]]) -> list[Wanted]:
    known: dict[object, Request] = {}
    found = []
    for at, spec in enumerate(specs):
        cpu, memory, ssd = spec
        request = known.setdefault(
            spec, Request(cpu=1000 * cpu, memory=1024 * MIB * memory, selector=(("disk", "ssd"),) if ssd else ())
        )
        found.append(wanted(f"p{at}", request, f"g{cpu}"))
    return found


@settings(max_examples=100, deadline=None)
@given(NODES, PODS)
def test_what_fits_is_placed_nothing_is_overcommitted_and_it_is_repeatable(
    nodes: list[tuple[int, int, int, bool]], specs: list[tuple[int, int, bool]]
) -> None:
    cluster = build(nodes)
    placement = place(cluster, pods_of(specs))
    assert len(placement.bound) + len(placement.waiting) == len(specs)
    size = cluster.size
    assert (cluster.used[:size] <= cluster.room[:size]).all()
    assert (cluster.used[:size, 2].sum()) == len(placement.bound)
    for waiting in placement.waiting:
        assert not fitting(cluster, waiting.request).any()
    for made, name in placement.bound:
        assert ("disk", "ssd") not in made.request.selector or cluster.labels[cluster.rows[name]] == {"disk": "ssd"}
    again = place(build(nodes), pods_of(specs))
    assert [(p.name, n) for p, n in again.bound] == [(p.name, n) for p, n in placement.bound]


@settings(deadline=None)
@given(NODES, PODS, st.randoms(use_true_random=False))
def test_freed_room_is_given_to_those_that_wait(
    nodes: list[tuple[int, int, int, bool]], specs: list[tuple[int, int, bool]], random: object
) -> None:
    cluster = build(nodes)
    placement = place(cluster, pods_of(specs))
    for made, _ in placement.bound:
        cluster.release(made.uid)
    assert not cluster.used.any() and not cluster.weight.any() and not cluster.siblings
    second = place(cluster, list(placement.waiting))
    empty = build(nodes)
    for made in second.waiting:
        assert not fitting(cluster, made.request).any()
    could = [made for made in placement.waiting if fitting(empty, made.request).any()]
    assert not could or second.bound


@settings(deadline=None)
@given(NODES, PODS)
def test_the_rank_of_one_row_is_that_of_all_rows(
    nodes: list[tuple[int, int, int, bool]], specs: list[tuple[int, int, bool]]
) -> None:
    cluster = build(nodes)
    place(cluster, pods_of(specs))
    scorer = Scorer(cluster, Request(score_cpu=150, score_memory=333 * MIB, images=("x",)), "g1", NOBODY)
    every = scorer.ranks()
    assert [scorer.rank(row) for row in range(cluster.size)] == every.tolist()


def test_an_empty_cluster() -> None:
    assert place(Cluster(), [wanted("a", Request())]).summary() == "0 placed, 1 waiting"


@pytest.mark.parametrize("count", [15, 16, 17, 40])
def test_growth_keeps_the_rows(count: int) -> None:
    cluster = cluster_of(*(node(f"n{i}", cpu=str(i + 1)) for i in range(count)))
    assert [int(cluster.room[cluster.rows[f"n{i}"], 0]) for i in range(count)] == [1000 * (i + 1) for i in range(count)]
