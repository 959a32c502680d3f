"""Whether a pod's spec allows a node: nodeName, nodeSelector and required node affinity; pure."""

from __future__ import annotations

from collections.abc import Mapping

from common.selectors import Requirement
from protos import core_pb2

NAME_FIELD = "metadata.name"


def allows(spec: core_pb2.PodSpec, node: core_pb2.Node) -> bool:
    """True when none of the three rules the node out; room, taints and readiness are not looked at."""
    labels, name = node.metadata.labels, node.metadata.name
    if spec.nodeName and spec.nodeName != name:
        return False
    if any(labels.get(key) != value for key, value in spec.nodeSelector.items()):
        return False
    affinity = spec.affinity.nodeAffinity
    if not affinity.HasField("requiredDuringSchedulingIgnoredDuringExecution"):
        return True
    required = affinity.requiredDuringSchedulingIgnoredDuringExecution
    return any(_term(term, labels, name) for term in required.nodeSelectorTerms)


def _term(term: core_pb2.NodeSelectorTerm, labels: Mapping[str, str], name: str) -> bool:
    if not term.matchExpressions and not term.matchFields:
        return False
    return all(_holds(wanted, labels) for wanted in term.matchExpressions) and all(
        _holds(wanted, {NAME_FIELD: name}) for wanted in term.matchFields
    )


def _holds(wanted: core_pb2.NodeSelectorRequirement, values: Mapping[str, str]) -> bool:
    try:
        return Requirement(wanted.key, wanted.operator, frozenset(wanted.values)).matches(values)
    except ValueError:
        # Gt or Lt without exactly one whole number: validation refuses it, and nothing matches it.
        return False


def pin(spec: core_pb2.PodSpec, name: str) -> None:
    """Adds to every required term (or to a new one) that the node must be the one of this name."""
    required = spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution
    if not required.nodeSelectorTerms:
        required.nodeSelectorTerms.add()
    for term in required.nodeSelectorTerms:
        # A field requirement of the template has been looked at when the node was chosen.
        del term.matchFields[:]
        term.matchFields.add(key=NAME_FIELD, operator="In", values=[name])


def pinned_to(spec: core_pb2.PodSpec) -> str:
    """The node a pod is on, or the one it was made for; empty when it is for none."""
    if spec.nodeName:
        return str(spec.nodeName)
    required = spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution
    for term in required.nodeSelectorTerms:
        for field in term.matchFields:
            if field.key == NAME_FIELD and field.operator == "In" and len(field.values) == 1:
                return str(field.values[0])
    return ""
