"""Rules about where a pod wants to run: tolerations, affinity, topology spread, preemption."""

from __future__ import annotations

from collections.abc import Sequence

from common import names
from master.api.validation.faults import Faults
from master.api.validation.selector import validate_selector
from protos import core_pb2

TAINT_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
NODE_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt")
PREEMPTION = ("PreemptLowerPriority", "Never")
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def validate_scheduling(path: str, spec: core_pb2.PodSpec, faults: Faults) -> None:
    for index, toleration in enumerate(spec.tolerations):
        _toleration(f"{path}.tolerations[{index}]", toleration, faults)
    _node_affinity(f"{path}.affinity.nodeAffinity", spec.affinity.nodeAffinity, faults)
    for name in ("podAffinity", "podAntiAffinity"):
        found: core_pb2.PodAffinity | core_pb2.PodAntiAffinity = getattr(spec.affinity, name)
        here = f"{path}.affinity.{name}"
        for index, term in enumerate(found.requiredDuringSchedulingIgnoredDuringExecution):
            _pod_term(f"{here}.{REQUIRED}[{index}]", term, faults)
        for index, weighted in enumerate(found.preferredDuringSchedulingIgnoredDuringExecution):
            _weight(f"{here}.{PREFERRED}[{index}]", weighted.weight, faults)
            _pod_term(f"{here}.{PREFERRED}[{index}].podAffinityTerm", weighted.podAffinityTerm, faults)
    for index, constraint in enumerate(spec.topologySpreadConstraints):
        _spread(f"{path}.topologySpreadConstraints[{index}]", constraint, faults)
    pairs = [(one.topologyKey, one.whenUnsatisfiable) for one in spec.topologySpreadConstraints]
    for index, pair in enumerate(pairs):
        if pair in pairs[:index]:
            first = f"{path}.topologySpreadConstraints[{pairs.index(pair)}]"
            text = f"with {pair[1]} is already at {first}: one constraint a topologyKey and whenUnsatisfiable"
            faults.add(f"{path}.topologySpreadConstraints[{index}].topologyKey", f"{pair[0]!r} {text}")
    if spec.HasField("preemptionPolicy"):
        faults.one_of(f"{path}.preemptionPolicy", spec.preemptionPolicy, PREEMPTION)


def _toleration(path: str, toleration: core_pb2.Toleration, faults: Faults) -> None:
    if toleration.key:
        faults.check(f"{path}.key", toleration.key, names.label_key_fault)
    elif toleration.operator != "Exists":
        faults.add(f"{path}.operator", "must be Exists where key is empty (which tolerates every taint)")
    faults.one_of(f"{path}.operator", toleration.operator, ("Equal", "Exists"), empty=True)
    if toleration.operator == "Exists" and toleration.value:
        faults.add(f"{path}.value", f"must be empty where operator is Exists, got {toleration.value!r}")
    faults.check(f"{path}.value", toleration.value, names.label_value_fault)
    faults.one_of(f"{path}.effect", toleration.effect, TAINT_EFFECTS, empty=True)
    if toleration.HasField("tolerationSeconds") and toleration.effect != "NoExecute":
        faults.add(f"{path}.effect", "must be NoExecute where tolerationSeconds is set")


def _node_affinity(path: str, affinity: core_pb2.NodeAffinity, faults: Faults) -> None:
    if affinity.HasField("requiredDuringSchedulingIgnoredDuringExecution"):
        terms = affinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms
        if not terms:
            faults.add(f"{path}.{REQUIRED}.nodeSelectorTerms", "is required (at least one term)")
        for index, term in enumerate(terms):
            _node_term(f"{path}.{REQUIRED}.nodeSelectorTerms[{index}]", term, faults)
    for index, preferred in enumerate(affinity.preferredDuringSchedulingIgnoredDuringExecution):
        _weight(f"{path}.{PREFERRED}[{index}]", preferred.weight, faults)
        _node_term(f"{path}.{PREFERRED}[{index}].preference", preferred.preference, faults)


def _node_term(path: str, term: core_pb2.NodeSelectorTerm, faults: Faults) -> None:
    for index, one in enumerate(term.matchExpressions):
        here = f"{path}.matchExpressions[{index}]"
        faults.required(f"{here}.key", one.key, "a label of nodes, like disktype", names.label_key_fault)
        faults.one_of(f"{here}.operator", one.operator, NODE_OPERATORS)
        _values(here, one.operator, one.values, faults)
        for number, value in enumerate(one.values):
            faults.check(f"{here}.values[{number}]", value, names.label_value_fault)
    for index, one in enumerate(term.matchFields):
        here = f"{path}.matchFields[{index}]"
        faults.one_of(f"{here}.key", one.key, ("metadata.name",))
        faults.one_of(f"{here}.operator", one.operator, ("In", "NotIn"))
        if len(one.values) != 1:
            faults.add(f"{here}.values", f"must be one node's name, got {len(one.values)} values")


def _values(path: str, operator: str, values: Sequence[str], faults: Faults) -> None:
    if operator in {"In", "NotIn"} and not values:
        faults.add(f"{path}.values", f"is required where operator is {operator}")
    if operator in {"Exists", "DoesNotExist"} and values:
        faults.add(f"{path}.values", f"must be empty where operator is {operator}")
    if operator in {"Gt", "Lt"}:
        if len(values) != 1:
            faults.add(f"{path}.values", f"must be one whole number where operator is {operator}")
            return
        try:
            int(values[0])
        except ValueError:
            faults.add(f"{path}.values[0]", f"must be a whole number where operator is {operator}, got {values[0]!r}")


def _weight(path: str, weight: int, faults: Faults) -> None:
    if not 1 <= weight <= 100:
        faults.add(f"{path}.weight", f"must be 1-100, got {weight}")


def _pod_term(path: str, term: core_pb2.PodAffinityTerm, faults: Faults) -> None:
    faults.required(f"{path}.topologyKey", term.topologyKey, "like kubernetes.io/hostname", names.label_key_fault)
    validate_selector(f"{path}.labelSelector", term.labelSelector, faults)
    validate_selector(f"{path}.namespaceSelector", term.namespaceSelector, faults)
    for index, namespace in enumerate(term.namespaces):
        faults.check(f"{path}.namespaces[{index}]", namespace, names.label_fault)
    _label_keys(f"{path}.matchLabelKeys", term.matchLabelKeys, term, faults)
    _label_keys(f"{path}.mismatchLabelKeys", term.mismatchLabelKeys, term, faults)
    for index, key in enumerate(term.mismatchLabelKeys):
        if key in term.matchLabelKeys:
            faults.add(f"{path}.mismatchLabelKeys[{index}]", f"must not be in matchLabelKeys as well, got {key!r}")


def _label_keys(
    path: str, keys: Sequence[str], term: core_pb2.PodAffinityTerm | core_pb2.TopologySpreadConstraint, faults: Faults
) -> None:
    if keys and not term.HasField("labelSelector"):
        faults.add(path, "must not be set without a labelSelector, which it narrows")
    for index, key in enumerate(keys):
        faults.check(f"{path}[{index}]", key, names.label_key_fault)


def _spread(path: str, one: core_pb2.TopologySpreadConstraint, faults: Faults) -> None:
    faults.at_least(f"{path}.maxSkew", one.maxSkew, 1)
    faults.required(f"{path}.topologyKey", one.topologyKey, "like kubernetes.io/hostname", names.label_key_fault)
    faults.one_of(f"{path}.whenUnsatisfiable", one.whenUnsatisfiable, ("DoNotSchedule", "ScheduleAnyway"))
    validate_selector(f"{path}.labelSelector", one.labelSelector, faults)
    _label_keys(f"{path}.matchLabelKeys", one.matchLabelKeys, one, faults)
    if one.HasField("minDomains"):
        faults.at_least(f"{path}.minDomains", one.minDomains, 1)
        if one.whenUnsatisfiable != "DoNotSchedule":
            faults.add(f"{path}.minDomains", "must not be set unless whenUnsatisfiable is DoNotSchedule")
    for name in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
        if one.HasField(name):
            faults.one_of(f"{path}.{name}", getattr(one, name), ("Honor", "Ignore"))
