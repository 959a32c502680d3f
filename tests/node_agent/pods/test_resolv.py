"""resolv.conf of pods under every dnsPolicy."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.resolvconf import ResolvConf
from node_agent.pods.resolv import pod_resolv_conf, read_host
from protos.core_pb2 import Pod
from tests.node_agent.pods.build import make_pod

HOST = ResolvConf(("192.0.2.1", "127.0.0.53"), ("corp.example",), ("timeout:1",))
CLUSTER = "search default.svc.cluster.local svc.cluster.local cluster.local corp.example\nnameserver 10.96.0.10\n"


def made(policy: str, *, host_network: bool = False, config: bool = False) -> Pod:
    pod = make_pod("a")
    pod.metadata.namespace = "default"
    pod.spec.dnsPolicy = policy
    pod.spec.hostNetwork = host_network
    if config:
        pod.spec.dnsConfig.nameservers.append("198.51.100.1")
        pod.spec.dnsConfig.searches.extend(["extra.example", "svc.cluster.local"])
        pod.spec.dnsConfig.options.add(name="ndots", value="2")
        pod.spec.dnsConfig.options.add(name="edns0")
    return pod


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        (made(""), CLUSTER + "options ndots:5\n"),
        (made("ClusterFirst"), CLUSTER + "options ndots:5\n"),
        (made("ClusterFirst", host_network=True), ""),
        (made("ClusterFirstWithHostNet", host_network=True), CLUSTER + "options ndots:5\n"),
        (made("Default"), "search corp.example\nnameserver 192.0.2.1\noptions timeout:1\n"),
        (made("Default", host_network=True), ""),
        (
            made("Default", host_network=True, config=True),
            "search corp.example extra.example svc.cluster.local\n"
            "nameserver 192.0.2.1\nnameserver 127.0.0.53\nnameserver 198.51.100.1\n"
            "options timeout:1 ndots:2 edns0\n",
        ),
        (
            made("None", config=True),
            "search extra.example svc.cluster.local\nnameserver 198.51.100.1\noptions ndots:2 edns0\n",
        ),
        (
            made("ClusterFirst", config=True),
            "search default.svc.cluster.local svc.cluster.local cluster.local corp.example extra.example\n"
            "nameserver 10.96.0.10\nnameserver 198.51.100.1\noptions ndots:2 edns0\n",
        ),
    ],
)
def test_policies(pod: Pod, expected: str) -> None:
    assert pod_resolv_conf(pod, "10.96.0.10", "cluster.local", lambda: HOST) == expected


def test_a_resolver_that_pods_cannot_reach_is_asked_by_the_clusters() -> None:
    text = pod_resolv_conf(
        made("Default"), "10.96.0.10", "cluster.local", lambda: ResolvConf(("127.0.0.53",), ("corp",))
    )
    assert text == "search corp\nnameserver 10.96.0.10\n"


def test_without_a_cluster_dns_the_engine_decides() -> None:
    assert pod_resolv_conf(made("ClusterFirst"), "", "cluster.local", lambda: HOST) == ""


def test_no_more_search_names_than_resolvers_read() -> None:
    host = ResolvConf(("192.0.2.1",), tuple(f"{'x' * 60}{i}.example" for i in range(60)))
    search = pod_resolv_conf(made(""), "10.96.0.10", "cluster.local", lambda: host).splitlines()[0]
    assert len(search) <= len("search ") + 2048 and 4 <= len(search.split()) - 1 <= 32


def test_the_nodes_own_file(tmp_path: Path) -> None:
    assert read_host(tmp_path / "none") == ResolvConf()
    (tmp_path / "some").write_text("nameserver 192.0.2.1\nnameserver nobody\n")
    assert read_host(tmp_path / "some").nameservers == ("192.0.2.1",)
