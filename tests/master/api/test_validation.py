"""Validation as a table: a change to a good object, and the faults it must bring, by exact path."""

from __future__ import annotations

from typing import Any

import pytest

from common import manifest
from common.manifest import ManifestError
from master.api.defaults import apply_defaults
from master.api.validation import validate
from master.api.validation.faults import Faults

POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "labels": {"app": "web"}},
    "spec": {
        "containers": [
            {
                "name": "main",
                "image": "nginx:1.27",
                "ports": [{"name": "http", "containerPort": 80}],
                "env": [{"name": "A", "value": "1"}],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                "resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "200m"}},
            }
        ],
        "volumes": [{"name": "data", "emptyDir": {}}],
    },
}
SERVICE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web"},
    "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80}]},
}
RC: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "ReplicationController",
    "metadata": {"name": "web"},
    "spec": {"template": {"metadata": {"labels": {"app": "web"}}, "spec": POD["spec"]}},
}
CONFIG: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "b"}}
SECRET: dict[str, Any] = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "b"}}
ENDPOINTS: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Endpoints",
    "metadata": {"name": "e"},
    "subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}],
}
NODE: dict[str, Any] = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}
EVENT: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Event",
    "metadata": {"name": "e"},
    "involvedObject": {"kind": "Pod"},
}
C = "spec.containers.0."


def changed(base: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with one field set; None takes it out; numbers are places in a list, `+` appends."""
    steps = path.split(".") if path else []
    result: Any = _copy(base)
    at = result
    for step in steps[:-1]:
        at = at[int(step)] if isinstance(at, list) else at.setdefault(step, {})
    last = steps[-1]
    if isinstance(at, list):
        if last == "+":
            at.append(value)
        else:
            at[int(last)] = value
    elif value is None:
        at.pop(last, None)
    else:
        at[last.replace("/", ".")] = value
    return dict(result)


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def faults(document: dict[str, Any]) -> dict[str, str]:
    """Path -> message, from reading and validating as the API does."""
    try:
        obj = manifest.from_manifest(document).message
    except ManifestError as error:
        return {fault.path: fault.message for fault in error.faults}
    apply_defaults(obj)
    return {fault.path: fault.message for fault in validate(obj)}


@pytest.mark.parametrize("base", [POD, SERVICE, RC, CONFIG, SECRET, ENDPOINTS, NODE, EVENT], ids=lambda b: b["kind"])
def test_the_good_ones_pass(base: dict[str, Any]) -> None:
    assert faults(base) == {}


TABLE: list[tuple[dict[str, Any], str, Any, str, str]] = [
    # metadata
    (POD, "metadata.name", "My_Pod", "metadata.name", "lower-case"),
    (POD, "metadata.name", None, "metadata.name", "is required"),
    (POD, "metadata.name", "a" * 254, "metadata.name", "at most 253"),
    (SERVICE, "metadata.name", "1web", "metadata.name", "start with a letter"),
    (POD, "metadata.namespace", "No", "metadata.namespace", "lower-case"),
    (NODE, "metadata.namespace", "default", "metadata.namespace", "belongs to no namespace"),
    (POD, "metadata.labels", {"-a": "b"}, "metadata.labels", "key"),
    (POD, "metadata.labels", {"a": "b c"}, "metadata.labels[a]", "letters, digits"),
    (POD, "metadata.annotations", {"a b": "c"}, "metadata.annotations", "key"),
    (POD, "metadata.annotations", {"a": "x" * 300_000}, "metadata.annotations", "262144"),
    (POD, "metadata.finalizers", ["nodomain"], "metadata.finalizers[0]", "example.com/cleanup"),
    (POD, "metadata.ownerReferences", [{"kind": "Pod"}], "metadata.ownerReferences[0].uid", "is required"),
    # containers
    (POD, "spec.containers", [], "spec.containers", "at least one"),
    (POD, C + "name", None, "spec.containers[0].name", "is required"),
    (POD, C + "name", "a.b", "spec.containers[0].name", "lower-case"),
    (POD, C + "image", None, "spec.containers[0].image", "is required"),
    (POD, C + "image", " nginx", "spec.containers[0].image", "space"),
    (POD, C + "imagePullPolicy", "Sometimes", "spec.containers[0].imagePullPolicy", "Always, IfNotPresent, Never"),
    (POD, "spec.containers.+", {"name": "main", "image": "x"}, "spec.containers[1].name", "must be unique"),
    (POD, "spec.initContainers", [{"name": "main", "image": "x"}], "spec.containers[0].name", "must be unique"),
    (POD, C + "ports.0.containerPort", 99999, "spec.containers[0].ports[0].containerPort", "1-65535, got 99999"),
    (POD, C + "ports.0.containerPort", None, "spec.containers[0].ports[0].containerPort", "must be 1-65535, got 0"),
    (POD, C + "ports.0.hostPort", 70000, "spec.containers[0].ports[0].hostPort", "must be 1-65535"),
    (POD, C + "ports.0.name", "a-very-long-port-name", "spec.containers[0].ports[0].name", "at most 15"),
    (POD, C + "ports.0.protocol", "HTTP", "spec.containers[0].ports[0].protocol", "TCP, UDP, SCTP"),
    (POD, C + "ports.+", {"name": "http", "containerPort": 81}, "spec.containers[0].ports[1].name", "must be unique"),
    (POD, C + "env.0.name", "1A", "spec.containers[0].env[0].name", "not start with a digit"),
    (POD, C + "env.+", {"name": "A"}, "spec.containers[0].env[1].name", "must be unique"),
    (POD, C + "env.0.valueFrom", {"fieldRef": {"fieldPath": "x"}}, "spec.containers[0].env[0].valueFrom", "beside"),
    (POD, C + "env.0", {"name": "B", "valueFrom": {}}, "spec.containers[0].env[0].valueFrom", "must have one of"),
    (
        POD,
        C + "env.0",
        {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "spec.color"}}},
        "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath",
        "status.podIP",
    ),
    (
        POD,
        C + "env.0",
        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s"}}},
        "spec.containers[0].env[0].valueFrom.secretKeyRef.key",
        "is required",
    ),
    (POD, C + "envFrom", [{"configMapRef": {}}], "spec.containers[0].envFrom[0].configMapRef.name", "is required"),
    (POD, C + "volumeMounts.0.name", "other", "spec.containers[0].volumeMounts[0].name", "it has data"),
    (POD, C + "volumeMounts.0.mountPath", "data", "spec.containers[0].volumeMounts[0].mountPath", "absolute"),
    (
        POD,
        C + "volumeMounts.+",
        {"name": "data", "mountPath": "/data"},
        "spec.containers[0].volumeMounts[1].mountPath",
        "unique",
    ),
    (POD, C + "volumeMounts.0.subPath", "../x", "spec.containers[0].volumeMounts[0].subPath", "'..'"),
    (POD, C + "resources.limits.cpu", "50m", "spec.containers[0].resources.requests[cpu]", "at most the limit of 50m"),
    (POD, C + "resources.limits.cpu", "-1", "spec.containers[0].resources.limits[cpu]", "negative"),
    (POD, C + "resources.limits.cpu", "many", "spec.containers[0].resources.limits[cpu]", "quantity"),
    (POD, C + "resources.limits.gpu", "1", "spec.containers[0].resources.limits[gpu]", "cpu, memory"),
    (POD, C + "resources.requests.cpu", "100u", "spec.containers[0].resources.requests[cpu]", "thousandth"),
    (POD, C + "livenessProbe", {}, "spec.containers[0].livenessProbe", "must have one of"),
    (
        POD,
        C + "livenessProbe",
        {"httpGet": {"port": 0}},
        "spec.containers[0].livenessProbe.httpGet.port",
        "must be 1-65535, got 0",
    ),
    (
        POD,
        C + "livenessProbe",
        {"tcpSocket": {"port": 1}, "successThreshold": 2},
        "spec.containers[0].livenessProbe.successThreshold",
        "must be 1 here",
    ),
    (
        POD,
        C + "lifecycle",
        {"preStop": {"exec": {}}},
        "spec.containers[0].lifecycle.preStop.exec.command",
        "is required",
    ),
    (POD, C + "securityContext", {"runAsUser": -1}, "spec.containers[0].securityContext.runAsUser", "0 or more"),
    # volumes
    (POD, "spec.volumes.+", {"name": "data", "emptyDir": {}}, "spec.volumes[1].name", "must be unique"),
    (POD, "spec.volumes.0.hostPath", {"path": "/x"}, "spec.volumes[0]", "only one of"),
    (POD, "spec.volumes.0", {"name": "data", "hostPath": {"path": "x"}}, "spec.volumes[0].hostPath.path", "absolute"),
    (POD, "spec.volumes.0", {"name": "data", "secret": {}}, "spec.volumes[0].secret.secretName", "is required"),
    (POD, "spec.volumes.0", {"name": "data", "configMap": {}}, "spec.volumes[0].configMap.name", "is required"),
    (
        POD,
        "spec.volumes.0",
        {"name": "data", "configMap": {"name": "c", "items": [{"key": "a", "path": "/abs"}]}},
        "spec.volumes[0].configMap.items[0].path",
        "relative",
    ),
    (
        POD,
        "spec.volumes.0",
        {"name": "data", "secret": {"secretName": "s", "defaultMode": 1000}},
        "spec.volumes[0].secret.defaultMode",
        "0777",
    ),
    (POD, "spec.volumes.0.emptyDir.medium", "Disk", "spec.volumes[0].emptyDir.medium", "Memory"),
    (POD, "spec.volumes.0.emptyDir.sizeLimit", "-1", "spec.volumes[0].emptyDir.sizeLimit", "negative"),
    # the pod
    (POD, "spec.restartPolicy", "Sometimes", "spec.restartPolicy", "Always, OnFailure, Never"),
    (POD, "spec.dnsPolicy", "Mine", "spec.dnsPolicy", "ClusterFirst"),
    (POD, "spec.terminationGracePeriodSeconds", -1, "spec.terminationGracePeriodSeconds", "0 or more"),
    (POD, "spec.activeDeadlineSeconds", 0, "spec.activeDeadlineSeconds", "1 or more"),
    (POD, "spec.nodeSelector", {"a": "b c"}, "spec.nodeSelector[a]", "letters"),
    (POD, "spec.hostname", "a.b", "spec.hostname", "lower-case"),
    (POD, "spec.tolerations", [{"operator": "Equal"}], "spec.tolerations[0].operator", "Exists"),
    (POD, "spec.tolerations", [{"key": "a", "effect": "Maybe"}], "spec.tolerations[0].effect", "NoSchedule"),
    (POD, "spec.tolerations", [{"key": "a", "tolerationSeconds": 1}], "spec.tolerations[0].effect", "NoExecute"),
    (POD, "spec.hostAliases", [{"ip": "x"}], "spec.hostAliases[0].ip", "IP address"),
    (POD, "spec.imagePullSecrets", [{}], "spec.imagePullSecrets[0].name", "is required"),
    (POD, "spec.hostPID", True, "spec.hostPID", "is not supported yet by Sampan"),
    # services
    (SERVICE, "spec.ports", [], "spec.ports", "at least one port"),
    (SERVICE, "spec.ports.0.port", 0, "spec.ports[0].port", "must be 1-65535"),
    (SERVICE, "spec.ports.0.targetPort", 70000, "spec.ports[0].targetPort", "must be 1-65535"),
    (SERVICE, "spec.ports.0.targetPort", "Http!", "spec.ports[0].targetPort", "lower-case"),
    (SERVICE, "spec.ports.0.nodePort", 8765, "spec.ports[0].nodePort", "set spec.type: NodePort"),
    (SERVICE, "spec.ports.+", {"name": "http", "port": 81}, "spec.ports[1].name", "must be unique"),
    (SERVICE, "spec.ports.+", {"name": "b", "port": 80}, "spec.ports[1].port", "must be unique"),
    (SERVICE, "spec.ports.+", {"port": 81}, "spec.ports[1].name", "is required"),
    (SERVICE, "spec.clusterIP", "x", "spec.clusterIP", "IPv4"),
    (SERVICE, "spec.type", "Loud", "spec.type", "Loud"),
    (SERVICE, "spec.type", "ExternalName", "spec.externalName", "is required"),
    (SERVICE, "spec.externalName", "db.example.com", "spec.externalName", "set spec.type: ExternalName"),
    (SERVICE, "spec.ports.0.protocol", "SCTP", "spec.ports[0].protocol", 'only "TCP" or "UDP"'),
    (SERVICE, "spec.sessionAffinity", "Cookie", "spec.sessionAffinity", "None, ClientIP"),
    (SERVICE, "spec.sessionAffinityConfig", {"clientIP": {}}, "spec.sessionAffinityConfig", "sessionAffinity is None"),
    (
        changed(SERVICE, "spec.sessionAffinity", "ClientIP"),
        "spec.sessionAffinityConfig",
        {"clientIP": {"timeoutSeconds": 0}},
        "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
        "must be 1-86400, got 0",
    ),
    (SERVICE, "spec.externalTrafficPolicy", "Local", "spec.externalTrafficPolicy", "set spec.type: NodePort"),
    (SERVICE, "spec.internalTrafficPolicy", "Near", "spec.internalTrafficPolicy", "Cluster, Local"),
    (SERVICE, "spec.externalIPs", ["127.0.0.1"], "spec.externalIPs[0]", "others can reach"),
    (SERVICE, "spec.externalIPs", ["x"], "spec.externalIPs[0]", "IPv4"),
    (
        SERVICE,
        "metadata.annotations",
        {"sampan.dev/balance": "random"},
        "metadata.annotations[sampan.dev/balance]",
        "must be round-robin or least-connections, got 'random'",
    ),
    (
        POD,
        "metadata.annotations",
        {"sampan.dev/drain-seconds": "-1"},
        "metadata.annotations[sampan.dev/drain-seconds]",
        "must be whole seconds",
    ),
    (SERVICE, "spec.selector", {"a": "b c"}, "spec.selector[a]", "letters"),
    # replication controllers
    (RC, "spec.replicas", -1, "spec.replicas", "0 or more"),
    (RC, "spec.template", None, "spec.template", "is required"),
    (RC, "spec.selector", {"app": "db"}, "spec.template.metadata.labels", "must match the selector app=db"),
    (RC, "spec.template.metadata", {}, "spec.selector", "is required"),
    (RC, "spec.template.spec.restartPolicy", "Never", "spec.template.spec.restartPolicy", "must be Always"),
    (RC, "spec.template.spec.containers", [], "spec.template.spec.containers", "at least one"),
    # data
    (CONFIG, "data", {"a/b": "c"}, "data[a/b]", "letters"),
    (CONFIG, "binaryData", {"a": "eA=="}, "binaryData[a]", "data has"),
    (CONFIG, "binaryData", {"b": "not base64!"}, "binaryData[b]", "base64"),
    (SECRET, "stringData", {"..": "x"}, "data[..]", "'..'"),
    (SECRET, "type", "kubernetes.io/tls", "data[tls.crt]", "is required"),
    (SECRET, "type", "kubernetes.io/basic-auth", "data", "username or password"),
    # endpoints, nodes, events
    (ENDPOINTS, "subsets.0.addresses.0.ip", "localhost", "subsets[0].addresses[0].ip", "IPv4"),
    (ENDPOINTS, "subsets.0.addresses.0.ip", "127.0.0.1", "subsets[0].addresses[0].ip", "others can reach"),
    (ENDPOINTS, "subsets.0.ports.0.port", 0, "subsets[0].ports[0].port", "must be 1-65535"),
    (ENDPOINTS, "subsets.0.addresses", [], "subsets[0]", "addresses"),
    (NODE, "spec", {"taints": [{"key": "a", "effect": "x"}]}, "spec.taints[0].effect", "NoSchedule"),
    (NODE, "status", {"capacity": {"cpu": "-1"}}, "status.capacity[cpu]", "negative"),
    (EVENT, "type", "Loud", "type", "Normal, Warning"),
    (EVENT, "involvedObject", {}, "involvedObject.kind", "is required"),
]


def _id(value: Any) -> str:
    return value if isinstance(value, str) else ""


@pytest.mark.parametrize(("base", "field", "value", "path", "words"), TABLE, ids=_id)
def test_faults(base: dict[str, Any], field: str, value: Any, path: str, words: str) -> None:
    found = faults(changed(base, field, value))
    assert path in found, found
    assert words in found[path]


def test_ports_in_the_nodes_own_network_are_the_nodes() -> None:
    document = changed(changed(POD, "spec.hostNetwork", True), C + "ports", [{"containerPort": 80, "hostPort": 8080}])
    assert faults(document)["spec.containers[0].ports[0].hostPort"].startswith("must be the containerPort 80")
    assert faults(changed(document, C + "ports", [{"containerPort": 80}])) == {}


def test_host_ports_clash_within_a_pod() -> None:
    port = {"containerPort": 80, "hostPort": 8080}
    document = changed(POD, C + "ports", [port])
    document = changed(document, "spec.containers.+", {"name": "b", "image": "x", "ports": [port]})
    assert (
        "already used at spec.containers[0].ports[0].hostPort"
        in (faults(document)["spec.containers[1].ports[0].hostPort"])
    )


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        ("", "127.0.0.1", True),
        ("127.0.0.1", "0.0.0.0", True),
        ("0.0.0.0", "", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "192.0.2.1", False),
    ],
)
def test_host_ports_on_different_addresses_are_different_ports(one: str, other: str, clash: bool) -> None:
    ports = [{"containerPort": 80 + at, "hostPort": 8080, "hostIP": ip} for at, ip in enumerate((one, other))]
    assert ("spec.containers[0].ports[1].hostPort" in faults(changed(POD, C + "ports", ports))) is clash


def test_everything_wrong_is_told_at_once() -> None:
    document = changed(POD, C + "image", None)
    document = changed(document, C + "ports.0.containerPort", 0)
    document = changed(document, "spec.restartPolicy", "No")
    document = changed(document, "metadata.name", "A")
    assert set(faults(document)) == {
        "metadata.name",
        "spec.containers[0].image",
        "spec.containers[0].ports[0].containerPort",
        "spec.restartPolicy",
    }


def test_load_balancers_are_taken_with_a_warning() -> None:
    decoded = manifest.from_manifest(changed(SERVICE, "spec.type", "LoadBalancer"))
    assert "NodePort" in decoded.warnings[0]
    assert faults(changed(SERVICE, "spec.type", "LoadBalancer")) == {}


def test_a_fault_is_told_once() -> None:
    found = Faults()
    found.add("a", "b")
    found.add("a", "b")
    assert len(found.found) == 1
