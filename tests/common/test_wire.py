"""Bodies as Go writes them, built byte by byte: what kubectl sends for `create configmap`, `create service`."""

from __future__ import annotations

import pytest

from common import manifest
from common.manifest import ManifestError
from common.wire import MAGIC, normalise, unwrap, wrap
from protos import core_pb2


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def data(number: int, content: bytes | str) -> bytes:
    """A length-delimited field."""
    content = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(content)) + content


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def body(kind: str, raw: bytes) -> bytes:
    type_meta = data(1, "v1") + data(2, kind)
    return MAGIC + data(1, type_meta) + data(2, raw) + data(3, "") + data(4, "")


def go_meta(name: str, namespace: str = "", extra: bytes = b"") -> bytes:
    """ObjectMeta with every zero that Go's encoder writes: empty texts, generation 0, an empty Time."""
    return (
        data(1, name)
        + data(2, "")
        + data(3, namespace)
        + data(4, "")
        + data(5, "")
        + data(6, "")
        + number(7, 0)
        + data(8, b"")
        + extra
    )


def test_a_config_map() -> None:
    raw = data(1, go_meta("cfg", "dev")) + data(2, data(1, "key") + data(2, "value"))
    decoded = manifest.decode_protobuf(body("ConfigMap", raw))
    assert decoded.warnings == ()
    assert manifest.to_manifest(decoded.message) == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "cfg", "namespace": "dev"},
        "data": {"key": "value"},
    }
    assert not decoded.message.metadata.HasField("creationTimestamp")


def test_a_namespace_with_empty_spec_and_status() -> None:
    raw = data(1, go_meta("dev")) + data(2, b"") + data(3, data(1, ""))
    decoded = manifest.decode_protobuf(body("Namespace", raw))
    assert isinstance(decoded.message, core_pb2.Namespace)
    assert not decoded.message.HasField("spec")
    assert not decoded.message.HasField("status")
    assert manifest.to_manifest(decoded.message)["metadata"] == {"name": "dev"}


def test_a_secret_keeps_its_bytes() -> None:
    raw = data(1, go_meta("s")) + data(2, data(1, "k") + data(2, b"\x00\xff")) + data(3, "Opaque")
    decoded = manifest.decode_protobuf(body("Secret", raw))
    assert manifest.to_manifest(decoded.message)["data"] == {"k": "AP8="}


def test_a_service_with_named_and_unset_target_ports() -> None:
    named = number(1, 1) + number(2, 0) + data(3, "http")
    unset = number(1, 0) + number(2, 0) + data(3, "")
    ports = [
        data(1, "a") + data(2, "TCP") + number(3, 80) + data(4, named) + number(5, 0),
        data(1, "b") + data(2, "TCP") + number(3, 81) + data(4, unset) + number(5, 0),
    ]
    spec = b"".join(data(1, port) for port in ports)
    spec += data(2, data(1, "app") + data(2, "web")) + data(3, "") + data(4, "ClusterIP") + data(7, "")
    spec += data(8, "") + data(10, "") + data(11, "") + number(12, 0) + number(13, 0)
    raw = data(1, go_meta("web", extra=data(11, data(1, "app") + data(2, "web"))))
    raw += data(2, spec) + data(3, data(1, b""))
    decoded = manifest.decode_protobuf(body("Service", raw))
    assert decoded.warnings == ()
    assert manifest.to_manifest(decoded.message) == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {
            "ports": [
                {"name": "a", "protocol": "TCP", "port": 80, "targetPort": "http"},
                {"name": "b", "protocol": "TCP", "port": 81},
            ],
            "selector": {"app": "web"},
            "type": "ClusterIP",
        },
    }


def pod(volume: bytes = b"", container: bytes = b"", spec: bytes = b"") -> bytes:
    one = data(1, "web") + data(2, "web:1") + data(5, "") + data(8, b"") + data(13, "") + data(14, "")
    one += number(16, 0) + number(17, 0) + number(18, 0) + data(20, "") + container
    content = (data(1, data(1, "v") + data(2, volume)) if volume else b"") + data(2, one) + data(3, "") + spec
    status = data(1, "") + data(3, "") + data(14, "")
    return body("Pod", data(1, go_meta("web")) + data(2, content) + data(3, status))


def test_a_pod_keeps_what_is_empty_on_purpose() -> None:
    empty_dir = data(2, data(1, ""))
    decoded = manifest.decode_protobuf(pod(empty_dir, spec=number(4, 0) + data(14, b"")))
    assert manifest.to_manifest(decoded.message)["spec"] == {
        "volumes": [{"name": "v", "emptyDir": {}}],
        "containers": [{"name": "web", "image": "web:1"}],
        "terminationGracePeriodSeconds": 0,
        "securityContext": {},
    }


def test_a_zero_divisor_is_unset() -> None:
    selector = data(1, "") + data(2, "limits.cpu") + data(3, data(1, "0"))
    env = data(7, data(1, "CPU") + data(2, "") + data(3, data(2, selector)))
    decoded = manifest.decode_protobuf(pod(container=env))
    (shown,) = manifest.to_manifest(decoded.message)["spec"]["containers"][0]["env"]
    assert shown == {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}


def test_refused_fields_are_named_though_the_schema_has_no_place_for_them() -> None:
    csi = data(28, data(1, "driver"))
    with pytest.raises(ManifestError) as caught:
        manifest.decode_protobuf(pod(csi, container=data(25, b"x"), spec=number(12, 1) + number(900, 1)))
    assert sorted(str(fault) for fault in caught.value.faults) == [
        "spec.containers[0].restartPolicyRules: is not supported yet by Sampan",
        "spec.hostPID: is not supported yet by Sampan",
        "spec.volumes[0].csi: is not supported yet by Sampan",
        "spec: PodSpec has no protobuf field 900",
    ]


def test_dropped_fields_are_warned_about() -> None:
    raw = data(1, go_meta("cfg", extra=data(17, data(1, "kubectl"))))
    decoded = manifest.decode_protobuf(body("ConfigMap", raw))
    assert decoded.warnings == ("metadata.managedFields: is not kept",)
    assert decoded.message.SerializeToString() == data(1, data(1, "cfg"))


def test_wrap_and_unwrap() -> None:
    message = core_pb2.Pod()
    message.metadata.name = "web"
    envelope = unwrap(wrap("v1", "Pod", message))
    assert (envelope.api_version, envelope.kind) == ("v1", "Pod")
    assert envelope.raw == message.SerializeToString()
    assert unwrap(body("Pod", b"abc")).raw == b"abc"


def test_normalise_goes_into_lists_and_templates() -> None:
    rc = core_pb2.ReplicationController()
    rc.spec.template.spec.containers.add(name="web").resources.SetInParent()
    rc.spec.template.metadata.creationTimestamp.SetInParent()
    rc.status.conditions.add(type="x").lastTransitionTime.SetInParent()
    normalise(rc)
    assert not rc.spec.template.HasField("metadata")
    assert not rc.spec.template.spec.containers[0].HasField("resources")
    assert not rc.status.conditions[0].HasField("lastTransitionTime")


# Sent by kubectl 1.37: `create namespace dev`, `create service nodeport web --tcp=80:http --node-port=30080`.
_NAMESPACE = (
    b"k8s\x00\n\x0f\n\x02v1\x12\tNamespace\x12\x1b\n\x13\n\x03dev\x12\x00\x1a\x00"
    b'"\x00*\x002\x008\x00B\x00\x12\x00\x1a\x02\n\x00\x1a\x00"\x00'
)
_SERVICE = (
    b'k8s\x00\n\r\n\x02v1\x12\x07Service\x12m\n\x1f\n\x03web\x12\x00\x1a\x00"\x00*\x002\x008\x00B\x00'
    b'Z\n\n\x03app\x12\x03web\x12F\n \n\x0780-http\x12\x03TCP\x18P"\n\x08\x01\x10\x00\x1a\x04http(\x80\xeb\x01'
    b'\x12\n\n\x03app\x12\x03web\x1a\x00"\x08NodePort:\x00B\x00R\x00Z\x00`\x00h\x00\x1a\x02\n\x00\x1a\x00"\x00'
)


def test_bodies_of_a_real_kubectl() -> None:
    assert manifest.to_manifest(manifest.decode_protobuf(_NAMESPACE).message) == {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "dev"},
    }
    decoded = manifest.decode_protobuf(_SERVICE)
    assert decoded.warnings == ()
    assert manifest.to_manifest(decoded.message)["spec"] == {
        "ports": [{"name": "80-http", "protocol": "TCP", "port": 80, "targetPort": "http", "nodePort": 30080}],
        "selector": {"app": "web"},
        "type": "NodePort",
    }
