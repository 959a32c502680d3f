"""Sampan's annotations: what they mean, and that what is wrong with them is told under their own path."""

from __future__ import annotations

import pytest

from master import traffic
from master.traffic import Traffic, read_service
from protos import core_pb2


def service(**annotations: str) -> core_pb2.Service:
    made = core_pb2.Service()
    made.spec.ports.add(name="http", port=80, protocol="TCP")
    made.spec.ports.add(name="admin", port=8080)
    made.spec.ports.add(name="dns", port=53, protocol="UDP")
    for name, value in annotations.items():
        made.metadata.annotations[f"sampan.dev/{name.replace('_', '-')}"] = value
    return made


def test_nothing_said_is_the_default() -> None:
    assert read_service(service()) == (Traffic(), ())


def test_what_each_says() -> None:
    assert read_service(service(balance="least-connections"))[0].balance == "LeastConnections"
    assert read_service(service(proxy_mode="nftables"))[0].mode == "nftables"
    # For all ports means all that speak TCP.
    assert read_service(service(proxy_protocol="v2"))[0].send_proxy == {(80, "TCP"): "v2", (8080, "TCP"): "v2"}
    told = read_service(service(proxy_protocol="http=v2, 8080=v1"))[0].send_proxy
    assert told == {(80, "TCP"): "v2", (8080, "TCP"): "v1"}
    assert read_service(service(accept_proxy_protocol="true"))[0].accept_proxy == {(80, "TCP"), (8080, "TCP")}
    assert read_service(service(accept_proxy_protocol="admin,80"))[0].accept_proxy == {(80, "TCP"), (8080, "TCP")}
    assert read_service(service(accept_proxy_protocol="false"))[0].accept_proxy == frozenset()
    found = read_service(service(node_port_addresses="192.168.1.7/24,10.0.0.5"))[0].node_port_addresses
    assert found == ("192.168.1.0/24", "10.0.0.5")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("balance", "random", "must be round-robin or least-connections, got 'random'"),
        ("proxy-mode", "ipvs", "must be asyncio or nftables, got 'ipvs'"),
        ("proxy-protocol", "v3", "must be v1, v2, or ports such as http=v2,8443=v1, got 'v3'"),
        ("proxy-protocol", "web=v1", "must name TCP ports of this service (http, admin), got 'web'"),
        ("accept-proxy-protocol", "dns", "must name TCP ports of this service (http, admin), got 'dns'"),
        ("node-port-addresses", "eth0", "must be IPv4 addresses or networks such as"),
        ("node-port-addresses", "", "must be IPv4 addresses or networks such as"),
    ],
)
def test_faults_stand_under_the_annotation(name: str, value: str, words: str) -> None:
    (fault,) = read_service(service(**{name: value}))[1]
    assert fault.path == f"metadata.annotations[sampan.dev/{name}]"
    assert words in fault.message


def test_what_the_kernel_cannot_do_names_both() -> None:
    asked = service(
        proxy_mode="nftables", balance="least-connections", proxy_protocol="v1", accept_proxy_protocol="http"
    )
    faults = read_service(asked)[1]
    assert [fault.path for fault in faults] == [
        traffic.path_of(traffic.BALANCE),
        traffic.path_of(traffic.PROXY_PROTOCOL),
        traffic.path_of(traffic.ACCEPT_PROXY_PROTOCOL),
    ]
    assert all("metadata.annotations[sampan.dev/proxy-mode]: nftables" in fault.message for fault in faults)
    assert read_service(service(proxy_mode="asyncio", balance="least-connections", proxy_protocol="v1"))[1] == ()


def test_affinity() -> None:
    one = service()
    assert traffic.affinity_seconds(one) == 0
    one.spec.sessionAffinity = "ClientIP"
    assert traffic.affinity_seconds(one) == 10800
    one.spec.sessionAffinityConfig.clientIP.timeoutSeconds = 60
    assert traffic.affinity_seconds(one) == 60


def test_a_pods_drain_seconds() -> None:
    assert traffic.drain_fault({}) is None
    assert traffic.drain_fault({"sampan.dev/drain-seconds": "0"}) is None
    for wrong in ("", "-1", "1.5", "3601", "\u0663"):
        fault = traffic.drain_fault({"sampan.dev/drain-seconds": wrong})
        assert fault is not None and fault.path == "metadata.annotations[sampan.dev/drain-seconds]"
        assert fault.message == f"must be whole seconds, 0-3600, got {wrong!r}"
