"""What a table asks for: places, policies, node ports, modes; moves that add up to the whole."""

from __future__ import annotations

import time

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.routing import Endpoint, NodeInfo, Route, RoutePort
from proxy.plan import Place, Planner, PortKey, Serving
from proxy.table import Change, Delta, Table

HERE = NodeInfo(name="here", addresses=("192.168.0.1", "10.1.0.1"))
NEAR, FAR = Endpoint("10.0.0.1", 8080, "here"), Endpoint("10.0.1.1", 8080, "there")

endpoint = st.sampled_from([NEAR, FAR, Endpoint("10.0.0.2", 1, "here")])
ports = st.builds(
    RoutePort,
    st.sampled_from(["", "http"]),
    st.sampled_from([80, 443]),
    st.sampled_from([0, 30000, 30001]),
    st.lists(endpoint, max_size=2, unique=True).map(tuple),
    st.sampled_from(["TCP", "UDP", "SCTP"]),
)
routes = st.builds(
    Route,
    st.sampled_from(["a/a", "a/b", "b/a", "b/b"]),
    st.text(max_size=3),
    st.sampled_from(["", "None", "10.96.0.1", "10.96.0.2"]),
    st.lists(ports, max_size=3, unique_by=lambda port: (port.port, port.protocol)).map(tuple),
    external_ips=st.sampled_from([(), ("198.51.100.1",)]),
    internal_policy=st.sampled_from(["Cluster", "Local"]),
    external_policy=st.sampled_from(["Cluster", "Local"]),
    mode=st.sampled_from(["", "asyncio", "nftables"]),
    node_port_addresses=st.sampled_from([(), ("192.168.0.0/24",), ("10.1.0.1",)]),
)


def planned(*held: Route, node: NodeInfo = HERE) -> Planner:
    planner = Planner()
    table = Table("e", 1, node, {route.key: route for route in held})
    planner.update(table, table.since(None))
    return planner


def web(**fields: object) -> Route:
    port = RoutePort("http", 80, 30000, (NEAR, FAR))
    return Route("a/web", "u", "10.96.0.1", (port,), **fields)  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.lists(routes, max_size=3), st.sets(st.sampled_from(["a/a", "b/b"]))), max_size=6))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_moves_add_up_to_what_a_new_plan_of_the_whole_says(changes: list[tuple[list[Route], set[str]]]) -> None:
    planner = Planner()
    table = Table("e", 0, HERE)
    planner.update(table, table.since(None))
    listeners: dict[Place, PortKey] = {}
    services: dict[PortKey, Serving] = {}
    for number, (upserts, removed) in enumerate(changes):
        change = table.follow(Delta("e", number, number + 1, tuple(upserts), tuple(removed)))
        moves = planner.update(table, change)
        for place in moves.unlisten:
            del listeners[place]
        listeners.update(moves.listen)
        for key in moves.unserve:
            del services[key]
        services.update(moves.serve)
        whole = planned(*table.routes.values())
        assert listeners == planner.listeners == whole.listeners
        assert services == planner.services == whole.services
        assert planner.errors() == whole.errors()
        for place, key in listeners.items():
            assert services[key].endpoints, "a port that nobody serves refuses"
            assert place.address not in ("", "None", "0.0.0.0")


def test_cluster_ip_external_ips_and_node_ports() -> None:
    planner = planned(web(external_ips=("198.51.100.1",)))
    assert set(planner.listeners) == {
        Place("10.96.0.1", 80),
        Place("198.51.100.1", 80),
        Place("192.168.0.1", 30000),
        Place("10.1.0.1", 30000),
    }
    assert set(planner.listeners.values()) == {PortKey("a/web", 80)}


def test_node_ports_on_chosen_addresses() -> None:
    for wanted in ("192.168.0.1", "192.168.0.0/16"):
        planner = planned(web(node_port_addresses=(wanted,)))
        assert set(planner.listeners) == {Place("10.96.0.1", 80), Place("192.168.0.1", 30000)}
    assert set(planned(web(node_port_addresses=("203.0.113.9",))).listeners) == {Place("10.96.0.1", 80)}


def test_local_policies_choose_this_nodes_endpoints() -> None:
    planner = planned(web(external_policy="Local"))
    inside, outside = PortKey("a/web", 80), PortKey("a/web", 80, outside=True)
    assert planner.listeners[Place("10.96.0.1", 80)] == inside
    assert planner.listeners[Place("192.168.0.1", 30000)] == outside
    assert planner.services[inside].endpoints == (NEAR, FAR)
    assert planner.services[outside].endpoints == (NEAR,)
    planner = planned(web(internal_policy="Local", external_policy="Local"))
    assert planner.services == {inside: planner.services[inside]} and planner.services[inside].endpoints == (NEAR,)


def test_local_without_local_endpoints_refuses() -> None:
    elsewhere = NodeInfo(name="other", addresses=("192.168.0.2",))
    planner = planned(web(internal_policy="Local"), node=elsewhere)
    assert set(planner.listeners) == {Place("192.168.0.2", 30000)}
    planner = planned(web(external_policy="Local"), node=elsewhere)
    assert set(planner.listeners) == {Place("10.96.0.1", 80)}


def test_services_in_the_kernel_get_no_listener() -> None:
    kernel = NodeInfo(name="here", addresses=HERE.addresses, mode="nftables")
    assert not planned(web(mode="nftables")).listeners
    assert not planned(web(), node=kernel).listeners
    assert planned(web(mode="asyncio"), node=kernel).listeners


def test_udp_and_tcp_share_a_number() -> None:
    both = Route("a/dns", "u", "10.96.0.10", tuple(RoutePort("", 53, 0, (NEAR,), p) for p in ("TCP", "UDP", "SCTP")))
    planner = planned(both)
    assert set(planner.listeners) == {Place("10.96.0.10", 53), Place("10.96.0.10", 53, "UDP")}
    (error,) = planner.errors()
    assert "SCTP" in error.message


def test_another_node_is_another_plan() -> None:
    planner = planned(web())
    moved = Table("e", 2, NodeInfo(name="here", addresses=("192.168.0.9",)), {"a/web": web()})
    moves = planner.update(moved, Change({}, (), whole=True))
    assert set(moves.listen) == {Place("192.168.0.9", 30000)}
    assert set(moves.unlisten) == {Place("192.168.0.1", 30000), Place("10.1.0.1", 30000)}


def test_two_services_on_one_node_port() -> None:
    port = RoutePort("", 80, 30000, (Endpoint("10.0.0.1", 1),))
    node = NodeInfo(addresses=("192.0.2.1",))
    two = {key: Route(key, key, "", (port,)) for key in ("a/two", "a/one")}
    planner = planned(*two.values(), node=node)
    assert planner.listeners == {Place("192.0.2.1", 30000): PortKey("a/one", 80)}
    (error,) = planner.errors()
    assert (error.key, error.port, error.address) == ("a/two", 30000, "192.0.2.1")
    assert "a/one" in error.message
    table = Table("e", 2, node, {"a/two": two["a/two"]})
    moves = planner.update(table, Change({}, ("a/one",)))
    assert moves.listen == {Place("192.0.2.1", 30000): PortKey("a/two", 80)} and not planner.errors()


def _update_seconds(services: int) -> float:
    """The quickest of many one-endpoint changes; quickest, because other programs run too."""
    table = Table("e", 0, HERE)
    for number in range(services):
        port = RoutePort("", 80, 0, tuple(Endpoint(f"10.1.{number // 250}.{n}", 80) for n in range(10)))
        key = f"a/{number}"
        table.routes[key] = Route(key, key, f"10.96.{number // 250}.{number % 250}", (port,))
    planner = Planner()
    planner.update(table, table.since(None))
    times = []
    for revision in range(400):
        port = RoutePort("", 80, 0, (Endpoint("10.2.0.1", 1 + revision),))
        begun = time.perf_counter()
        change = table.follow(Delta("e", revision, revision + 1, (Route("a/5", "a/5", "10.96.0.5", (port,)),), ()))
        planner.update(table, change)
        times.append(time.perf_counter() - begun)
    return min(times)


def test_a_change_costs_the_same_among_many_services() -> None:
    """Budget: 1.2 (measured by the bench); here twice as much, and the best of some, for a busy machine."""
    ratios: list[float] = []
    while not ratios or (min(ratios) >= 2.4 and len(ratios) < 5):
        ratios.append(_update_seconds(5000) / _update_seconds(100))
    assert min(ratios) < 2.4
