"""What must hold of every message: the numbers are Kubernetes', the marks make sense."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor import Descriptor

from common.kinds import KINDS
from common.schema import Shape, schema_of, walk
from protos import core_pb2, options_pb2

MESSAGES = sorted(
    {found.full_name: found for kind in KINDS for found in walk(kind.message.DESCRIPTOR)}.values(),
    key=lambda descriptor: descriptor.name,
)


@pytest.mark.parametrize("descriptor", MESSAGES, ids=lambda descriptor: descriptor.name)
def test_a_message(descriptor: Descriptor) -> None:
    schema = schema_of(descriptor)
    for field in schema.fields:
        assert field.json_name == field.name, "attribute and manifest name are the same"
        if field.inline:
            assert field.child is not None
            assert not field.repeated
        if field.zero_is_unset:
            assert field.presence, "only messages can be present and empty"
        if field.micro:
            assert field.shape is Shape.TIME
        if field.merge_key not in (None, "*"):
            assert field.child is not None
            assert field.merge_key in schema_of(field.child).names
        for rule in field.rules:
            assert rule.level in (options_pb2.WARN, options_pb2.REFUSED)
    for number, known in schema.known_numbers.items():
        assert any(number in numbers for numbers in schema.reserved), known.name
        assert known.name not in schema.names


@pytest.mark.parametrize(
    ("message", "numbers"),
    [
        (core_pb2.ObjectMeta, {"name": 1, "uid": 5, "creationTimestamp": 8, "labels": 11, "finalizers": 14}),
        (core_pb2.OwnerReference, {"kind": 1, "name": 3, "uid": 4, "apiVersion": 5, "controller": 6}),
        (core_pb2.DeleteOptions, {"gracePeriodSeconds": 1, "preconditions": 2, "propagationPolicy": 4, "dryRun": 5}),
        (core_pb2.PodSpec, {"containers": 2, "nodeName": 10, "initContainers": 20, "tolerations": 22, "os": 36}),
        (core_pb2.Container, {"name": 1, "env": 7, "envFrom": 19, "startupProbe": 22, "restartPolicy": 24}),
        (core_pb2.VolumeSource, {"hostPath": 1, "emptyDir": 2, "secret": 6, "configMap": 19, "projected": 26}),
        (core_pb2.ServiceSpec, {"ports": 1, "clusterIP": 3, "type": 4, "sessionAffinity": 7, "clusterIPs": 18}),
        (core_pb2.ServicePort, {"name": 1, "protocol": 2, "port": 3, "targetPort": 4, "nodePort": 5}),
        (core_pb2.PodStatus, {"phase": 1, "podIP": 6, "startTime": 7, "containerStatuses": 8, "hostIPs": 16}),
        (core_pb2.NodeSpec, {"podCIDR": 1, "unschedulable": 4, "taints": 5, "podCIDRs": 7}),
        (core_pb2.Secret, {"data": 2, "type": 3, "stringData": 4, "immutable": 5}),
        (core_pb2.Event, {"involvedObject": 2, "reason": 3, "lastTimestamp": 7, "type": 9, "eventTime": 10}),
    ],
)
def test_field_numbers_are_those_of_kubernetes(message: type, numbers: dict[str, int]) -> None:
    fields = message.DESCRIPTOR.fields_by_name  # type: ignore[attr-defined]
    assert {name: fields[name].number for name in numbers} == numbers
