"""The plan against a kernel made of sets: it converges, in one go, touches nothing foreign, and leaves no gap."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node_agent.network.plan import device_to, link_mtu, plan, removal, way_to
from node_agent.network.steps import (
    AddAddress,
    Observed,
    Peer,
    Plan,
    PutForward,
    PutNeighbor,
    PutRoute,
    PutTunnel,
    RemoveForward,
    RemoveNeighbor,
    RemoveRoute,
    RemoveTunnel,
    Route,
    SetDefault,
    SetSysctl,
    TurnBack,
    Wanted,
    Way,
)
from node_agent.network.tunnel import Forward, Neighbor, Tunnel, gateway_of, mac_of

WANTED = Wanted("n1", "10.244.1.0/24", "10.244.0.0/16", "10.96.0.0/16", pod_device="pods", tunnel="vx", vni=7)
LINKS = {"lo": frozenset({"127.0.0.1/8"}), "eth0": frozenset({"192.168.1.1/24"}), "pods": frozenset({"10.244.1.1/24"})}


def carry_out(observed: Observed, steps: Plan) -> Observed:
    """What a kernel does with the steps; a slot holds one route."""
    routes = {route.slot: route for route in observed.routes}
    addresses = {device: set(held) for device, held in observed.addresses.items()}
    sysctls = dict(observed.sysctls)
    default, tunnel, up = observed.default_via, observed.tunnel, observed.tunnel_up
    forwards = {one.mac: one for one in observed.forwards}
    neighbors = {one.ip: one for one in observed.neighbors}
    for step in steps.steps:
        match step:
            case PutRoute(route):
                assert not route.onlink or (tunnel is not None and tunnel.name == route.dev)
                routes[route.slot] = route
            case RemoveRoute(route):
                assert routes.pop(route.slot) == route
            case AddAddress(device, address):
                addresses[device].add(address)
            case SetSysctl(name=name, value=value):
                sysctls[name] = value
            case SetDefault(via):
                default = via
            case PutTunnel(wanted):
                assert tunnel is None or tunnel.same_device(wanted)
                tunnel, up = wanted, True
            case RemoveTunnel(name):
                assert tunnel is not None and tunnel.name == name
                routes = {slot: route for slot, route in routes.items() if route.dev != name}
                forwards, neighbors, tunnel, up = {}, {}, None, True
            case PutForward(device, forward):
                assert tunnel is not None and tunnel.name == device
                forwards[forward.mac] = forward
            case RemoveForward(device, forward):
                assert forwards.pop(forward.mac) == forward
            case PutNeighbor(device, neighbor):
                assert tunnel is not None and tunnel.name == device
                neighbors[neighbor.ip] = neighbor
            case RemoveNeighbor(device, neighbor):
                assert neighbors.pop(neighbor.ip) == neighbor
    return replace(
        observed,
        addresses={device: frozenset(entries) for device, entries in addresses.items()},
        routes=frozenset(routes.values()),
        default_via=default,
        sysctls=sysctls,
        tunnel=tunnel,
        tunnel_up=up,
        forwards=frozenset(forwards.values()),
        neighbors=frozenset(neighbors.values()),
    )


peers = st.lists(
    st.builds(
        lambda number, host, name, network: Peer(
            f"n{name}", f"192.168.{host // 200}.{host % 200 + 1}", f"10.244.{number}.0/24", network
        ),
        st.integers(0, 5),
        st.integers(0, 399),
        st.integers(1, 6),
        st.sampled_from(["", "direct", "vxlan"]),
    ),
    max_size=6,
    unique_by=(lambda peer: peer.name, lambda peer: peer.address),
)
our_routes = st.frozensets(
    st.one_of(
        st.builds(
            lambda number, via: Route("unicast", f"10.244.{number}.0/24", f"192.168.1.{via}", "eth0"),
            st.integers(2, 5),
            st.integers(2, 9),
        ),
        st.just(Route("local", "10.96.0.0/16", dev="lo")),
        st.just(Route("local", "10.97.0.0/16", dev="lo")),
        st.just(Route("unreachable", "10.0.0.0/8")),
    ),
    max_size=5,
).filter(lambda routes: len({route.slot for route in routes}) == len(routes))
tunnels = st.sampled_from(
    [
        None,
        Tunnel("vx", 7, mac_of("10.244.1.0/24"), 1450),
        Tunnel("vx", 7, "02:00:00:00:00:01", 1230),
        Tunnel("vx", 9, "", 0),
    ]
)
all_observations = st.builds(
    Observed,
    addresses=st.just(LINKS),
    routes=our_routes,
    default_via=st.sampled_from(["", "192.168.1.254", "10.244.1.1"]),
    sysctls=st.fixed_dictionaries(
        {
            "net.ipv4.ip_forward": st.sampled_from("01"),
            "net.ipv4.conf.all.rp_filter": st.sampled_from("012"),
            "net.ipv4.conf.eth0.rp_filter": st.sampled_from("012"),
            "net.ipv4.conf.default.rp_filter": st.sampled_from("012"),
        }
    ),
    mtus=st.fixed_dictionaries({"eth0": st.sampled_from([1280, 1500, 9000]), "pods": st.just(1450)}),
    ways=st.sampled_from(
        [(), (Way("0.0.0.0/0", "eth0"),), (Way("192.168.0.0/16", "eth0"), Way("192.168.1.0/24", "eth0"))]
    ),
    tunnel=tunnels,
    tunnel_up=st.booleans(),
    forwards=st.frozensets(
        st.builds(Forward, st.sampled_from(["02:53:0a:f4:02:01", "02:00:00:00:00:09"]), st.just("192.168.1.9")),
        max_size=2,
    ),
    neighbors=st.frozensets(
        st.builds(Neighbor, st.sampled_from(["10.244.2.1", "10.244.9.1"]), st.just("02:53:0a:f4:02:01")), max_size=2
    ),
)
# Without the device there is nothing behind it.
observations = all_observations.map(
    lambda seen: seen if seen.tunnel is not None else replace(seen, forwards=frozenset(), neighbors=frozenset())
)


@given(peers, observations, st.booleans())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_one_plan_is_enough(held: list[Peer], observed: Observed, in_container: bool) -> None:
    wanted = replace(WANTED, peers=tuple(held))
    if in_container:
        wanted = replace(wanted, gateway="10.244.1.1", outside="192.168.1.254")
        observed = replace(observed, addresses={**LINKS, "pods": frozenset({"10.244.1.3/24"})})
    after = carry_out(observed, plan(wanted, observed))
    assert plan(wanted, after).steps == ()
    assert after.sysctls["net.ipv4.ip_forward"] == "1"
    if in_container:
        assert "10.244.1.1/32" in after.addresses["pods"]
        assert after.default_via != "10.244.1.1"
    # Each peer is either routed to or complained about, and by name.
    complaints = plan(wanted, observed).problems
    routed = {route.destination: route for route in after.routes if route.kind == "unicast"}
    by_mac = {one.mac: one.address for one in after.forwards}
    by_ip = {one.ip: one.mac for one in after.neighbors}
    reached = 0
    for peer in held:
        if peer.name == "n1":
            continue
        if any(complaint.startswith(f"node {peer.name}:") for complaint in complaints):
            continue
        reached += 1
        route = routed[peer.pod_cidr]
        if route.onlink:
            assert peer.network != "direct"
            assert route.dev == "vx" and route.via == gateway_of(peer.pod_cidr) and route.source == "10.244.1.1"
            assert by_mac[by_ip[route.via]] == peer.address
        else:
            assert peer.network != "vxlan"
            assert route.via == peer.address and route.dev == "eth0"
    assert len(routed) == reached
    tunnelled = [route for route in routed.values() if route.onlink]
    assert len(after.forwards) == len(after.neighbors) == len(tunnelled)
    assert (after.tunnel is not None) == bool(tunnelled)
    if after.tunnel is not None:
        assert after.tunnel.mtu == after.mtus["eth0"] - 50 and after.tunnel_up
        general, for_new = (after.sysctls[f"net.ipv4.conf.{name}.rp_filter"] for name in ("all", "default"))
        assert max(general, after.sysctls.get("net.ipv4.conf.vx.rp_filter", for_new)) != "1"
    bare = carry_out(after, removal(after))
    assert bare.routes == frozenset() and bare.tunnel is None


@given(peers, observations)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_step_opens_the_cluster_range(held: list[Peer], observed: Observed) -> None:
    """Once the guard is there, it stays; and it is there before any other route changes."""
    wanted = replace(WANTED, peers=tuple(held))
    steps = plan(wanted, observed).steps
    routes = {route.slot: route for route in observed.routes}
    for step in steps:
        if isinstance(step, PutRoute):
            routes[step.route.slot] = step.route
        elif isinstance(step, RemoveTunnel):
            routes = {slot: route for slot, route in routes.items() if route.dev != step.name}
        elif isinstance(step, RemoveRoute):
            guard = any(r.kind == "unreachable" and r.destination == WANTED.cluster_cidr for r in routes.values())
            assert guard
            del routes[step.route.slot]


def test_the_guard_goes_last_when_everything_goes() -> None:
    observed = Observed(LINKS)
    full = carry_out(observed, plan(replace(WANTED, peers=(Peer("n2", "192.168.1.2", "10.244.2.0/24"),)), observed))
    kinds = [step.route.kind for step in removal(full).steps if isinstance(step, RemoveRoute)]
    assert kinds == ["local", "unicast", "unreachable"]


def test_a_peer_that_moves_is_replaced_without_a_gap() -> None:
    before = Observed(LINKS, frozenset({Route("unicast", "10.244.2.0/24", "192.168.1.2", "eth0")}))
    wanted = replace(WANTED, peers=(Peer("n2", "192.168.1.7", "10.244.2.0/24"),))
    steps = plan(wanted, before).steps
    assert PutRoute(Route("unicast", "10.244.2.0/24", "192.168.1.7", "eth0")) in steps
    assert not any(isinstance(step, RemoveRoute) for step in steps)


def test_the_nearest_link_is_taken() -> None:
    observed = Observed({"wide": frozenset({"10.0.0.1/8"}), "near": frozenset({"10.1.2.3/24"}), "lo": frozenset()})
    assert device_to("10.1.2.9", observed) == "near"
    assert device_to("10.9.9.9", observed) == "wide"
    assert device_to("192.0.2.1", observed) == ""


@given(st.integers(0, 2**32 - 1))
def test_a_device_is_named_only_for_an_address_on_its_link(number: int) -> None:
    address = IPv4Address(number)
    device = device_to(str(address), Observed(LINKS))
    networks = [IPv4Network(e, strict=False) for d, held in LINKS.items() if d != "lo" for e in held]
    assert bool(device) == any(address in network for network in networks)


def test_two_nodes_with_one_pod_range_are_named() -> None:
    held = (Peer("n2", "192.168.1.2", "10.244.2.0/24"), Peer("n3", "192.168.1.3", "10.244.2.0/24"))
    (problem,) = plan(replace(WANTED, peers=held), Observed(LINKS)).problems
    assert "n3" in problem and "n2" in problem


def test_ports_of_the_pods_bridge_send_back_what_came_from_them() -> None:
    observed = Observed(addresses=LINKS, one_way={"veth2": "pods", "veth1": "pods", "veth0": "docker0"})
    steps = plan(replace(WANTED, pod_device="pods"), observed).steps
    assert [step for step in steps if isinstance(step, TurnBack)] == [TurnBack("veth1"), TurnBack("veth2")]


def test_summary_counts_the_steps() -> None:
    assert plan(WANTED, Observed(LINKS)).summary() == "2 PutRoute"
    assert Plan(()).summary() == "nothing"


@given(observations)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_unknown_peers_keep_their_routes(observed: Observed) -> None:
    after = carry_out(observed, plan(replace(WANTED, peers=None), observed))
    assert {r for r in after.routes if r.kind == "unicast"} == {r for r in observed.routes if r.kind == "unicast"}
    assert plan(replace(WANTED, peers=None), after).steps == ()


def test_the_way_others_set_is_found_by_the_longest_prefix() -> None:
    observed = Observed(LINKS, ways=(Way("0.0.0.0/0", "eth0"), Way("10.9.0.0/16", "vpn")), mtus={"eth0": 1280})
    assert way_to("10.9.1.1", observed) == "vpn"
    assert way_to("203.0.113.1", observed) == "eth0"
    assert way_to("203.0.113.1", Observed(LINKS)) == ""
    assert link_mtu("192.168.1.1", observed) == 1280
    assert link_mtu("203.0.113.1", observed) == 1280, "behind address translation: the default route's link counts"
    assert link_mtu("127.0.0.1", Observed(LINKS, mtus={"lo": 65536})) == 1500


def test_a_peer_that_comes_to_our_link_is_taken_out_of_the_tunnel() -> None:
    observed = Observed(LINKS, ways=(Way("0.0.0.0/0", "eth0"),))
    far = replace(WANTED, peers=(Peer("n2", "192.168.9.2", "10.244.2.0/24"),))
    away = carry_out(observed, plan(far, observed))
    assert away.tunnel is not None
    near = replace(WANTED, peers=(Peer("n2", "192.168.1.2", "10.244.2.0/24"),))
    steps = plan(near, away).steps
    assert [type(step) for step in steps] == [PutRoute, RemoveTunnel], "first the new route, in the old one's place"
    assert carry_out(away, plan(near, away)).tunnel is None


def test_a_peer_without_a_common_link_asked_to_be_direct_is_named() -> None:
    wanted = replace(WANTED, peers=(Peer("n2", "192.168.9.2", "10.244.2.0/24", "direct"),))
    (problem,) = plan(wanted, Observed(LINKS, ways=(Way("0.0.0.0/0", "eth0"),))).problems
    assert "n2" in problem and "sampan.dev/network" in problem
