"""Services to routes: every field, hand-written endpoints, and pods that leave the table the moment they go."""

from __future__ import annotations

from typing import Any

from master.dispatcher.routes import Departure, RouteTable, peer_node, service_route
from protos import agent_pb2, core_pb2


def service(name: str = "web", **spec: Any) -> core_pb2.Service:
    made = core_pb2.Service(metadata=core_pb2.ObjectMeta(name=name, namespace="default", uid=f"uid-{name}"))
    given = {"type": "ClusterIP", "clusterIP": "10.96.0.9", "selector": {"app": "web"}, **spec}
    made.spec.CopyFrom(core_pb2.ServiceSpec(**given))
    if not made.spec.ports and made.spec.type != "ExternalName":
        made.spec.ports.add(name="http", port=80, protocol="TCP", nodePort=30080)
    return made


def endpoints(
    *pods: str, name: str = "web", ports: tuple[tuple[str, int, str], ...] = (("http", 8080, "TCP"),)
) -> core_pb2.Endpoints:
    made = core_pb2.Endpoints(metadata=core_pb2.ObjectMeta(name=name, namespace="default"))
    if not pods:
        return made
    subset = made.subsets.add()
    for number, pod in enumerate(pods):
        address = subset.addresses.add(ip=f"10.244.0.{number + 2}", nodeName="n1", hostname=f"h{number}")
        address.targetRef.CopyFrom(core_pb2.ObjectReference(kind="Pod", namespace="default", name=pod, uid=pod))
    for port, number, protocol in ports:
        subset.ports.add(name=port, port=number, protocol=protocol)
    return made


def pod(uid: str, *, going: bool = False) -> core_pb2.Pod:
    made = core_pb2.Pod(metadata=core_pb2.ObjectMeta(name=uid, namespace="default", uid=uid))
    if going:
        made.metadata.deletionTimestamp.seconds = 1
    return made


def ips(table: RouteTable, name: str = "web") -> list[str]:
    route: agent_pb2.ServiceRoute = table.writer.items[f"service/default/{name}"]
    return [end.ip for port in route.ports for end in port.endpoints]


def test_a_plain_service() -> None:
    route = service_route(service(), endpoints("a"))
    (port,) = route.ports
    assert (route.cluster_ip, port.name, port.port, port.protocol, port.node_port) == (
        "10.96.0.9",
        "http",
        80,
        "TCP",
        0,
    )
    (end,) = port.endpoints
    assert (end.ip, end.port, end.node_name, end.pod, end.hostname) == ("10.244.0.2", 8080, "n1", "a", "h0")
    assert (route.internal_policy, route.external_policy, route.balance, route.mode) == ("", "", "", "")


def test_all_that_a_service_may_say() -> None:
    made = service(
        type="NodePort",
        externalIPs=["192.0.2.80"],
        sessionAffinity="ClientIP",
        internalTrafficPolicy="Local",
        externalTrafficPolicy="Local",
    )
    made.spec.sessionAffinityConfig.clientIP.timeoutSeconds = 600
    made.spec.ports.add(name="dns", port=80, protocol="UDP", nodePort=30080)
    for name, value in {
        "balance": "least-connections",
        "proxy-mode": "asyncio",
        "proxy-protocol": "v2",
        "accept-proxy-protocol": "http",
        "node-port-addresses": "10.0.0.0/8",
    }.items():
        made.metadata.annotations[f"sampan.dev/{name}"] = value
    both = (("http", 8080, "TCP"), ("dns", 5353, "UDP"))
    route = service_route(made, endpoints("a", ports=both))
    assert list(route.external_ips) == ["192.0.2.80"] and route.affinity_seconds == 600
    assert (route.internal_policy, route.external_policy) == ("Local", "Local")
    assert (route.balance, route.mode, list(route.node_port_addresses)) == (
        "LeastConnections",
        "asyncio",
        ["10.0.0.0/8"],
    )
    # One number, two protocols: each has its own endpoints.
    seen = [(p.protocol, p.port, p.node_port, [e.port for e in p.endpoints]) for p in route.ports]
    assert seen == [("TCP", 80, 30080, [8080]), ("UDP", 80, 30080, [5353])]
    assert [(p.send_proxy, p.accept_proxy) for p in route.ports] == [("v2", True), ("", False)]


def test_a_name_for_something_outside_has_neither_address_nor_ports() -> None:
    route = service_route(service(type="ExternalName", clusterIP="", externalName="db.example.com."), None)
    assert (route.external_name, route.cluster_ip, len(route.ports)) == ("db.example.com", "", 0)


def test_headless_and_hand_written() -> None:
    made = endpoints(ports=())
    subset = made.subsets.add()
    subset.addresses.add(ip="192.0.2.1")
    subset.ports.add(name="http", port=5432, protocol="TCP")
    route = service_route(service(clusterIP="None", selector={}), made)
    assert route.cluster_ip == "None"
    assert [(end.ip, end.port) for end in route.ports[0].endpoints] == [("192.0.2.1", 5432)]


def test_a_headless_service_without_ports_has_addresses_alone() -> None:
    plain = service(clusterIP="None")
    del plain.spec.ports[:]
    made = endpoints("b", "a", ports=())
    made.subsets.add().notReadyAddresses.add(ip="10.244.0.9")
    route = service_route(plain, made, leaving={"b"})
    assert len(route.ports) == 0
    (end,) = route.addresses
    assert (end.ip, end.port, end.node_name, end.pod, end.hostname) == ("10.244.0.3", 0, "n1", "a", "h1")
    # One with ports asks for them: an endpoint without any serves none of them.
    assert service_route(service(clusterIP="None"), made).addresses == []
    table = RouteTable()
    table.put(plain)
    table.put(made)
    table.put(pod("b", going=True))
    assert [end.ip for end in table.writer.items["service/default/web"].addresses] == ["10.244.0.3"]
    assert table.departure("b") == Departure(table.writer.revision, frozenset())


def test_a_terminating_pod_leaves_at_once_whatever_its_endpoints_say() -> None:
    table = RouteTable()
    table.put(service())
    table.put(endpoints("a", "b"))
    table.put(pod("a"))
    assert ips(table) == ["10.244.0.2", "10.244.0.3"] and table.departure("a") is None
    table.put(pod("a", going=True))
    assert ips(table) == ["10.244.0.3"]
    assert table.departure("a") == Departure(table.writer.revision, frozenset({("10.244.0.2", 8080)}))
    # Endpoints that were made from an older look do not bring it back, nor does its removal.
    table.put(endpoints("a", "b", "c"))
    assert ips(table) == ["10.244.0.3", "10.244.0.4"]
    table.remove(pod("a", going=True))
    assert ips(table) == ["10.244.0.3", "10.244.0.4"] and table.departure("a") is None
    revision = table.writer.revision
    only = endpoints("b")
    only.subsets[0].addresses[0].ip = "10.244.0.3"
    table.put(only)
    assert ips(table) == ["10.244.0.3"] and table.writer.revision == revision + 1


def test_a_pod_that_was_not_ready_any_more_left_before_it_was_deleted() -> None:
    table = RouteTable()
    table.put(service())
    table.put(endpoints("a"))
    table.put(endpoints())
    left = table.departure("a")
    assert left == Departure(table.writer.revision, frozenset({("10.244.0.2", 8080)}))
    table.put(service("other"))
    table.put(pod("a", going=True))
    assert table.departure("a") == left


def test_a_pod_nobody_sent_anything_to_never_left() -> None:
    table = RouteTable()
    table.put(service())
    table.put(pod("job", going=True))
    assert table.departure("job") is None


def test_a_new_start_makes_the_same_table() -> None:
    table = RouteTable()
    objects = [service(), endpoints("a", "b"), pod("a", going=True), pod("b")]
    table.reset(objects)
    assert ips(table) == ["10.244.0.3"]
    left = table.departure("a")
    assert left is not None and left.revision <= table.writer.revision
    revision = table.writer.revision
    table.reset(objects)
    assert table.writer.revision == revision and table.departure("a") == left
    # A pod that is gone while its Endpoints still name it.
    table.reset([service(), endpoints("a", "b"), pod("a", going=True)])
    assert ips(table) == []
    table.reset([])
    assert table.writer.items == {}


def test_a_node_says_how_it_is_reached() -> None:
    node = core_pb2.Node()
    node.metadata.name, node.spec.podCIDR = "n1", "10.244.1.0/24"
    assert peer_node(node) is None
    node.status.addresses.add(type="InternalIP", address="10.0.0.1")
    found = peer_node(node)
    assert found is not None and (found.address, found.network) == ("10.0.0.1", "")
    node.metadata.annotations["sampan.dev/network"] = "vxlan"
    found = peer_node(node)
    assert found is not None and found.network == "vxlan"


def test_nothing_is_kept_of_pods_that_are_gone() -> None:
    table = RouteTable()
    table.put(service())
    for number in range(100):
        uid = f"pod-{number}"
        table.put(endpoints(uid))
        table.put(pod(uid))
        if number % 2:
            table.put(pod(uid, going=True))
            assert table.departure(uid) is not None
        # Its object goes before its Endpoints follow, as after a force deletion, or after them.
        if number % 3:
            table.remove(pod(uid))
            table.put(endpoints())
        else:
            table.put(endpoints())
            table.remove(pod(uid))
        assert table.departure(uid) is None
    kept = {name: held for name, held in vars(table).items() if isinstance(held, dict | set) and held}
    assert kept.keys() == {"_services", "_endpoints"}
