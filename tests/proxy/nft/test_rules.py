"""The pure half: which services the kernel serves, and what a change costs."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.routing import Endpoint, NodeInfo, Route, RoutePort
from proxy.nft import steps as r
from proxy.nft.encode import encode, pack_place, unpack_place
from proxy.nft.rules import Rules, in_kernel, rule_name
from proxy.nft.skeleton import ground, make_table
from proxy.nft.slots import Target
from proxy.plan import Place, Planner, PortKey
from proxy.table import Change, Table

NODE = NodeInfo("n1", ("192.0.2.1",), "10.201.1.0/24", "10.201.0.0/16", "10.96.0.0/16", mode="nftables")
PORT = RoutePort("http", 80, 30080, (Endpoint("10.201.1.10", 8080), Endpoint("10.201.2.10", 8080)))
WEB = Route("default/web", "uid", "10.96.0.10", (PORT,))
NAME = rule_name(PortKey("default/web", 80))


class Steps:
    """A planner and the rules behind it, as the plane uses them."""

    def __init__(self, *routes: Route) -> None:
        self.planner = Planner(lambda route, node: not in_kernel(route, node), also_empty=True)
        self.rules = Rules(NODE.pod_cidr)
        self.table = Table("t", 1, NODE)
        self.first = self.put(*routes, whole=True)

    def put(self, *routes: Route, removed: tuple[str, ...] = (), whole: bool = False) -> list[r.Step]:
        upserts = {route.key: route for route in routes}
        self.table.routes.update(upserts)
        for key in removed:
            del self.table.routes[key]
        moves = self.planner.update(self.table, Change(upserts, removed, whole))
        return self.rules.update(moves, self.planner.services)


def web(*ips: str, **changes: object) -> Route:
    port = replace(PORT, endpoints=tuple(Endpoint(ip, 8080) for ip in ips))
    return replace(WEB, ports=(port,), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("route", "node", "expected"),
    [
        (WEB, NODE, True),
        (WEB, replace(NODE, mode="asyncio"), False),
        (replace(WEB, mode="nftables"), replace(NODE, mode="asyncio"), True),
        (replace(WEB, mode="asyncio"), NODE, False),
        (replace(WEB, balance="LeastConnections"), NODE, False),
        (replace(WEB, ports=(replace(PORT, send_proxy="v2"),)), NODE, False),
        (replace(WEB, ports=(replace(PORT, accept_proxy=True),)), NODE, False),
    ],
)
def test_what_the_kernel_cannot_give_stays_in_user_space(route: Route, node: NodeInfo, expected: bool) -> None:
    assert in_kernel(route, node) is expected


def test_a_service_is_a_rule_its_endpoints_and_its_places() -> None:
    assert Steps(WEB).first == [
        r.MakeTurns(0),
        r.PutSlots(1, ((0, Target("10.201.1.10", 8080)), (1, Target("10.201.2.10", 8080)))),
        r.AllowHairpin(("10.201.1.10",)),
        r.AddRule(1, NAME, 2),
        r.Lead(((Place("10.96.0.10", 80), 1), (Place("192.0.2.1", 30080), 1))),
    ]


def test_an_update_of_endpoints_has_no_verdict() -> None:
    """With any rule or element that has one, the kernel looks for loops through the chains of all services."""
    steps = Steps(WEB)
    for ips in (("10.201.1.10",), (), ("10.201.1.10", "10.201.2.10", "10.201.3.10"), ("10.201.4.10",) * 3):
        for message in encode("t", steps.put(web(*ips)), {NAME: 7}):
            found = re.findall(rb"[a-z]{2,}", message.body)
            assert not {b"immediate", b"lookup", b"meta", b"nat", b"reject"} & set(found)
            assert b"goto" not in message.body and b"jump" not in message.body


def test_an_endpoint_in_place_of_another_is_one_element() -> None:
    steps = Steps(WEB).put(web("10.201.1.10", "10.201.3.10"))
    assert steps == [r.DropSlots(1, (1,)), r.PutSlots(1, ((1, Target("10.201.3.10", 8080)),))]


def test_one_endpoint_more_is_an_element_and_the_services_own_rule() -> None:
    steps = Steps(WEB).put(web("10.201.1.10", "10.201.2.10", "10.201.3.10"))
    assert steps == [r.PutSlots(1, ((2, Target("10.201.3.10", 8080)),)), r.ChangeRule(1, NAME, 3)]


def test_a_change_names_nothing_of_other_services() -> None:
    others = [
        replace(WEB, key=f"default/o{n}", cluster_ip=f"10.96.1.{n}", ports=(replace(PORT, node_port=0),))
        for n in range(50)
    ]
    steps = Steps(WEB, *others)
    assert len(steps.put(web("10.201.9.9"))) == 3
    assert steps.put(web("10.201.9.9")) == []


def test_a_service_that_goes_leaves_nothing() -> None:
    assert Steps(WEB).put(removed=("default/web",)) == [
        r.DropSlots(1, (0, 1)),
        r.DenyHairpin(("10.201.1.10",)),
        r.Unlead((Place("10.96.0.10", 80), Place("192.0.2.1", 30080))),
        r.RemoveTurns(0),
    ]


def test_sixteen_share_a_chain_that_goes_with_the_last() -> None:
    plain = replace(PORT, node_port=0)
    many = [replace(WEB, key=f"default/o{n:02}", cluster_ip=f"10.96.1.{n}", ports=(plain,)) for n in range(20)]
    steps = Steps(*many)
    assert [s for s in steps.first if isinstance(s, r.MakeTurns)] == [r.MakeTurns(0), r.MakeTurns(16)]
    name = rule_name(PortKey("default/o19", 80))
    assert steps.put(removed=("default/o19",))[-1] == r.RemoveRule(20, name)
    # The last four of the second chain: 16 to 19. Their successor takes 21.
    gone = tuple(f"default/o{n:02}" for n in range(15, 19))
    after = steps.put(replace(many[0], key="default/new", cluster_ip="10.96.2.1"), removed=gone)
    assert not any(isinstance(step, (r.MakeTurns, r.RemoveTurns)) for step in after)
    assert [step.id for step in after if isinstance(step, r.RemoveRule)] == [16, 17, 18, 19]
    assert steps.put(removed=("default/new",))[-1] == r.RemoveTurns(16)


def test_a_service_without_endpoints_keeps_its_places() -> None:
    assert Steps(WEB).put(web())[-1] == r.ChangeRule(1, NAME, 0)


def test_rules_that_keep_clients_are_made_once_and_go_with_the_last() -> None:
    second = replace(WEB, key="default/w2", cluster_ip="10.96.0.11", ports=(replace(PORT, node_port=0),))
    steps = Steps(replace(WEB, affinity_seconds=60), replace(second, affinity_seconds=60))
    assert [s for s in steps.first if isinstance(s, r.MakeSticky)] == [r.MakeSticky(60)]
    assert r.RemoveSticky(60) not in steps.put(WEB)
    assert r.RemoveSticky(60) in steps.put(second)


def test_rules_that_keep_clients_pass_from_one_service_to_another() -> None:
    second = replace(WEB, key="default/w2", cluster_ip="10.96.0.11", ports=(replace(PORT, node_port=0),))
    steps = Steps(replace(WEB, affinity_seconds=60), second)
    assert steps.put(WEB, replace(second, affinity_seconds=60)) == [r.Unstick(1), r.Stick(2, 60)]
    assert steps.put(replace(second, affinity_seconds=90)) == [
        r.MakeSticky(90),
        r.Unstick(2),
        r.Stick(2, 90),
        r.RemoveSticky(60),
    ]


def test_the_same_table_is_the_same_transaction() -> None:
    def messages() -> list[bytes]:
        on = ground(NODE, bridge_filter=True)
        return [m.body for m in make_table(on) + encode(on.table, Steps(WEB).first)]

    assert messages() == messages()


def test_rule_names_fit_and_differ() -> None:
    long = "n" * 63 + "/" + "s" * 63
    names = {rule_name(PortKey(long, 80)), rule_name(PortKey(long, 80, outside=True)), rule_name(PortKey(long, 81))}
    assert len(names) == 3 and all(len(name) <= 127 for name in names)


@given(st.ip_addresses(v=4), st.integers(1, 65535), st.sampled_from(["TCP", "UDP"]))
def test_places_pack(address: object, port: int, protocol: str) -> None:
    place = Place(str(address), port, protocol)
    assert unpack_place(pack_place(place)) == place
