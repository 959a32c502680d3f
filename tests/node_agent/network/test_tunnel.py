"""Names, numbers and addresses of the tunnel: the same on every node, and within their limits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from node_agent.network.tunnel import agreed, gateway_of, mac_of, pod_mtu, tunnel_name, vni_of

WAYS = st.sampled_from(["", "direct", "vxlan"])


@given(st.text(max_size=40), st.text(max_size=40))
def test_names_and_numbers_fit(cluster: str, node: str) -> None:
    assert len(tunnel_name(cluster, node)) == 15 and tunnel_name(cluster, node).startswith("sampan-vx")
    assert 0 < vni_of(cluster) < 2**24


@given(st.integers(0, 255), st.integers(0, 255))
def test_every_pod_range_has_its_own_hardware_address(one: int, other: int) -> None:
    first, second = mac_of(f"10.244.{one}.0/24"), mac_of(f"10.244.{other}.0/24")
    assert (first == second) == (one == other)
    assert int(first[:2], 16) & 0b11 == 0b10, "locally administered, for one receiver"


def test_the_gateway_is_the_first_address() -> None:
    assert gateway_of("10.244.7.0/24") == "10.244.7.1"
    assert mac_of("10.244.7.0/24") == "02:53:0a:f4:07:01"


@given(WAYS, WAYS)
def test_both_nodes_come_to_the_same_answer(ours: str, theirs: str) -> None:
    way = agreed(ours, theirs)
    assert way == agreed(theirs, ours)
    assert way in (ours, theirs)
    assert way == "vxlan" or "vxlan" not in (ours, theirs)


@given(st.integers(68, 65535))
def test_pods_leave_room_for_the_tunnel(link: int) -> None:
    assert pod_mtu(link) >= 576
    assert pod_mtu(link) <= max(link - 50, 576)
