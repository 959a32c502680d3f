"""The environment of containers."""

from __future__ import annotations

import pytest

from node_agent.pods.env import Surroundings, environment, expand, service_environment
from node_agent.pods.model import Assignments, ConfigError
from protos.agent_pb2 import ServiceRoute, ServiceRoutePort
from protos.core_pb2 import ConfigMap, Pod, Secret
from tests.node_agent.pods.build import make_pod

AROUND = Surroundings("node-1", "192.0.2.1", "10.0.0.2", {"cpu": "4", "memory": "8Gi"})
KNOWN = Assignments(
    configmaps={("default", "cm"): ConfigMap(data={"a": "1", "b.c": "2", "not a name": "3"})},
    secrets={("default", "sec"): Secret(data={"pw": b"hush"})},
)


def env(pod: Pod, known: Assignments = KNOWN) -> dict[str, str]:
    return environment(pod, pod.spec.containers[0], known, AROUND)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(B)", "x1y2"),
        ("$(NO)", "$(NO)"),
        ("$$(A)", "$(A)"),
        ("$A", "$A"),
        ("$", "$"),
        ("$$", "$"),
        ("$(A", "$(A"),
        ("$$$(A)", "$1"),
        ("$()", "$()"),
    ],
)
def test_expand(text: str, expected: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == expected


def test_order_and_expansion() -> None:
    pod = make_pod("a")
    container = pod.spec.containers[0]
    container.envFrom.add(prefix="P_").configMapRef.localObjectReference.name = "cm"
    container.env.add(name="FIRST", value="$(P_a)-$(LATER)")
    container.env.add(name="LATER", value="x")
    container.env.add(name="P_a", value="mine")
    assert env(pod) == {"P_a": "mine", "P_b.c": "2", "FIRST": "1-$(LATER)", "LATER": "x"}


def test_sources() -> None:
    pod = make_pod("a")
    pod.metadata.labels["app"] = "web"
    container = pod.spec.containers[0]
    container.resources.limits["memory"].value = "1500k"
    for name, path in (("IP", "status.podIP"), ("NODE", "spec.nodeName"), ("APP", "metadata.labels['app']")):
        container.env.add(name=name).valueFrom.fieldRef.fieldPath = path
    memory = container.env.add(name="MEM").valueFrom.resourceFieldRef
    memory.resource, memory.divisor.value = "limits.memory", "1Mi"
    container.env.add(name="CPU").valueFrom.resourceFieldRef.resource = "limits.cpu"
    key = container.env.add(name="A").valueFrom.configMapKeyRef
    key.localObjectReference.name, key.key = "cm", "a"
    password = container.env.add(name="PW").valueFrom.secretKeyRef
    password.localObjectReference.name, password.key = "sec", "pw"
    assert env(pod) == {
        "IP": "10.0.0.2", "NODE": "node-1", "APP": "web", "MEM": "2", "CPU": "4", "A": "1", "PW": "hush",
    }  # fmt: skip


def test_missing_things_are_named_unless_optional() -> None:
    pod = make_pod("a")
    ref = pod.spec.containers[0].env.add(name="A").valueFrom.configMapKeyRef
    ref.localObjectReference.name, ref.key = "gone", "k"
    with pytest.raises(ConfigError, match='container a, env A: configmap "gone" not found in namespace default'):
        env(pod)
    ref.localObjectReference.name = "cm"
    with pytest.raises(ConfigError, match='couldn\'t find key "k" in configmap default/cm'):
        env(pod)
    ref.optional = True
    assert env(pod) == {}
    source = pod.spec.containers[0].envFrom.add().secretRef
    source.localObjectReference.name = "gone"
    with pytest.raises(ConfigError, match=r'container a, envFrom\[0\]: secret "gone" not found'):
        env(pod)
    source.optional = True
    assert env(pod) == {}


def test_unknown_field_path() -> None:
    pod = make_pod("a")
    pod.spec.containers[0].env.add(name="X").valueFrom.fieldRef.fieldPath = "status.phase"
    with pytest.raises(ConfigError, match=r'"status\.phase" is not known; use one of metadata\.name'):
        env(pod)


def test_services_of_the_namespace() -> None:
    route = ServiceRoute(namespace="default", name="redis-master", cluster_ip="10.96.0.11")
    route.ports.append(ServiceRoutePort(name="db", protocol="TCP", port=6379))
    known = Assignments(services={("default", "redis-master"): route, ("other", "x"): route})
    expected = {
        "REDIS_MASTER_SERVICE_HOST": "10.96.0.11",
        "REDIS_MASTER_SERVICE_PORT": "6379",
        "REDIS_MASTER_SERVICE_PORT_DB": "6379",
        "REDIS_MASTER_PORT": "tcp://10.96.0.11:6379",
        "REDIS_MASTER_PORT_6379_TCP": "tcp://10.96.0.11:6379",
        "REDIS_MASTER_PORT_6379_TCP_PROTO": "tcp",
        "REDIS_MASTER_PORT_6379_TCP_PORT": "6379",
        "REDIS_MASTER_PORT_6379_TCP_ADDR": "10.96.0.11",
    }
    assert env(make_pod("a"), known) == expected
    pod = make_pod("a")
    pod.spec.enableServiceLinks = False
    assert env(pod, known) == {}
    route.cluster_ip = "None"
    assert service_environment([route]) == {}
