"""What a pod may say about where it runs: every fault names its field and what would be right."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.json_format import ParseDict

from common import support
from master.api.validation.faults import Faults
from master.api.validation.scheduling import validate_scheduling
from protos import core_pb2

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def faults(spec: dict[str, Any]) -> dict[str, str]:
    found = Faults()
    validate_scheduling("spec", ParseDict(spec, core_pb2.PodSpec()), found)
    return {fault.path: fault.message for fault in found.found}


def node(*expressions: dict[str, Any], **more: Any) -> dict[str, Any]:
    terms = [{"matchExpressions": list(expressions)} | more]
    return {"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": terms}}}}


def pods(**term: Any) -> dict[str, Any]:
    return {"affinity": {"podAntiAffinity": {REQUIRED: [{"topologyKey": "zone"} | term]}}}


def spread(**more: Any) -> dict[str, Any]:
    return {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"} | more


GOOD: list[dict[str, Any]] = [
    node({"key": "disk", "operator": "In", "values": ["ssd"]}, {"key": "cores", "operator": "Gt", "values": ["4"]}),
    node(matchFields=[{"key": "metadata.name", "operator": "In", "values": ["n1"]}]),
    pods(labelSelector={"matchLabels": {"a": "b"}}, namespaceSelector={}, matchLabelKeys=["pod-template-hash"]),
    {"topologySpreadConstraints": [spread(minDomains=2, nodeTaintsPolicy="Honor"), spread(topologyKey="host")]},
    {"topologySpreadConstraints": [spread(), spread(whenUnsatisfiable="ScheduleAnyway")]},
    {"preemptionPolicy": "Never", "tolerations": [{"operator": "Exists"}]},
]

NODE = f"spec.affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms"
ANTI = f"spec.affinity.podAntiAffinity.{REQUIRED}[0]"
SPREAD = "spec.topologySpreadConstraints"


@pytest.mark.parametrize("spec", GOOD)
def test_what_is_right(spec: dict[str, Any]) -> None:
    assert faults(spec) == {}
    pod = core_pb2.Pod(spec=ParseDict(spec, core_pb2.PodSpec()))
    assert support.check(pod) == ((), ())


@pytest.mark.parametrize(
    ("spec", "path", "words"),
    [
        ({"affinity": {"nodeAffinity": {REQUIRED: {}}}}, NODE, "at least one term"),
        (node({"key": "a", "operator": "Like"}), f"{NODE}[0].matchExpressions[0].operator", "In, NotIn, Exists"),
        (node({"key": "a", "operator": "In"}), f"{NODE}[0].matchExpressions[0].values", "is required"),
        (node({"operator": "Exists"}), f"{NODE}[0].matchExpressions[0].key", "is required"),
        (
            node({"key": "a", "operator": "Exists", "values": ["b"]}),
            f"{NODE}[0].matchExpressions[0].values",
            "must be empty",
        ),
        (
            node({"key": "a", "operator": "Gt", "values": ["4Gi"]}),
            f"{NODE}[0].matchExpressions[0].values[0]",
            "whole number",
        ),
        (
            node({"key": "a", "operator": "Lt", "values": ["1", "2"]}),
            f"{NODE}[0].matchExpressions[0].values",
            "one whole number",
        ),
        (
            node(matchFields=[{"key": "spec.x", "operator": "In", "values": ["n1"]}]),
            f"{NODE}[0].matchFields[0].key",
            "metadata.name",
        ),
        (
            node(matchFields=[{"key": "metadata.name", "operator": "In", "values": ["a", "b"]}]),
            f"{NODE}[0].matchFields[0].values",
            "one node's name",
        ),
        (
            {"affinity": {"nodeAffinity": {PREFERRED: [{"weight": 101, "preference": {}}]}}},
            f"spec.affinity.nodeAffinity.{PREFERRED}[0].weight",
            "1-100",
        ),
        (pods(topologyKey=""), f"{ANTI}.topologyKey", "is required"),
        (pods(matchLabelKeys=["a"]), f"{ANTI}.matchLabelKeys", "labelSelector"),
        (
            pods(labelSelector={}, matchLabelKeys=["a"], mismatchLabelKeys=["a"]),
            f"{ANTI}.mismatchLabelKeys[0]",
            "matchLabelKeys",
        ),
        (
            pods(labelSelector={"matchExpressions": [{"key": "a", "operator": "Gt"}]}),
            f"{ANTI}.labelSelector.matchExpressions[0].operator",
            "In, NotIn",
        ),
        (pods(namespaces=["Not A Name"]), f"{ANTI}.namespaces[0]", "lower-case letters"),
        (
            {"affinity": {"podAffinity": {PREFERRED: [{"weight": 0, "podAffinityTerm": {"topologyKey": "z"}}]}}},
            f"spec.affinity.podAffinity.{PREFERRED}[0].weight",
            "1-100",
        ),
        ({"topologySpreadConstraints": [spread(maxSkew=0)]}, f"{SPREAD}[0].maxSkew", "1 or more"),
        (
            {"topologySpreadConstraints": [spread(whenUnsatisfiable="Maybe")]},
            f"{SPREAD}[0].whenUnsatisfiable",
            "one of",
        ),
        ({"topologySpreadConstraints": [spread(), spread()]}, f"{SPREAD}[1].topologyKey", "already at"),
        ({"topologySpreadConstraints": [spread(nodeTaintsPolicy="Yes")]}, f"{SPREAD}[0].nodeTaintsPolicy", "Honor"),
        (
            {"topologySpreadConstraints": [spread(minDomains=2, whenUnsatisfiable="ScheduleAnyway")]},
            f"{SPREAD}[0].minDomains",
            "DoNotSchedule",
        ),
        ({"preemptionPolicy": "Always"}, "spec.preemptionPolicy", "PreemptLowerPriority, Never"),
        ({"tolerations": [{"key": "a", "operator": "Has"}]}, "spec.tolerations[0].operator", "Equal, Exists"),
    ],
)
def test_what_is_wrong(spec: dict[str, Any], path: str, words: str) -> None:
    found = faults(spec)
    assert list(found) == [path] and words in found[path]
