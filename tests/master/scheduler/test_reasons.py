"""Every node that does not fit has its reason, in words a person can act on."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from master.scheduler.cluster import Cluster, Held
from master.scheduler.filters import fitting
from master.scheduler.reasons import message, reasons
from master.scheduler.requests import Request
from tests.master.controllers.builders import node

MIB = 1024 * 1024


def test_one_reason_per_node() -> None:
    cluster = Cluster()
    cordoned, tainted = node("node1"), node("node6")
    cordoned.spec.unschedulable = True
    tainted.spec.taints.add(key="gpu", effect="NoSchedule")
    ssd = {"disktype": "ssd"}
    for made in (
        cordoned,
        node("node2", memory="1Gi", labels=ssd),
        node("node3"),
        node("node4", labels=ssd),
        node("node5", ready="Unknown"),
        tainted,
        node("node7", pods=0, labels=ssd, cpu="1"),
    ):
        if made.metadata.name == "node6":
            made.metadata.labels.update(ssd)
        cluster.put_node(made, ready=made.status.conditions[0].status == "True")
    cluster.hold("a", Held("default", "a", "node2", Request(memory=724 * MIB), ""))
    cluster.hold("x", Held("default", "x", "node4", Request(ports=(("TCP", 80, ""),)), ""))
    request = Request(cpu=1500, memory=512 * MIB, selector=(("disktype", "ssd"),), ports=(("TCP", 80, ""),))
    lines = message(cluster, request).split("\n")
    assert lines[0] == (
        "0/7 nodes are available: 1 Insufficient cpu, 1 Insufficient memory, 1 Too many pods, "
        "1 node(s) didn't have free ports for the requested pod ports, "
        "1 node(s) didn't match Pod's node affinity/selector, 1 node(s) had untolerated taint {gpu: }, "
        "1 node(s) were not ready, 1 node(s) were unschedulable."
    )
    assert lines[1:] == [
        "node1: cordoned",
        "node2: needs 512Mi memory, 300Mi free",
        "node3: does not match nodeSelector disktype=ssd",
        "node4: host port 80/TCP is in use by default/x",
        "node5: not Ready",
        "node6: has the taint gpu:NoSchedule, which the pod does not tolerate",
        "node7: holds 0 pods, its limit is 0; needs 1500m cpu, 1 free",
    ]


def test_the_list_is_bounded_and_no_nodes_is_said() -> None:
    cluster = Cluster()
    assert "no node has joined" in message(cluster, Request())
    for number in range(60):
        cluster.put_node(node(f"n{number:02}", pods=0), ready=True)
    lines = message(cluster, Request()).split("\n")
    assert len(lines) == 52 and lines[-1] == "... and 10 more nodes"


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 1), st.booleans(), st.booleans()), max_size=10
    ),
    st.integers(0, 4),
    st.integers(0, 4),
)
def test_a_node_has_a_reason_exactly_when_it_does_not_fit(
    nodes: list[tuple[int, int, int, bool, bool]], cpu: int, memory: int
) -> None:
    cluster = Cluster()
    for at, (cores, gigs, pods, ready, cordoned) in enumerate(nodes):
        made = node(f"n{at}", cpu=str(cores), memory=f"{gigs}Gi", pods=pods)
        made.spec.unschedulable = cordoned
        cluster.put_node(made, ready=ready)
    request = Request(cpu=1000 * cpu, memory=1024 * MIB * memory)
    mask = fitting(cluster, request)
    found = {name for name, _ in reasons(cluster, request)}
    assert found == {name for name, row in cluster.rows.items() if not mask[row]}
