"""Endpoints from services and pods: readiness, named ports, grouping, and no write without change."""

from __future__ import annotations

from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from master.controllers.endpoints import MANAGED_BY, MANAGER, reconcile, subsets_of
from master.controllers.plan import NOTHING, Change, Create, Delete, Plan
from protos import core_pb2
from tests.master.controllers.builders import pod, service

WEB = {"app": "web"}


def everywhere(name: str) -> bool:
    return True


def made(plan: Plan, current: core_pb2.Endpoints | None = None) -> core_pb2.Endpoints:
    (action,) = plan.actions
    if isinstance(action, Create):
        created: Message = action.obj
        assert isinstance(created, core_pb2.Endpoints)
        return created
    assert isinstance(action, Change) and current is not None
    copy = core_pb2.Endpoints()
    copy.CopyFrom(current)
    action.change(copy)
    return copy


def test_ready_pods_serve_and_others_are_listed_apart() -> None:
    pods = [
        pod("a", labels=WEB, node="n1", ip="10.244.0.10", ready=True),
        pod("b", labels=WEB, node="n2", ip="10.244.1.2", ready=True),
        pod("starting", labels=WEB, node="n1", ip="10.244.0.3"),
        pod("going", labels=WEB, node="n1", ip="10.244.0.4", ready=True, terminating=True),
        pod("done", labels=WEB, node="n1", ip="10.244.0.5", ready=True, phase="Succeeded"),
        pod("no-address", labels=WEB, node="n1", ready=True),
        pod("other", labels={"app": "db"}, node="n1", ip="10.244.0.6", ready=True),
    ]
    endpoints = made(reconcile(service("web", WEB, {"http": 8080}), pods, everywhere, None))
    (subset,) = endpoints.subsets
    assert [address.ip for address in subset.addresses] == ["10.244.0.10", "10.244.1.2"]
    assert [address.ip for address in subset.notReadyAddresses] == ["10.244.0.3"]
    assert [(port.name, port.port, port.protocol) for port in subset.ports] == [("http", 8080, "TCP")]
    first = subset.addresses[0]
    assert (first.nodeName, first.targetRef.kind, first.targetRef.name) == ("n1", "Pod", "a")
    assert endpoints.metadata.labels[MANAGED_BY] == MANAGER


def test_a_node_that_is_not_ready_takes_its_pods_out_of_traffic() -> None:
    pods = [
        pod("a", labels=WEB, node="n1", ip="10.0.0.1", ready=True),
        pod("b", labels=WEB, node="n2", ip="10.0.0.2", ready=True),
    ]
    (subset,) = subsets_of(service("web", WEB, {"": 80}), pods, lambda name: name == "n2")
    assert [address.ip for address in subset.addresses] == ["10.0.0.2"]
    assert [address.ip for address in subset.notReadyAddresses] == ["10.0.0.1"]


def test_named_ports_are_resolved_for_each_pod() -> None:
    pods = [
        pod("a", labels=WEB, node="n", ip="10.0.0.1", ready=True, ports={"http": 8080}),
        pod("b", labels=WEB, node="n", ip="10.0.0.2", ready=True, ports={"http": 9090}),
        pod("c", labels=WEB, node="n", ip="10.0.0.3", ready=True, ports={"http": 8080}),
        pod("without", labels=WEB, node="n", ip="10.0.0.4", ready=True),
    ]
    subsets = subsets_of(service("web", WEB, {"": "http"}), pods, everywhere)
    assert [([a.ip for a in s.addresses], s.ports[0].port) for s in subsets] == [
        (["10.0.0.1", "10.0.0.3"], 8080),
        (["10.0.0.2"], 9090),
    ]


def test_a_service_without_selector_keeps_what_was_written_by_hand() -> None:
    by_hand = core_pb2.Endpoints()
    by_hand.metadata.name = "external"
    assert reconcile(service("external", {}, {"": 80}), [], everywhere, by_hand) == NOTHING
    assert reconcile(None, [], everywhere, by_hand) == NOTHING


def test_endpoints_go_with_their_service() -> None:
    current = made(reconcile(service("web", WEB, {"": 80}), [], everywhere, None))
    (action,) = reconcile(None, [], everywhere, current).actions
    assert isinstance(action, Delete)


def test_publish_not_ready_addresses() -> None:
    wanted = service("web", WEB, {"": 80})
    wanted.spec.publishNotReadyAddresses = True
    (subset,) = subsets_of(wanted, [pod("a", labels=WEB, node="n", ip="10.0.0.1")], everywhere)
    assert [address.ip for address in subset.addresses] == ["10.0.0.1"]


PODS = st.lists(
    st.builds(
        lambda number, ready, terminating, node, port: pod(
            f"p{number}",
            labels=WEB,
            node=node,
            ip=f"10.0.0.{number}",
            ready=ready,
            terminating=terminating,
            ports={"http": port},
        ),
        st.integers(1, 20),
        st.booleans(),
        st.booleans(),
        st.sampled_from(["n1", "n2"]),
        st.sampled_from([80, 8080]),
    ),
    max_size=8,
    unique_by=lambda made_pod: made_pod.metadata.name,
)


@given(PODS, st.randoms(), st.booleans())
def test_any_order_of_pods_gives_the_same_and_a_second_pass_writes_nothing(
    pods: list[core_pb2.Pod], random: object, n1_serves: bool
) -> None:
    wanted = service("web", WEB, {"http": "http"})

    def serves(name: str) -> bool:
        return name == "n2" or n1_serves

    first = made(reconcile(wanted, pods, serves, None))
    shuffled = list(pods)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert reconcile(wanted, shuffled, serves, first) == NOTHING
    ready = {address.targetRef.name for subset in first.subsets for address in subset.addresses}
    assert ready == {
        p.metadata.name
        for p in pods
        if p.status.conditions[0].status == "True"
        and not p.metadata.HasField("deletionTimestamp")
        and serves(p.spec.nodeName)
    }


def test_a_pod_with_a_hostname_in_the_services_own_domain_keeps_its_name() -> None:
    named, other, plain = (
        pod(name, labels=WEB, node="n1", ip=f"10.244.0.{number}", ready=True)
        for number, name in enumerate(("a", "b", "c"), start=2)
    )
    named.spec.hostname, named.spec.subdomain = "db-0", "web"
    other.spec.hostname, other.spec.subdomain = "db-1", "elsewhere"
    endpoints = made(reconcile(service("web", WEB, {"http": 8080}), [named, other, plain], everywhere, None))
    (subset,) = endpoints.subsets
    assert [address.hostname for address in subset.addresses] == ["db-0", "", ""]


def test_a_number_served_over_both_protocols() -> None:
    dns = service("web", WEB, {})
    for name, protocol in (("dns", "UDP"), ("dns-tcp", "TCP")):
        dns.spec.ports.add(name=name, port=53, protocol=protocol).targetPort.intVal = 5353
    endpoints = made(reconcile(dns, [pod("a", labels=WEB, node="n1", ip="10.244.0.2", ready=True)], everywhere, None))
    (subset,) = endpoints.subsets
    assert [(port.name, port.port, port.protocol) for port in subset.ports] == [
        ("dns", 5353, "UDP"),
        ("dns-tcp", 5353, "TCP"),
    ]
