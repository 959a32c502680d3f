"""Defaults: what they are, and that giving them twice changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import manifest
from common.kinds import KINDS
from common.wire import normalise
from master.api.defaults import apply_defaults
from master.api.defaults.pod import NOT_READY, UNREACHABLE, add_tolerations, pull_policy, qos_class
from protos import core_pb2
from tests.common.manifests import messages
from tests.master.api.making import RC, pod, read, service


def with_defaults(obj: Any) -> Any:
    apply_defaults(obj)
    return obj


def test_a_pod_in_the_nodes_network_holds_its_ports() -> None:
    containers = [{"name": "main", "image": "nginx", "ports": [{"containerPort": 80}]}]
    assert with_defaults(pod(containers=containers, hostNetwork=True)).spec.containers[0].ports[0].hostPort == 80
    assert with_defaults(pod(containers=containers)).spec.containers[0].ports[0].hostPort == 0


def test_pods() -> None:
    spec = with_defaults(
        pod(
            containers=[
                {
                    "name": "main",
                    "image": "nginx",
                    "ports": [{"containerPort": 80}],
                    "resources": {"limits": {"cpu": "1", "memory": "1Mi"}, "requests": {"cpu": "100m"}},
                    "readinessProbe": {"httpGet": {"port": "http"}},
                    "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                }
            ],
            volumes=[
                {"name": "a"},
                {"name": "b", "secret": {"secretName": "s"}},
                {"name": "c", "configMap": {"name": "c"}},
            ],
            serviceAccountName="me",
        )
    ).spec
    assert (spec.restartPolicy, spec.dnsPolicy, spec.terminationGracePeriodSeconds) == ("Always", "ClusterFirst", 30)
    assert spec.schedulerName == "default-scheduler" and spec.serviceAccount == "me"
    (container,) = spec.containers
    assert container.imagePullPolicy == "Always" and container.ports[0].protocol == "TCP"
    assert container.terminationMessagePath == "/dev/termination-log"
    requests = {name: amount.value for name, amount in container.resources.requests.items()}
    assert requests == {"cpu": "100m", "memory": "1Mi"}
    probe = container.readinessProbe
    numbers = (probe.timeoutSeconds, probe.periodSeconds, probe.successThreshold, probe.failureThreshold)
    assert numbers == (1, 10, 1, 3)
    assert (probe.handler.httpGet.path, probe.handler.httpGet.scheme) == ("/", "HTTP")
    assert container.env[0].valueFrom.fieldRef.apiVersion == "v1"
    sources = [volume.volumeSource for volume in spec.volumes]
    assert sources[0].HasField("emptyDir")
    assert sources[1].secret.defaultMode == sources[2].configMap.defaultMode == 0o644


def test_a_pod_has_the_account_default_and_a_template_says_nothing() -> None:
    assert with_defaults(pod()).spec.serviceAccountName == with_defaults(pod()).spec.serviceAccount == "default"
    assert with_defaults(read(RC)).spec.template.spec.serviceAccountName == ""


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("localhost:5000/nginx", "Always"),
        ("localhost:5000/nginx:1", "IfNotPresent"),
        ("nginx:1.27", "IfNotPresent"),
        ("nginx@sha256:abc", "IfNotPresent"),
        ("nginx:latest@sha256:abc", "IfNotPresent"),
    ],
)
def test_pull_policy_goes_by_the_tag(image: str, policy: str) -> None:
    assert pull_policy(image) == policy


@pytest.mark.parametrize(
    ("resources", "quality"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}, "Burstable"),
    ],
)
def test_quality_of_service(resources: dict[str, Any], quality: str) -> None:
    made = with_defaults(pod(containers=[{"name": "a", "image": "b", "resources": resources}]))
    assert made.status.qosClass == qos_class(made.spec) == quality


def test_tolerations_are_added_where_none_speaks_of_the_taint() -> None:
    spec = core_pb2.PodSpec()
    spec.tolerations.add(key=NOT_READY, operator="Exists", effect="NoExecute", tolerationSeconds=300)
    add_tolerations(spec, 10)
    add_tolerations(spec, 10)
    assert [(one.key, one.tolerationSeconds) for one in spec.tolerations] == [(NOT_READY, 300), (UNREACHABLE, 10)]
    everything = core_pb2.PodSpec()
    everything.tolerations.add(operator="Exists")
    add_tolerations(everything, 10)
    assert len(everything.tolerations) == 1


def test_services() -> None:
    made = with_defaults(service(type="NodePort", ports=[{"port": 80}, {"name": "b", "port": 81, "targetPort": "b"}]))
    assert (made.spec.sessionAffinity, made.spec.externalTrafficPolicy) == ("None", "Cluster")
    first, second = made.spec.ports
    assert (first.protocol, first.targetPort.intVal, second.targetPort.strVal) == ("TCP", 80, "b")
    assert with_defaults(service()).spec.type == "ClusterIP"


def test_replication_controllers_take_selector_and_labels_from_the_template() -> None:
    rc = read(RC)
    rc.spec.ClearField("replicas")
    apply_defaults(rc)
    assert rc.spec.replicas == 1 and dict(rc.spec.selector) == {"app": "web"} == dict(rc.metadata.labels)
    assert rc.spec.template.spec.restartPolicy == "Always"
    none = read(RC)
    none.spec.replicas = 0
    assert with_defaults(none).spec.replicas == 0


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_second_time_changes_nothing(kind: Any) -> None:
    @settings(max_examples=15, deadline=None)
    @given(messages(kind.message.DESCRIPTOR, depth=5))
    def check(obj: Any) -> None:
        normalise(obj)
        apply_defaults(obj)
        once = obj.SerializeToString(deterministic=True)
        apply_defaults(obj)
        assert obj.SerializeToString(deterministic=True) == once
        assert manifest.to_manifest(obj)["kind"] == kind.kind

    check()


@given(st.sampled_from(["a", "a:1", "r:5/a", "r:5/a:latest"]))
def test_pull_policy_is_one_of_two(image: str) -> None:
    assert pull_policy(image) in {"Always", "IfNotPresent"}
