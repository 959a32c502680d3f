"""Node labels and taints as codes: what nodes had once does not pile up, and masks follow every change."""

from __future__ import annotations

from common.selectors import IN, NOT_IN, Requirement
from master.scheduler.cluster import Cluster
from master.scheduler.filters import untainted
from master.scheduler.rules import NodeTerm
from tests.master.controllers.builders import node


def names(cluster: Cluster, mask: object) -> set[str]:
    return {name for name, ok in zip(cluster.names, mask, strict=True) if ok}  # type: ignore[call-overload]


def test_masks_follow_labels_and_nodes() -> None:
    cluster = Cluster()
    for number in range(40):
        cluster.put_node(node(f"n{number}", labels={"zone": f"z{number % 2}"}), ready=True)
    odd = (("zone", "z1"),)
    assert len(names(cluster, cluster.columns.equal(odd))) == 20
    cluster.put_node(node("n1", labels={"zone": "z0"}), ready=True)
    cluster.put_node(node("n3"), ready=True)
    cluster.put_node(node("new", labels={"zone": "z1"}), ready=True)
    assert {"n1", "n3"}.isdisjoint(found := names(cluster, cluster.columns.equal(odd))) and "new" in found
    column = cluster.columns.column("zone")
    assert {cluster.names[row] for row in column.rows(int(column.codes[cluster.rows["new"]]))} == found
    cluster.remove_node("new")
    cluster.put_node(node("reused"), ready=True)
    assert names(cluster, cluster.columns.equal(odd)) == found - {"new"}


def test_node_terms_by_name() -> None:
    cluster = Cluster()
    for name in ("n0", "n1", "n2"):
        cluster.put_node(node(name), ready=True)
    only = Requirement("metadata.name", IN, frozenset(("n1", "gone")))
    but = Requirement("metadata.name", NOT_IN, frozenset(("n1",)))
    assert names(cluster, cluster.columns.term(NodeTerm(fields=(only,)))) == {"n1"}
    assert names(cluster, cluster.columns.term(NodeTerm(fields=(but,)))) == {"n0", "n2"}
    assert not names(cluster, cluster.columns.term(NodeTerm()))
    assert not names(cluster, cluster.columns.any_of(()))


def test_values_and_taints_of_the_past_are_forgotten() -> None:
    cluster = Cluster()
    cluster.put_node(node("stays", labels={"boot": "first"}), ready=True)
    cluster.columns.column("boot")
    for number in range(500):
        changing = node("changes", labels={"boot": str(number)})
        changing.spec.taints.add(key="at", value=str(number), effect="NoSchedule")
        cluster.put_node(changing, ready=True)
    assert len(cluster.columns.column("boot").values) < 200 and len(cluster.taint_sets) < 100
    assert names(cluster, cluster.columns.equal((("boot", "499"),))) == {"changes"}
    assert names(cluster, cluster.columns.equal((("boot", "first"),))) == {"stays"}
    assert names(cluster, untainted(cluster, (("at", "Equal", "499", ""),))) == {"stays", "changes"}
    assert names(cluster, untainted(cluster, (("at", "Equal", "3", ""),))) == {"stays"}
