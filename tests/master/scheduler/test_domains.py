"""Affinity, anti-affinity, spread, taints and node affinity agree with a slow oracle, pod by pod."""

from __future__ import annotations

from typing import Any

from google.protobuf.json_format import ParseDict
from hypothesis import given, settings
from hypothesis import strategies as st

from master.scheduler.cluster import Cluster, Held
from master.scheduler.core import place, possible
from master.scheduler.requests import Requests
from protos import core_pb2
from tests.master.controllers.builders import node, pod, rc
from tests.master.scheduler.oracle import World

NAMESPACES = {"default": {"team": "a"}, "other": {"team": "b"}}
KEYS = ("zone", "host")


def hosts(*zones: str, **more: Any) -> list[core_pb2.Node]:
    """Nodes n0, n1, ... with a zone each ("" for none) and a host label of their own."""
    made = []
    for at, zone in enumerate(zones):
        labels = {"host": f"n{at}", "size": str(at)} | ({"zone": zone} if zone else {})
        made.append(node(f"n{at}", labels=labels, **more))
    return made


def specified(name: str, spec: dict[str, Any], *, app: str = "web", namespace: str = "default", **more: Any) -> Any:
    made = pod(name, labels={"app": app, "version": name[-1]}, namespace=namespace, **more)
    ParseDict(spec, made.spec)
    return made


class Bench:
    """A cluster with its oracle beside it."""

    def __init__(self, nodes: list[core_pb2.Node]) -> None:
        self.cluster, self.requests = Cluster(), Requests()
        self.world = World({made.metadata.name: made for made in nodes}, [], NAMESPACES)
        for name, labels in NAMESPACES.items():
            self.cluster.census.set_namespace(name, labels)
        for made in nodes:
            self.cluster.put_node(made, ready=True)

    def put(self, made: core_pb2.Pod, name: str, *, leaving: bool = False) -> None:
        wanted = self.requests.wanted(made)
        held = Held(wanted.namespace, wanted.name, name, wanted.request, wanted.group, wanted.crowd, leaving)
        self.cluster.hold(wanted.uid, held)
        if leaving:
            made.metadata.deletionTimestamp.FromSeconds(1)
        self.world.placed.append((made, name))

    def place(self, *pods: core_pb2.Pod) -> dict[str, str]:
        """Places all at once; every pod was allowed where it went, in the order in which they went there, and nobody
        waits who fits."""
        by_uid = {made.metadata.uid: made for made in pods}
        placement = place(self.cluster, [self.requests.wanted(made) for made in pods])
        for wanted, name in placement.bound:
            assert self.world.fits(by_uid[wanted.uid], name), f"{wanted.name} may not be on {name}"
            self.world.placed.append((by_uid[wanted.uid], name))
        for wanted in placement.waiting:
            fits = [name for name in self.world.nodes if self.world.fits(by_uid[wanted.uid], name)]
            assert not fits, f"{wanted.name} waits and fits on {fits}"
        return {wanted.name: name for wanted, name in placement.bound}

    def agrees(self, made: core_pb2.Pod) -> None:
        """The arrays say of every node what the oracle says."""
        wanted = self.requests.wanted(made)
        mask = possible(self.cluster, wanted.request, wanted.crowd, {})
        mine = {name for name, row in self.cluster.rows.items() if mask[row]}
        assert mine == {name for name in self.world.nodes if self.world.fits(made, name)}


def anti(key: str, app: str = "web") -> dict[str, Any]:
    return {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term(key, app)]}}


def near(key: str, app: str = "web") -> dict[str, Any]:
    return {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term(key, app)]}}


def term(key: str, app: str) -> dict[str, Any]:
    return {"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}}


def spread(key: str = "zone", skew: int = 1, **more: Any) -> dict[str, Any]:
    selector = {"matchLabels": {"app": "web"}}
    one = {"maxSkew": skew, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector}
    return {"topologySpreadConstraints": [one | more]}


def test_required_anti_affinity_keeps_replicas_on_hosts_of_their_own() -> None:
    bench = Bench(hosts("a", "a", "b"))
    found = bench.place(*(specified(f"p{i}", {"affinity": anti("host")}) for i in range(4)))
    assert sorted(found.values()) == ["n0", "n1", "n2"]


def test_anti_affinity_of_a_pod_that_is_there_keeps_others_away_too() -> None:
    bench = Bench(hosts("a", "a", "b"))
    bench.put(specified("db1", {"affinity": anti("zone", "web")}, app="db"), "n0")
    assert bench.place(specified("p1", {}))["p1"] == "n2"
    assert bench.place(specified("db2", {"affinity": anti("zone", "web")}, app="db")).get("db2") != "n2"


def test_pods_of_one_controller_with_other_labels_are_looked_at_one_by_one() -> None:
    owner = rc("mixed", 2)
    shy = specified("db1", {"affinity": anti("host", "web")}, app="db")
    pods = [specified("x1", {}, app="x", owner=owner), specified("p2", {}, app="web", owner=owner)]
    bench = Bench(hosts("a"))
    assert bench.place(shy, *pods) == {"db1": "n0", "x1": "n0"}
    bench = Bench(hosts("a"))
    assert bench.place(*pods, shy) == {"x1": "n0", "p2": "n0"}


def test_the_first_of_a_group_that_wants_its_own_kind_may_begin_anywhere() -> None:
    bench = Bench(hosts("a", "b", ""))
    found = bench.place(*(specified(f"p{i}", {"affinity": near("zone")}) for i in range(4)))
    assert len(found) == 4 and len({bench.world.nodes[name].metadata.labels["zone"] for name in found.values()}) == 1
    assert bench.place(specified("x1", {"affinity": near("zone", "nobody")}, app="x")) == {}


def test_a_pod_that_looks_for_one_placed_later_in_the_same_pass_is_placed() -> None:
    bench = Bench(hosts("a", "b"))
    follower, leader = specified("f1", {"affinity": near("host", "db")}), specified("l1", {}, app="db")
    found = bench.place(follower, leader)
    assert found["f1"] == found["l1"]


def test_affinity_across_namespaces() -> None:
    bench = Bench(hosts("a", "b"))
    bench.put(specified("db1", {}, app="db", namespace="other"), "n1")
    assert bench.place(specified("p1", {"affinity": near("host", "db")})) == {}
    one = term("host", "db") | {"namespaces": ["other"]}
    named = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [one]}}
    assert bench.place(specified("p2", {"affinity": named}))["p2"] == "n1"
    one = term("host", "db") | {"namespaceSelector": {"matchLabels": {"team": "b"}}}
    chosen = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [one]}}
    assert bench.place(specified("p3", {"affinity": chosen}))["p3"] == "n1"
    bench.cluster.census.set_namespace("other", {"team": "c"})
    bench.world.namespaces = NAMESPACES | {"other": {"team": "c"}}
    assert bench.place(specified("p4", {"affinity": chosen})) == {}


def test_hard_spread_counts_domains_not_nodes() -> None:
    bench = Bench(hosts("a", "a", "a", "b"))
    found = bench.place(*(specified(f"p{i}", spread()) for i in range(6)))
    zones = [bench.world.nodes[name].metadata.labels["zone"] for name in found.values()]
    assert sorted(zones) == ["a"] * 3 + ["b"] * 3


def test_spread_min_domains_and_a_node_without_the_label() -> None:
    bench = Bench(hosts("a", ""))
    assert bench.place(*(specified(f"p{i}", spread(minDomains=2)) for i in range(3))) == {"p0": "n0"}


def test_pods_that_leave_do_not_count_for_spread() -> None:
    bench = Bench(hosts("a", "b"))
    for at in range(3):
        bench.put(specified(f"old{at}", {}), "n0", leaving=True)
    bench.put(specified("p0", {}), "n1")
    assert bench.place(specified("p1", spread())) == {"p1": "n0"}


def test_preferences_decide_among_those_that_fit() -> None:
    def preferred(key: str, app: str, kind: str) -> dict[str, Any]:
        one = {"weight": 1, "podAffinityTerm": term(key, app)}
        return {"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution": [one]}}}

    bench = Bench(hosts("a", "a", "b", "b"))
    bench.put(specified("db1", {}, app="db"), "n1")
    assert bench.place(specified("p1", preferred("host", "db", "podAffinity")))["p1"] == "n1"
    assert bench.place(specified("p2", preferred("zone", "db", "podAntiAffinity"), app="x"))["p2"] in ("n2", "n3")
    many = [specified(f"q{i}", preferred("zone", "q", "podAntiAffinity"), app="q") for i in range(4)]
    zones = [bench.world.nodes[name].metadata.labels["zone"] for name in bench.place(*many).values()]
    assert sorted(zones) == ["a", "a", "b", "b"]
    soft = spread(whenUnsatisfiable="ScheduleAnyway", labelSelector={"matchLabels": {"app": "s"}})
    found = bench.place(*(specified(f"s{i}", soft, app="s") for i in range(6)))
    zones = [bench.world.nodes[name].metadata.labels["zone"] for name in found.values()]
    assert sorted(zones) == ["a"] * 3 + ["b"] * 3


def test_preferred_nodes_and_prefer_no_schedule() -> None:
    nodes = hosts("a", "b", "b")
    nodes[2].spec.taints.add(key="old", effect="PreferNoSchedule")
    want = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["b"]}]}
    one = {"weight": 1, "preference": want}
    wish = {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [one]}}}
    bench = Bench(nodes)
    assert set(bench.place(*(specified(f"p{i}", wish) for i in range(5))).values()) == {"n1"}
    tolerating = wish | {"tolerations": [{"key": "old", "operator": "Exists"}]}
    assert "n2" in bench.place(*(specified(f"t{i}", tolerating, app="t") for i in range(2))).values()


def test_what_pods_that_are_there_prefer_counts_for_new_ones() -> None:
    bench = Bench(hosts("a", "b", "b"))
    one = {"weight": 100, "podAffinityTerm": term("host", "web")}
    shy = {"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [one]}}}
    bench.put(specified("shy0", shy, app="shy"), "n0")
    bench.put(specified("shy1", shy, app="shy"), "n1")
    assert bench.place(specified("p1", {})) == {"p1": "n2"}


def test_a_node_by_name_only() -> None:
    fields = [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]
    terms = {"nodeSelectorTerms": [{"matchFields": fields}]}
    only = {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}
    assert Bench(hosts("a", "b", "c")).place(specified("p1", only)) == {"p1": "n1"}


SELECTORS = st.sampled_from([{"matchLabels": {"app": "web"}}, {"matchLabels": {"app": "db"}}, {}])
TERMS = st.builds(
    lambda key, selector, more: {"topologyKey": key, "labelSelector": selector} | more,
    st.sampled_from(KEYS),
    SELECTORS,
    st.sampled_from(
        [
            {},
            {},
            {"namespaces": ["other"]},
            {"namespaceSelector": {}},
            {"matchLabelKeys": ["version"]},
            {"mismatchLabelKeys": ["version"]},
            {"namespaceSelector": {"matchLabels": {"team": "b"}}},
        ]
    ),
)
SPREADS = st.builds(
    lambda key, skew, selector, more: (
        {"topologyKey": key, "maxSkew": skew, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector} | more
    ),
    st.sampled_from(KEYS),
    st.integers(1, 2),
    SELECTORS,
    st.sampled_from(
        [
            {},
            {},
            {"minDomains": 2},
            {"nodeAffinityPolicy": "Ignore"},
            {"nodeTaintsPolicy": "Honor"},
            {"matchLabelKeys": ["version"]},
        ]
    ),
)
EXPRESSIONS = st.sampled_from(
    [
        {"key": "zone", "operator": "In", "values": ["a", "b"]},
        {"key": "zone", "operator": "NotIn", "values": ["a"]},
        {"key": "zone", "operator": "Exists"},
        {"key": "zone", "operator": "DoesNotExist"},
        {"key": "size", "operator": "Gt", "values": ["1"]},
        {"key": "size", "operator": "Lt", "values": ["2"]},
    ]
)
TOLERATIONS = st.sampled_from(
    [
        {"key": "t", "operator": "Exists"},
        {"key": "t", "value": "1"},
        {"operator": "Exists"},
        {"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"},
    ]
)
OFTEN_NONE = st.integers(0, 2).map(lambda number: number == 0)


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    spec: dict[str, Any] = {}
    affinity: dict[str, Any] = {}
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    for name in ("podAffinity", "podAntiAffinity"):
        if draw(OFTEN_NONE):
            affinity[name] = {required: draw(st.lists(TERMS, min_size=1, max_size=2))}
    if draw(OFTEN_NONE):
        terms = [{"matchExpressions": draw(st.lists(EXPRESSIONS, min_size=1, max_size=2))}]
        affinity["nodeAffinity"] = {required: {"nodeSelectorTerms": terms}}
    if affinity:
        spec["affinity"] = affinity
    if draw(OFTEN_NONE):
        spec["topologySpreadConstraints"] = draw(st.lists(SPREADS, min_size=1, max_size=2))
    if draw(OFTEN_NONE):
        spec["tolerations"] = [draw(TOLERATIONS)]
    return spec


NODES = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", ""]), st.sampled_from(["", "", "NoSchedule", "NoExecute"]), OFTEN_NONE),
    min_size=1,
    max_size=6,
)
GROUPS = st.lists(
    st.tuples(specs(), st.sampled_from(["web", "db"]), st.sampled_from(["default", "other"]), st.integers(1, 4)),
    min_size=1,
    max_size=4,
)


def built(nodes: list[tuple[str, str, bool]]) -> list[core_pb2.Node]:
    made = hosts(*(zone for zone, _, _ in nodes), cpu="1", pods=4)
    for host, (_, effect, cordoned) in zip(made, nodes, strict=True):
        if effect:
            host.spec.taints.add(key="t", value="1", effect=effect)
        host.spec.unschedulable = cordoned
    return made


@settings(max_examples=120, deadline=None)
@given(NODES, GROUPS, st.lists(st.tuples(specs(), st.sampled_from(["web", "db"]), st.integers(0, 5)), max_size=4))
def test_nothing_required_is_ever_violated_and_nobody_waits_who_fits(
    nodes: list[tuple[str, str, bool]],
    groups: list[tuple[dict[str, Any], str, str, int]],
    there: list[tuple[dict[str, Any], str, int]],
) -> None:
    bench = Bench(built(nodes))
    for at, (spec, app, row) in enumerate(there):
        bench.put(specified(f"old{at}", spec, app=app, cpu="100m"), f"n{row % len(nodes)}", leaving=at % 2 == 1)
    pods = [
        specified(f"g{at}p{number}", spec, app=app, namespace=namespace, cpu="300m")
        for at, (spec, app, namespace, count) in enumerate(groups)
        for number in range(count)
    ]
    for made in pods:
        bench.agrees(made)
    bench.place(*pods)
    for made in pods:
        copy = core_pb2.Pod()
        copy.CopyFrom(made)
        copy.metadata.uid += "-again"
        bench.agrees(copy)


@settings(max_examples=40, deadline=None)
@given(NODES, GROUPS, st.randoms(use_true_random=False))
def test_the_counts_are_those_of_a_fresh_cluster_after_any_changes(
    nodes: list[tuple[str, str, bool]], groups: list[tuple[dict[str, Any], str, str, int]], random: Any
) -> None:
    bench = Bench(built(nodes))
    pods = [
        specified(f"g{at}p{number}", spec, app=app, namespace=namespace)
        for at, (spec, app, namespace, count) in enumerate(groups)
        for number in range(count)
    ]
    bench.place(*pods)
    for made, _ in bench.world.placed:
        held = bench.cluster.get(made.metadata.uid)
        if held is not None and random.random() < 0.4:
            bench.cluster.hold(made.metadata.uid, held._replace(leaving=True))
            made.metadata.deletionTimestamp.FromSeconds(1)
    bench.agrees(specified("look1", spread()))
    gone = {made.metadata.uid for made, _ in bench.world.placed if random.random() < 0.4}
    for uid in gone:
        bench.cluster.release(uid)
    moved = random.choice(list(bench.world.nodes.values()))
    bench.cluster.remove_node(moved.metadata.name)
    moved.metadata.labels["zone"] = "moved"
    bench.cluster.put_node(moved, ready=True)
    bench.world.placed = [one for one in bench.world.placed if one[0].metadata.uid not in gone]
    for made in pods:
        bench.agrees(made)
    for made, _ in list(bench.world.placed):
        bench.cluster.release(made.metadata.uid)
    assert bench.cluster.census.empty and not bench.cluster.priorities and not bench.cluster.used.any()
