"""Pod addresses."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_agent.pods.ipam import NoAddress, PodAddresses


def book() -> PodAddresses:
    return PodAddresses(IPv4Address("10.0.0.2"), IPv4Address("10.0.0.4"))


def test_stays_the_same_and_runs_out() -> None:
    addresses = book()
    assert [addresses.take(uid, 0) for uid in "aba"] == ["10.0.0.2", "10.0.0.3", "10.0.0.2"]
    addresses.take("c", 0)
    with pytest.raises(NoAddress, match=r"all 3 pod addresses of this node \(10.0.0.2-10.0.0.4\)"):
        addresses.take("d", 0)


def test_freed_address_is_used_last() -> None:
    addresses = book()
    addresses.take("a", 0)
    addresses.release("a")
    assert [addresses.take(uid, 0) for uid in "bcd"] == ["10.0.0.3", "10.0.0.4", "10.0.0.2"]


def test_adoption() -> None:
    addresses = book()
    assert addresses.adopt("a", "10.0.0.3")
    assert addresses.adopt("a", "10.0.0.3")
    assert not addresses.adopt("b", "10.0.0.3")
    assert not addresses.adopt("c", "10.0.0.9")
    assert [addresses.take(uid, 0) for uid in "de"] == ["10.0.0.4", "10.0.0.2"]
    assert addresses.get("a") == "10.0.0.3" and addresses.get("zzz") == ""


def test_address_that_somebody_else_holds() -> None:
    addresses = book()
    assert addresses.take("a", 0) == "10.0.0.2"
    addresses.refuse("a", until=60)
    assert addresses.take("a", 0) == "10.0.0.3"
    assert [addresses.take("b", 0), addresses.take("c", 60)] == ["10.0.0.4", "10.0.0.2"]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=40))
def test_never_two_pods_on_one_address(steps: list[tuple[str, bool]]) -> None:
    addresses, held = book(), dict[str, str]()
    for uid, take in steps:
        if not take:
            addresses.release(uid)
            held.pop(uid, None)
        elif uid in held or len(held) < 3:
            held[uid] = addresses.take(uid, 0)
        assert len(set(held.values())) == len(held)
