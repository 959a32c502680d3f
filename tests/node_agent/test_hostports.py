"""Host ports as routes: who has them, what they say, and whose they are."""

from __future__ import annotations

from dataclasses import replace

from common.routing import Endpoint, NodeInfo, route_from_json, route_to_json
from node_agent.hostports import host_port_routes, pod_of
from protos.core_pb2 import Pod, PodStatus
from proxy.nft import in_kernel
from proxy.plan import plan_route


def made(**spec: object) -> Pod:
    pod = Pod()
    pod.metadata.name, pod.metadata.namespace, pod.metadata.uid = "web.one", "shop", "u1"
    pod.spec.nodeName = "node1"
    container = pod.spec.containers.add(name="web")
    container.ports.add(name="http", containerPort=80, hostPort=8080, protocol="TCP")
    container.ports.add(containerPort=53, hostPort=5353, protocol="UDP")
    container.ports.add(containerPort=9000)
    for name, value in spec.items():
        setattr(pod.spec, name, value)
    return pod


def test_sidecars_have_host_ports_and_init_containers_none() -> None:
    pod = made()
    for number, policy in enumerate(("Always", None)):
        init = pod.spec.initContainers.add(name=f"i{number}", restartPolicy=policy)
        init.ports.add(containerPort=7000, hostPort=7000 + number, protocol="TCP")
    (route,) = host_port_routes(pod, PodStatus(phase="Running", podIP="10.244.0.9"))
    assert [port.node_port for port in route.ports] == [8080, 5353, 7000]


def test_a_pod_with_an_address_has_its_ports_open() -> None:
    (route,) = host_port_routes(made(), PodStatus(phase="Running", podIP="10.244.0.9"))
    assert (route.uid, route.cluster_ip, route.external_ips, route.mode) == ("u1", "", (), "")
    assert [(port.node_port, port.protocol) for port in route.ports] == [(8080, "TCP"), (5353, "UDP")]
    assert route.ports[0].endpoints == (Endpoint("10.244.0.9", 80),)
    assert route.key.count("/") == 1 and pod_of(route.key) == ("shop", "web.one")
    assert route_from_json(route_to_json(route)) == route
    assert len({port.name for port in route.ports}) == 2


def test_nothing_is_open_for_others() -> None:
    status = PodStatus(phase="Running", podIP="10.244.0.9")
    assert host_port_routes(made(), PodStatus(phase="Pending")) == ()
    assert host_port_routes(made(), PodStatus(phase="Succeeded", podIP="10.244.0.9")) == ()
    assert host_port_routes(made(hostNetwork=True), status) == (), "it listens there itself"
    plain = made()
    del plain.spec.containers[0].ports[:2]
    assert host_port_routes(plain, status) == ()
    assert pod_of("default/web") is None


def test_an_address_of_its_own_is_a_route_of_its_own() -> None:
    pod = made()
    pod.spec.containers[0].ports[0].hostIP = "192.0.2.1"
    pod.spec.containers[0].ports[1].hostIP = "0.0.0.0"
    pod.spec.containers[0].ports[2].hostPort, pod.spec.containers[0].ports[2].hostIP = 9000, "127.0.0.1"
    status = PodStatus(phase="Running", podIP="10.244.0.9")
    everywhere, loopback, own = host_port_routes(pod, status)
    assert [(port.node_port, port.protocol) for port in everywhere.ports] == [(5353, "UDP")]
    node = NodeInfo("node1", ("192.0.2.1", "192.0.2.2"), mode="nftables")
    found = plan_route(own, replace(node, mode="asyncio"))
    assert [(place.address, place.port) for place in found.claims] == [("192.0.2.1", 8080)]
    assert loopback.external_ips == ("127.0.0.1",) and not in_kernel(loopback, node) and in_kernel(own, node)
    assert all(pod_of(route.key) == ("shop", "web.one") for route in (everywhere, loopback, own))
    assert len({route.key for route in (everywhere, loopback, own)}) == 3
