"""Containers as the runtime's specs."""

from __future__ import annotations

import pytest

from node_agent.pods.model import ConfigError, PlaceError
from node_agent.pods.spec import container_spec, limits_of, sandbox_spec, user_of
from node_agent.runtime.seam import Identity, Limits, Mount
from protos.core_pb2 import Container
from tests.node_agent.pods.build import make_pod

IDENTITY = Identity("c", "n", "default", "web", "uid", "a")


def container(limits: dict[str, str], requests: dict[str, str]) -> Container:
    made = Container(name="a")
    for name, text in limits.items():
        made.resources.limits[name].value = text
    for name, text in requests.items():
        made.resources.requests[name].value = text
    return made


@pytest.mark.parametrize(
    ("limits", "requests", "expected"),
    [
        ({}, {}, Limits(0, 2, 0)),
        ({"cpu": "500m", "memory": "64Mi"}, {}, Limits(50_000, 512, 64 * 2**20)),
        ({"cpu": "2"}, {"cpu": "100m"}, Limits(200_000, 102, 0)),
        ({}, {"cpu": "1", "memory": "1Gi"}, Limits(0, 1024, 0)),
        ({"cpu": "1m"}, {}, Limits(1_000, 2, 0)),
        ({}, {"cpu": "1000"}, Limits(0, 262_144, 0)),
    ],
)
def test_limits(limits: dict[str, str], requests: dict[str, str], expected: Limits) -> None:
    assert limits_of(container(limits, requests)) == expected


def test_user() -> None:
    pod = make_pod("a")
    one = pod.spec.containers[0]
    assert user_of(pod, one, "app:app") == ""
    pod.spec.securityContext.runAsGroup = 5
    assert user_of(pod, one, "app:app") == "app:5"
    assert user_of(pod, one, "") == "0:5"
    pod.spec.securityContext.runAsUser = 1000
    assert user_of(pod, one, "") == "1000:5"
    one.securityContext.runAsUser = 0
    one.securityContext.runAsGroup = 0
    assert user_of(pod, one, "") == "0:0"


def test_command_line_is_expanded() -> None:
    pod = make_pod("a")
    one = pod.spec.containers[0]
    one.command.extend(["run", "$(A)"])
    one.args.extend(["$$(A)", "$(B)"])
    one.securityContext.allowPrivilegeEscalation = False
    one.securityContext.capabilities.drop.append("ALL")
    spec = container_spec(pod, one, IDENTITY, {"A": "1"}, ())
    assert spec.command == ("run", "1") and spec.args == ("$(A)", "$(B)")
    assert spec.env == (("A", "1"),)
    assert spec.no_new_privileges and spec.cap_drop == ("ALL",)
    assert not container_spec(make_pod("a"), make_pod("a").spec.containers[0], IDENTITY, {}, ()).no_new_privileges


def test_mount_path_twice() -> None:
    pod = make_pod("a")
    mounts = (Mount("bind", "/x", "/v"), Mount("bind", "/y", "/v"))
    with pytest.raises(ConfigError, match="container a: volumeMounts: /v is mounted twice"):
        container_spec(pod, pod.spec.containers[0], IDENTITY, {}, mounts)


def test_sandbox() -> None:
    pod = make_pod("a")
    pod.metadata.name = "x" * 62 + "-y"
    pod.spec.hostAliases.add(ip="1.2.3.4", hostnames=["db", "db.local"])
    spec = sandbox_spec(pod, IDENTITY, "pods", ())
    assert spec.hostname == "x" * 62
    assert spec.hosts == (("1.2.3.4", "db"), ("1.2.3.4", "db.local"))
    assert spec.network == "pods"
    pod.spec.hostname = "given"
    assert sandbox_spec(pod, IDENTITY, "pods", ()).hostname == "given"
    pod.spec.hostNetwork = True
    joined = sandbox_spec(pod, IDENTITY, "pods", ())
    assert joined.network == "" and joined.hostname == IDENTITY.node, "it has the node's network, and its name"


def test_a_subdomain_is_the_domain_name_and_ones_own_resolv_conf_stays() -> None:
    pod = make_pod("a")
    pod.metadata.namespace, pod.spec.hostname, pod.spec.subdomain = "default", "db-0", "db"
    spec = sandbox_spec(pod, IDENTITY, "pods", (), "cluster.test")
    assert (spec.hostname, spec.domainname) == ("db-0", "db.default.svc.cluster.test")
    pod.spec.setHostnameAsFQDN = True
    spec = sandbox_spec(pod, IDENTITY, "pods", (), "cluster.test")
    assert (spec.hostname, spec.domainname) == ("db-0.db.default.svc.cluster.test", "")
    pod.spec.hostname = "d" * 40
    with pytest.raises(PlaceError, match="must be a name of at most 64 characters, got 68: ddd"):
        sandbox_spec(pod, IDENTITY, "pods", (), "cluster.test")
    pod.spec.subdomain = ""
    assert sandbox_spec(pod, IDENTITY, "pods", (), "cluster.test").hostname == "d" * 40
    one = pod.spec.containers[0]
    assert container_spec(pod, one, IDENTITY, {}, (), resolv_conf="x").resolv_conf == "x"
    own = (Mount("bind", "/x", "/etc/resolv.conf"),)
    assert container_spec(pod, one, IDENTITY, {}, own, resolv_conf="x").resolv_conf == ""
