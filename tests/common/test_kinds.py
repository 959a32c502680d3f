from __future__ import annotations

import pytest

from common import kinds
from common.kinds import UnknownKind
from protos import core_pb2


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("pods", "Pod"),
        ("pod", "Pod"),
        ("po", "Pod"),
        ("PODS", "Pod"),
        ("pods.v1", "Pod"),
        ("pods.v1.", "Pod"),
        ("svc", "Service"),
        ("ep", "Endpoints"),
        ("endpoints", "Endpoints"),
        ("rc", "ReplicationController"),
        ("ReplicationController", "ReplicationController"),
        ("cm", "ConfigMap"),
        ("ns", "Namespace"),
        ("no", "Node"),
        ("ev", "Event"),
        ("secret", "Secret"),
    ],
)
def test_a_kind_is_found_by_every_name(text: str, kind: str) -> None:
    assert kinds.by_resource(text).kind == kind


def test_names_are_unique() -> None:
    names = [name for kind in kinds.KINDS for name in {kind.plural, kind.singular, *kind.short_names}]
    assert len(names) == len(set(names))


def test_messages_lead_to_their_kind() -> None:
    assert kinds.of(core_pb2.Pod()) is kinds.POD
    assert kinds.find_list(core_pb2.PodList()) is kinds.POD
    assert kinds.find(core_pb2.PodSpec()) is None
    with pytest.raises(UnknownKind, match="PodSpec is not a resource"):
        kinds.of(core_pb2.PodSpec())


def test_every_kind_has_metadata_and_its_list_has_items_of_it() -> None:
    for kind in kinds.KINDS:
        assert kind.message().metadata is not None
        items = kind.list_message.DESCRIPTOR.fields_by_name["items"]
        assert items.message_type is not None
        assert items.message_type.full_name == kind.message.DESCRIPTOR.full_name
        assert items.number == 2
        assert kind.has_status == ("status" in kind.message.DESCRIPTOR.fields_by_name)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kinds.by_type("apps/v1", "StatefulSet"), "kind StatefulSet (apps/v1) is not supported yet"),
        (lambda: kinds.by_type("batch/v1beta1", "CronJob"), "kind CronJob (batch/v1beta1) is not supported yet"),
        (lambda: kinds.by_kind("StatefulSet"), "kind StatefulSet (apps/v1) is not supported yet"),
        (lambda: kinds.by_resource("sts"), "kind StatefulSet (apps/v1) is not supported yet"),
        (lambda: kinds.by_type("v2", "Pod"), 'kind Pod has apiVersion "v1", got "v2"'),
        (lambda: kinds.by_type("v1", "Pood"), 'unknown kind "Pood", did you mean "Pod"?'),
        (lambda: kinds.by_type("v1", "pod"), 'unknown kind "pod", did you mean "Pod"?'),
        (lambda: kinds.by_resource("servces"), 'unknown resource "servces", did you mean "services"?'),
        (lambda: kinds.by_resource("pods.v1.apps"), 'resource "pods.v1.apps" is not served: pods are of v1'),
        (lambda: kinds.by_kind("Boat"), "(known: ConfigMap, ControllerRevision, DaemonSet, Deployment,"),
    ],
)
def test_the_error_says_what_would_be_right(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(UnknownKind) as caught:
        call()
    assert message in str(caught.value)
