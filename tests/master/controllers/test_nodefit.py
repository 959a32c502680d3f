"""Node selectors and required node affinity, and pods made for one node."""

from __future__ import annotations

import pytest

from master.controllers.nodefit import allows, pin, pinned_to
from protos import core_pb2
from tests.master.controllers.builders import node

NODE = node("n1", labels={"disk": "ssd", "size": "5"})


def required(*terms: list[tuple[str, str, list[str]]]) -> core_pb2.PodSpec:
    spec = core_pb2.PodSpec()
    wanted = spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution
    wanted.SetInParent()
    for term in terms:
        added = wanted.nodeSelectorTerms.add()
        for key, operator, values in term:
            where = added.matchFields if key == "metadata.name" else added.matchExpressions
            where.add(key=key, operator=operator, values=values)
    return spec


@pytest.mark.parametrize(
    ("spec", "fits"),
    [
        (core_pb2.PodSpec(), True),
        (core_pb2.PodSpec(nodeName="n1"), True),
        (core_pb2.PodSpec(nodeName="n2"), False),
        (core_pb2.PodSpec(nodeSelector={"disk": "ssd"}), True),
        (core_pb2.PodSpec(nodeSelector={"disk": "ssd", "zone": "a"}), False),
        (required([("disk", "In", ["hdd", "ssd"])]), True),
        (required([("disk", "In", ["hdd"])], [("size", "Gt", ["4"])]), True),
        (required([("disk", "Exists", []), ("size", "Lt", ["4"])]), False),
        (required([("zone", "DoesNotExist", [])]), True),
        (required([("zone", "NotIn", ["a"])]), True),
        (required([("size", "Gt", ["many"])]), False),
        (required([("metadata.name", "In", ["n1"])]), True),
        (required([("metadata.name", "NotIn", ["n1"])]), False),
        (required([]), False),
        (required(), False),
    ],
)
def test_kubernetes_rules(spec: core_pb2.PodSpec, fits: bool) -> None:
    assert allows(spec, NODE) is fits


def test_a_pin_holds_in_every_term_and_reads_back() -> None:
    for spec in (core_pb2.PodSpec(), required([("disk", "In", ["ssd"])], [("zone", "Exists", [])])):
        pin(spec, "n1")
        assert pinned_to(spec) == "n1"
        assert allows(spec, NODE) and not allows(spec, node("n2", labels=dict(NODE.metadata.labels)))
    assert pinned_to(core_pb2.PodSpec()) == ""
    assert pinned_to(core_pb2.PodSpec(nodeName="n3")) == "n3"
