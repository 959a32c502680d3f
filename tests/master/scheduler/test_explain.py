"""What `explain` says of every node is what placing does; measured use weighs, and nothing is changed by looking."""

from __future__ import annotations

from hypothesis import given, settings

from master.scheduler.cluster import Cluster
from master.scheduler.core import place
from master.scheduler.explain import explain
from master.scheduler.reasons import reasons
from master.scheduler.requests import Request, Wanted
from tests.master.controllers.builders import node
from tests.master.scheduler.test_domains import GROUPS, NODES, Bench, anti, built, hosts, near, specified, spread

GIB = 1024**3


def test_filters_are_named_and_the_best_node_comes_first() -> None:
    nodes = hosts("a", "a", "b", "")
    nodes[1].spec.taints.add(key="gpu", effect="NoSchedule")
    bench = Bench(nodes)
    bench.put(specified("web0", {}), "n0")
    views = explain(bench.cluster, bench.requests.wanted(specified("p1", spread())))
    assert [(view.node, view.reason.filter if view.reason else "") for view in views] == [
        ("n2", ""),
        ("n0", "PodTopologySpread"),
        ("n1", "TaintToleration"),
        ("n3", "PodTopologySpread"),
    ]
    assert {"NodeResourcesFit", "SiblingSpread"} <= set(views[0].scores)
    assert views[0].total == round(sum(views[0].scores.values()), 1)


def test_reasons_of_pods_and_domains() -> None:
    bench = Bench(hosts("a", "b", ""))
    bench.put(specified("db0", {"affinity": anti("host", "web")}, app="db"), "n0")

    def told(made: object) -> dict[str, str]:
        wanted = bench.requests.wanted(made)  # type: ignore[arg-type]
        return {name: reason.detail for name, reason in reasons(bench.cluster, wanted.request, wanted.crowd)}

    assert told(specified("p1", {})) == {
        "n0": "a pod in the same host does not want to share it with pods like this one (app=web)"
    }
    assert told(specified("p1", {"affinity": near("zone", "db")}, app="x")) == {
        "n1": "does not satisfy podAffinity: no pod with app=db is in the same zone",
        "n2": "does not satisfy podAffinity: it has no label zone",
    }
    assert told(specified("p1", {"affinity": anti("zone", "db")}, app="x")) == {
        "n0": "does not satisfy podAntiAffinity: a pod with app=db is in the same zone"
    }
    for at in range(2):
        bench.put(specified(f"web{at}", {}), "n1")
    assert told(specified("p1", spread(), app="y"))["n1"] == (
        "does not match the topology spread constraints: its zone has 2 pods with app=web, the emptiest has 0, "
        "maxSkew is 1"
    )
    big = {"matchExpressions": [{"key": "size", "operator": "Gt", "values": ["7"]}]}
    terms = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [big]}}
    assert told(specified("p1", {"affinity": {"nodeAffinity": terms}}))["n1"] == "does not match nodeAffinity size>7"


def test_a_node_that_is_busier_than_its_pods_ask_for_scores_lower() -> None:
    cluster = Cluster()
    for name in ("busy", "calm", "noisy"):
        cluster.put_node(node(name, cpu="4", memory="8Gi"), ready=True)
    cluster.measure({"busy": (2000, GIB), "calm": (100, GIB // 2), "noisy": (300, GIB // 2), "gone": (1, 1)})
    request = Request(score_cpu=100, score_memory=GIB // 8)
    views = {view.node: view for view in explain(cluster, Wanted("default", "p", "uid-p", request, "g"))}
    assert views["busy"].scores["MeasuredUse"] < -30
    assert views["calm"].scores["MeasuredUse"] == views["noisy"].scores["MeasuredUse"] == 0
    pods = [Wanted("default", f"p{at}", f"uid-{at}", request, "g") for at in range(3)]
    assert "busy" not in {name for _, name in place(cluster, pods[:2]).bound}
    cluster.measure({})
    assert not cluster.strained
    # What pods ask for is not counted a second time when they use it.
    cluster.hold("uid-x", cluster.held()[0][1]._replace(node="calm", request=Request(cpu=3000, score_cpu=3000)))
    cluster.measure({"calm": (3200, GIB // 2)})
    assert not cluster.strained


@settings(max_examples=40, deadline=None)
@given(NODES, GROUPS)
def test_the_pod_goes_where_explain_says_and_looking_changes_nothing(
    nodes: list[tuple[str, str, bool]], groups: list[tuple[dict[str, object], str, str, int]]
) -> None:
    bench = Bench(built(nodes))
    for at, (spec, app, namespace, _) in enumerate(groups):
        pod = bench.requests.wanted(specified(f"p{at}", spec, app=app, namespace=namespace, cpu="300m"))
        views = explain(bench.cluster, pod)
        best = [view for view in views if view.reason is None]
        used = bench.cluster.used.copy()
        placement = place(bench.cluster, [pod])
        assert [name for _, name in placement.bound] == [] if not best else True
        if best:
            ((_, name),) = placement.bound
            chosen = next(view for view in best if view.node == name)
            assert chosen.total >= best[0].total - 0.2
            again = {view.node: (view.reason is None, view.scores) for view in explain(bench.cluster, pod)}
            assert again == {view.node: (view.reason is None, view.scores) for view in views}
        else:
            assert (bench.cluster.used == used).all()
