"""Addresses and node ports: free, stable, refused with the holder's name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from master.api.allocation import NODE_PORTS, ServiceRange, allocate
from master.api.defaults import apply_defaults
from protos import core_pb2
from tests.master.api.making import service

RANGE = ServiceRange("10.96.0.0/24")


def given_out(name: str, others: list[core_pb2.Service], **spec: Any) -> tuple[core_pb2.Service, list[str]]:
    made = service(name, **spec)
    apply_defaults(made)
    return made, [str(fault) for fault in allocate(made, others, RANGE)]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.from_regex(r"[a-z]{1,6}", fullmatch=True), unique=True, max_size=30))
def test_nobody_shares(names: list[str]) -> None:
    others: list[core_pb2.Service] = []
    for name in names:
        made, faults = given_out(name, others, type="NodePort")
        assert faults == []
        others.append(made)
    addresses = [one.spec.clusterIP for one in others]
    ports = [one.spec.ports[0].nodePort for one in others]
    assert len(set(addresses)) == len(set(ports)) == len(names)
    assert not {"10.96.0.0", "10.96.0.1", "10.96.0.10", "10.96.0.255"} & set(addresses)
    assert all(port in NODE_PORTS for port in ports)


def test_a_range_that_is_used_up() -> None:
    small = ServiceRange("10.96.0.0/27")
    taken: set[str] = set()
    for number in range(28):
        address = small.free(str(number), taken)
        assert address is not None
        taken.add(address)
    assert small.free("one more", taken) is None
    with pytest.raises(ValueError, match="too small"):
        ServiceRange("10.96.0.0/28")


def test_asked_for() -> None:
    made, faults = given_out("a", [], clusterIP="10.96.0.77")
    assert (faults, made.spec.clusterIP, list(made.spec.clusterIPs)) == ([], "10.96.0.77", ["10.96.0.77"])
    assert "already used by service default/a" in given_out("b", [made], clusterIP="10.96.0.77")[1][0]
    assert "within the service range 10.96.0.0/24" in given_out("b", [], clusterIP="10.97.0.1")[1][0]
    assert "reserved" in given_out("b", [], clusterIP="10.96.0.10")[1][0]
    headless, faults = given_out("h", [], clusterIP="None")
    assert faults == [] and list(headless.spec.clusterIPs) == ["None"]


def test_every_clash_is_told() -> None:
    ports = [{"name": "a", "port": 1, "nodePort": 8765}, {"name": "b", "port": 2, "nodePort": 8766}]
    held, _ = given_out("held", [], type="NodePort", ports=ports)
    _, faults = given_out("late", [held], type="NodePort", ports=ports, clusterIP=held.spec.clusterIP)
    assert len(faults) == 3
    remedy = "choose another, or leave it out to be given a free one"
    assert f"spec.ports[1].nodePort: 8766 is already used by service default/held: {remedy}" in faults


def test_udp_and_tcp_have_a_number_each() -> None:
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]
    both, faults = given_out("dns", [], type="NodePort", ports=ports)
    assert faults == []
    # As in Kubernetes: one number where one can be had.
    assert both.spec.ports[0].nodePort == both.spec.ports[1].nodePort in NODE_PORTS
    taken = both.spec.ports[0].nodePort
    udp = [{"name": "a", "port": 1, "protocol": "UDP", "nodePort": taken}]
    tcp = [{"name": "a", "port": 1, "protocol": "TCP", "nodePort": taken}]
    held, faults = given_out("held", [], type="NodePort", ports=udp)
    assert faults == []
    assert given_out("other", [held], type="NodePort", ports=tcp)[1] == []
    assert "already used by service default/held" in given_out("late", [held], type="NodePort", ports=udp)[1][0]


def test_a_name_for_something_outside_gets_no_address() -> None:
    made, faults = given_out("far", [], type="ExternalName", externalName="db.example.com", ports=[])
    assert faults == [] and made.spec.clusterIP == "" and list(made.spec.clusterIPs) == []
