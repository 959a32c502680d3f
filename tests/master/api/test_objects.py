"""Objects of requests and answers, for every kind of the table."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from common.errors import BadRequest
from common.kinds import KINDS, Kind
from common.wire import normalise
from master.api.objects import pack, unpack
from protos import control_pb2
from tests.common.manifests import messages


def test_every_kind_has_its_place() -> None:
    places = {field.name for field in control_pb2.Object.DESCRIPTOR.fields}
    assert places == {kind.singular for kind in KINDS} | {"manifest"}


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_what_is_packed_is_unpacked(kind: Kind) -> None:
    @settings(max_examples=10, deadline=None)
    @given(messages(kind.message.DESCRIPTOR))
    def check(obj: object) -> None:
        message = normalise(obj)  # type: ignore[arg-type]
        given = unpack(pack(message), "shop")
        assert given.kind is kind
        if kind.namespaced:
            assert given.message.metadata.namespace
            message.metadata.namespace = given.message.metadata.namespace  # type: ignore[attr-defined]
        assert given.message == message

    check()


def test_the_requests_namespace_is_for_those_that_name_none() -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c%s}"
    for own, asked, found in (("", "", "default"), ("", "shop", "shop"), (", namespace: lab", "shop", "lab")):
        given = unpack(control_pb2.Object(manifest=text % own), asked)
        assert given.message.metadata.namespace == found
    cluster = unpack(control_pb2.Object(manifest="apiVersion: v1\nkind: Namespace\nmetadata: {name: lab}"), "shop")
    assert cluster.message.metadata.namespace == ""
    with pytest.raises(BadRequest, match="the second starts at line 5"):
        unpack(control_pb2.Object(manifest="{0}\n---\n{0}".format(text % "")))
