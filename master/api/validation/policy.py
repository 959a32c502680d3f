"""Rules about PodDisruptionBudgets and PriorityClasses."""

from __future__ import annotations

from master.api.validation.faults import Faults
from master.api.validation.selector import validate_selector
from master.api.validation.template import unchanged, validate_amount
from protos import policy_pb2, scheduling_pb2

HIGHEST = 1_000_000_000
"""The highest value of a user's class; what is above belongs to the system."""
SYSTEM_CLASSES = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}
PREEMPTION = ("PreemptLowerPriority", "Never")


def validate_budget(pdb: policy_pb2.PodDisruptionBudget, faults: Faults) -> None:
    spec = pdb.spec
    if spec.HasField("minAvailable") and spec.HasField("maxUnavailable"):
        faults.add("spec", "must have minAvailable or maxUnavailable, has both")
    for name in ("minAvailable", "maxUnavailable"):
        if spec.HasField(name):
            validate_amount(f"spec.{name}", getattr(spec, name), faults)
    validate_selector("spec.selector", spec.selector, faults)
    if spec.HasField("unhealthyPodEvictionPolicy"):
        policies = ("IfHealthyBudget", "AlwaysAllow")
        faults.one_of("spec.unhealthyPodEvictionPolicy", spec.unhealthyPodEvictionPolicy, policies)


def validate_priority_class(found: scheduling_pb2.PriorityClass, faults: Faults) -> None:
    name = found.metadata.name
    if name.startswith("system-"):
        if SYSTEM_CLASSES.get(name) != found.value or found.globalDefault:
            faults.add("metadata.name", f"must not start with system- (it is the system's own), got {name!r}")
    elif found.value > HIGHEST:
        faults.add("value", f"must be at most {HIGHEST}, got {found.value}")
    faults.one_of("preemptionPolicy", found.preemptionPolicy, PREEMPTION)


def validate_priority_class_update(
    new: scheduling_pb2.PriorityClass, old: scheduling_pb2.PriorityClass, faults: Faults
) -> None:
    unchanged("value", new.value, old.value, faults)
    unchanged("preemptionPolicy", new.preemptionPolicy, old.preemptionPolicy, faults)
