from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from common import kinds, manifest, yamldoc
from common.errors import BadRequest
from common.manifest import ManifestError
from common.quantity import canonical
from common.wire import MAGIC, normalise, wrap
from protos import core_pb2
from tests.common.manifests import OWN, SHARED, files, messages, objects

POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web"},
    "spec": {"containers": [{"name": "web", "image": "web:1"}]},
}


TIME = "must be a time such as 2024-05-01T12:00:00Z"
REFUSAL = "is not supported yet by Sampan"


def meta(**fields: Any) -> dict[str, Any]:
    return POD | {"metadata": fields}


def pod(**spec: Any) -> dict[str, Any]:
    return POD | {"spec": POD["spec"] | spec}


def container(**fields: Any) -> dict[str, Any]:
    return pod(containers=[{"name": "web", "image": "web:1"} | fields])


def faults(doc: dict[Any, Any]) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        manifest.from_manifest(doc)
    return [str(fault) for fault in caught.value.faults]


def decode_pod(doc: dict[str, Any]) -> core_pb2.Pod:
    message = manifest.from_manifest(doc).message
    assert isinstance(message, core_pb2.Pod)
    return message


@pytest.mark.parametrize("path", files(OWN), ids=lambda path: path.name)
def test_own_manifests_round_trip(path: Path) -> None:
    found = list(objects(path))
    assert found
    for _, doc in found:
        decoded = manifest.from_manifest(doc)
        assert manifest.to_manifest(decoded.message) == doc
        assert decoded.warnings == ()


# Objects of served kinds that need something Sampan does not have.
NOT_YET = {
    "application__mysql__mysql-deployment.yaml": (
        "spec.template.spec.volumes[0].persistentVolumeClaim: is not supported yet by Sampan"
    ),
}


def with_canonical_quantities(value: Any, inside: bool = False) -> Any:
    """A manifest as Kubernetes would show it: ".5" cpu is "500m"."""
    if isinstance(value, dict):
        return {
            key: with_canonical_quantities(item, inside or key in ("limits", "requests")) for key, item in value.items()
        }
    if isinstance(value, list):
        return [with_canonical_quantities(item, inside) for item in value]
    return canonical(value) if inside and isinstance(value, str) else value


@pytest.mark.skipif(not SHARED.is_dir(), reason="Kubernetes' examples are not beside the checkout")
@pytest.mark.parametrize("path", files(SHARED), ids=lambda path: path.name)
def test_kubernetes_examples(path: Path) -> None:
    """Objects of the served kinds pass unchanged; any other is refused by its name."""
    for document, doc in objects(path):
        if path.name in NOT_YET and doc["kind"] == "Deployment":
            assert faults(doc) == [NOT_YET[path.name]]
        elif doc["kind"] in {kind.kind for kind in kinds.KINDS}:
            decoded = manifest.from_manifest(doc)
            assert manifest.to_manifest(decoded.message) == with_canonical_quantities(doc), str(document)
            again = yamldoc.load(yamldoc.dump(manifest.to_manifest(decoded.message)))[0].value
            assert manifest.from_manifest(again).message == decoded.message
        else:
            assert faults(doc) == [f"kind {doc['kind']} ({doc['apiVersion']}) is not supported yet"]


@pytest.mark.skipif(not SHARED.is_dir(), reason="Kubernetes' examples are not beside the checkout")
@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("application__job__cronjob.yaml", "kind CronJob (batch/v1beta1) is not supported yet"),
        ("pods__inject__pod-single-secret-env-variable.yaml", "apiVersion: must be set, for instance v1"),
    ],
)
def test_rejected_examples(name: str, fault: str) -> None:
    ((_, doc),) = objects(SHARED / "rejected" / name)
    assert faults(doc) == [fault]


def test_types_become_theirs() -> None:
    message = decode_pod(
        POD
        | {
            "metadata": {"name": "web", "creationTimestamp": "2024-05-01T14:00:00.5+02:00", "generation": 3},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "web", "resources": {"limits": {"cpu": 0.5, "memory": "1024Mi", "pods": 3}}}],
                "volumes": [{"name": "v", "emptyDir": {}}, {"name": "c", "configMap": {"name": "cfg"}}],
            },
        }
    )
    assert message.metadata.creationTimestamp.ToJsonString() == "2024-05-01T12:00:00.500Z"
    assert message.spec.HasField("terminationGracePeriodSeconds")
    limits = message.spec.containers[0].resources.limits
    assert {name: limits[name].value for name in limits} == {"cpu": "500m", "memory": "1Gi", "pods": "3"}
    assert message.spec.volumes[0].volumeSource.HasField("emptyDir")
    assert message.spec.volumes[1].volumeSource.configMap.localObjectReference.name == "cfg"
    out = manifest.to_manifest(message)
    assert list(out) == ["apiVersion", "kind", "metadata", "spec"]
    assert out["metadata"] == {"name": "web", "generation": 3, "creationTimestamp": "2024-05-01T12:00:00Z"}
    assert out["spec"]["volumes"] == [{"name": "v", "emptyDir": {}}, {"name": "c", "configMap": {"name": "cfg"}}]


def test_null_means_unset_and_empty_structs_vanish() -> None:
    message = decode_pod(
        POD
        | {
            "metadata": {"name": "web", "creationTimestamp": None, "labels": None},
            "spec": POD["spec"] | {"volumes": None, "nodeName": None},
            "status": {},
        }
    )
    assert message == decode_pod(POD)
    assert decode_pod(container(resources={})) == decode_pod(POD)


def test_status_shows_its_zeros() -> None:
    status = core_pb2.PodStatus()
    state = status.containerStatuses.add(name="web").lastState
    state.terminated.exitCode = 0
    state.terminated.SetInParent()
    (shown,) = manifest.to_manifest(core_pb2.Pod(status=status))["status"]["containerStatuses"]
    assert shown["ready"] is False
    assert shown["restartCount"] == 0
    assert shown["lastState"] == {"terminated": {"exitCode": 0}}
    assert "state" not in shown


def test_lists_have_a_type_and_events_show_microseconds() -> None:
    event = core_pb2.Event(reason="Started")
    event.eventTime.FromJsonString("2024-05-01T12:00:00.123456Z")
    event.firstTimestamp.FromJsonString("2024-05-01T12:00:00.9Z")
    out = manifest.to_manifest(core_pb2.EventList(items=[event]))
    assert (out["apiVersion"], out["kind"]) == ("v1", "EventList")
    assert out["items"][0]["eventTime"] == "2024-05-01T12:00:00.123456Z"
    assert out["items"][0]["firstTimestamp"] == "2024-05-01T12:00:00Z"
    assert "apiVersion" not in out["items"][0]


def test_all_faults_at_once_with_full_paths() -> None:
    doc = pod(
        contaners=[],
        nodeSelector={"disk": True},
        restartPolicy=3,
        containers=[
            {
                "name": "web",
                "ports": [{"containerPort": "x"}, {"containerPort": 2**31}],
                "env": [{"name": "A", "value": 1}],
                "args": "one",
                "resources": {"limits": {"cpu": "abc"}},
                "stdin": "yes",
                "readOnlyRootFilesystem": True,
            },
            "x",
        ],
        hostPID=True,
    )
    assert sorted(faults(doc)) == sorted(
        [
            'spec.contaners: unknown field, did you mean "containers"?',
            'spec.nodeSelector[disk]: must be text, got true: put it in quotes, "true"',
            'spec.restartPolicy: must be text, got 3: put it in quotes, "3"',
            'spec.containers[0].ports[0].containerPort: must be an integer, got "x"',
            "spec.containers[0].ports[1].containerPort: "
            "must be an integer from -2147483648 to 2147483647, got 2147483648",
            'spec.containers[0].env[0].value: must be text, got 1: put it in quotes, "1"',
            'spec.containers[0].args: must be a list, got "one"',
            'spec.containers[0].resources.limits[cpu]: must be a quantity such as 100m, 0.5, 128Mi; got "abc"',
            'spec.containers[0].stdin: must be true or false, got "yes"',
            "spec.containers[0].readOnlyRootFilesystem: unknown field",
            'spec.containers[1]: must be a mapping, got "x"',
            "spec.hostPID: is not supported yet by Sampan",
        ]
    )


def test_the_error_names_the_object() -> None:
    with pytest.raises(ManifestError, match=r'^Pod "web" is invalid: spec\.x: unknown field$'):
        manifest.from_manifest(pod(x=1))


@pytest.mark.parametrize(
    ("doc", "expected"),
    [
        ({"kind": "Pod"}, ["apiVersion: must be set, for instance v1"]),
        ({}, ["apiVersion: must be set, for instance v1", "kind: must be set, for instance Pod"]),
        ({"apiVersion": 1, "kind": "Pod"}, ["apiVersion: must be text, got 1"]),
        (POD | {"apiVersion": "v2"}, ['kind Pod has apiVersion "v1", got "v2"']),
        (POD | {1: 2}, ["field names must be text, got 1"]),
        (meta(labels={1: "x"}), ['metadata.labels[1]: keys must be text: put it in quotes, "1"']),
        (meta(name="a\ud800"), ["metadata.name: must be valid UTF-8 text"]),
        (meta(labels={"a\ud800": "x"}), ["metadata.labels: keys must be valid UTF-8 text"]),
        (meta(**{"\ud800": "x"}), ["metadata: field names must be valid UTF-8 text"]),
        (meta(creationTimestamp="monday"), [f'metadata.creationTimestamp: {TIME}, got "monday"']),
        (
            meta(creationTimestamp="2024-13-01T00:00:00Z"),
            [f'metadata.creationTimestamp: {TIME}, got "2024-13-01T00:00:00Z"'],
        ),
        (pod(volumes=[{"name": "v", "nfs": {"server": "s"}}]), [f"spec.volumes[0].nfs: {REFUSAL}"]),
        (pod(volumes=[{"name": "v", "csi": {"driver": "d"}}]), [f"spec.volumes[0].csi: {REFUSAL}"]),
        (
            pod(securityContext={"runAsNonRoot": True}),
            [f"spec.securityContext.runAsNonRoot: true {REFUSAL}, only false"],
        ),
        (
            pod(schedulingGates=[{"name": "a.example/b"}]),
            [f"spec.schedulingGates: {REFUSAL}"],
        ),
    ],
)
def test_faults(doc: dict[Any, Any], expected: list[str]) -> None:
    assert faults(doc) == expected


def test_a_secret_is_never_quoted() -> None:
    (fault,) = faults({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"p": "hunter2!"}})
    assert fault == "data[p]: must be base64 (for plain text in a Secret use stringData)"


def test_warnings_name_what_is_not_acted_on() -> None:
    decoded = manifest.from_manifest(
        pod(securityContext={"fsGroup": 7})
        | {"metadata": {"name": "web", "managedFields": [{"manager": "kubectl"}], "selfLink": ""}}
    )
    assert decoded.warnings == (
        "metadata.managedFields: is not kept",
        "spec.securityContext.fsGroup: is accepted but not acted on yet",
    )
    quiet = pod(schedulerName="default-scheduler", dnsPolicy="ClusterFirst", hostNetwork=False, hostUsers=True)
    assert manifest.from_manifest(quiet).warnings == ()


def test_unknown_fields_are_warnings_where_the_caller_says_so() -> None:
    decoded = manifest.from_manifest(pod(contaners=[]), strict=False)
    assert decoded.warnings == ('spec.contaners: unknown field, did you mean "containers"?',)


def test_values_decide() -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}}
    ports = [{"port": 53, "protocol": "UDP"}, {"port": 80, "protocol": "SCTP"}]
    assert faults(service | {"spec": {"ports": ports, "sessionAffinity": "ClientIP"}}) == [
        'spec.ports[1].protocol: "SCTP" is not supported yet by Sampan, only "TCP" or "UDP"',
    ]
    assert faults(service | {"spec": {"ipFamilies": ["IPv4", "IPv6"]}}) == [
        'spec.ipFamilies[1]: "IPv6" is not supported yet by Sampan, only "IPv4"'
    ]
    warned = manifest.from_manifest(service | {"spec": {"type": "LoadBalancer"}}).warnings
    assert warned == ("spec.type: is treated as NodePort: nothing outside the cluster is set up",)


def test_expand() -> None:
    assert manifest.expand(POD) == (POD,)
    assert manifest.expand({"kind": "List", "items": [POD, {"kind": "List", "items": [POD]}]}) == (POD, POD)
    typed = {"apiVersion": "v1", "kind": "PodList", "items": [{"metadata": {"name": "a"}}]}
    assert manifest.expand(typed) == ({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}},)
    assert manifest.expand({"kind": "List", "items": None}) == ()
    nested: dict[str, Any] = POD
    for _ in range(900):
        nested = {"kind": "List", "items": [nested]}
    with pytest.raises(ManifestError, match="put the objects into one list"):
        manifest.expand(nested)
    with pytest.raises(ManifestError, match=r"items\[1\]: must be a mapping, got 3"):
        manifest.expand({"kind": "List", "items": [POD, 3]})


def test_any_message_can_be_read() -> None:
    options = core_pb2.DeleteOptions()
    assert manifest.read_into(options, {"gracePeriodSeconds": 0, "propagationPolicy": "Orphan"}) == ()
    assert options.HasField("gracePeriodSeconds")
    assert manifest.to_manifest(options) == {"gracePeriodSeconds": 0, "propagationPolicy": "Orphan"}
    with pytest.raises(ManifestError, match=r"options\.gracePeriodSeconds: must be an integer"):
        manifest.read_into(core_pb2.DeleteOptions(), {"gracePeriodSeconds": "1"}, "options")


@pytest.mark.parametrize("kind", kinds.KINDS, ids=str)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_every_message_survives_a_manifest_and_the_wire(kind: kinds.Kind, data: st.DataObject) -> None:
    message: Message = normalise(data.draw(messages(kind.message.DESCRIPTOR)))
    doc = manifest.to_manifest(message)
    body = {key: value for key, value in doc.items() if key not in ("apiVersion", "kind")}
    again = kind.message()
    manifest.read_into(again, body)
    assert again == message
    assert manifest.to_manifest(again) == doc
    (document,) = yamldoc.load(yamldoc.dump(doc))
    assert document.value == doc
    assert wrap("v1", kind.kind, message).startswith(MAGIC)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{}", "must begin with the bytes k8s and zero"),
        (MAGIC + b"\xff\xff", "the bytes are no protobuf message Unknown"),
        (wrap("apps/v1", "StatefulSet", core_pb2.Pod()), r"kind StatefulSet \(apps/v1\) is not supported yet"),
    ],
)
def test_bodies_that_are_refused(body: bytes, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        manifest.decode_protobuf(body)
