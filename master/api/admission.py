"""What a new object gets from others that are stored, or must not contradict: priorities of pods, one default class."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from common.errors import Fault
from master.api.defaults.job import add_selector
from master.api.validation.policy import SYSTEM_CLASSES
from master.store.store import Store
from protos import batch_pb2, core_pb2, meta_pb2, scheduling_pb2

PREEMPT = "PreemptLowerPriority"


def admit(new: Any, store: Store, old: Any | None = None) -> tuple[Fault, ...]:
    """Changes `new` in place, once it has its uid and its name, if it is given one; returns what is wrong with it."""
    if isinstance(new, core_pb2.Pod):
        if old is not None:
            _keep_priority(new.spec, old.spec)
            return ()
        return _prioritise(new.spec, store)
    if isinstance(new, scheduling_pb2.PriorityClass):
        return _one_default(new, store.list("PriorityClass"))
    if isinstance(new, batch_pb2.Job) and old is None:
        add_selector(new)
    return ()


def system_classes() -> list[scheduling_pb2.PriorityClass]:
    """The classes every cluster has."""
    words = {
        "system-cluster-critical": "For pods that the cluster needs, on whichever node they run.",
        "system-node-critical": "For pods that must not leave their node.",
    }
    return [
        scheduling_pb2.PriorityClass(
            metadata=meta_pb2.ObjectMeta(name=name), value=value, description=words[name], preemptionPolicy=PREEMPT
        )
        for name, value in SYSTEM_CLASSES.items()
    ]


def _prioritise(spec: core_pb2.PodSpec, store: Store) -> tuple[Fault, ...]:
    """Priority and preemption policy from the class that is named, else from the default class, else 0."""
    found: scheduling_pb2.PriorityClass | None
    if spec.priorityClassName:
        found = store.get("PriorityClass", "", spec.priorityClassName)
        if found is None:
            known = ", ".join(other.metadata.name for other in store.list("PriorityClass"))
            text = f'there is no PriorityClass "{spec.priorityClassName}" (there are {known or "none"})'
            return (Fault("spec.priorityClassName", text),)
    else:
        found = default_class(store.list("PriorityClass"))
        if found is not None:
            spec.priorityClassName = found.metadata.name
    priority = found.value if found is not None else 0
    policy = (found.preemptionPolicy if found is not None else "") or PREEMPT
    faults = []
    if spec.HasField("priority") and spec.priority != priority:
        text = f"must be left out: it comes from priorityClassName and is {priority}, got {spec.priority}"
        faults.append(Fault("spec.priority", text))
    if spec.HasField("preemptionPolicy") and spec.preemptionPolicy != policy:
        text = f"must be left out: it comes from priorityClassName and is {policy}, got {spec.preemptionPolicy!r}"
        faults.append(Fault("spec.preemptionPolicy", text))
    spec.priority, spec.preemptionPolicy = priority, policy
    return tuple(faults)


def default_class(classes: Iterable[scheduling_pb2.PriorityClass]) -> scheduling_pb2.PriorityClass | None:
    """The class of pods that name none; of several the one with the lowest value, as in Kubernetes."""
    return min((found for found in classes if found.globalDefault), key=lambda found: found.value, default=None)


def _keep_priority(new: core_pb2.PodSpec, old: core_pb2.PodSpec) -> None:
    """A manifest that does not say them means those that the pod was given."""
    new.priorityClassName = new.priorityClassName or old.priorityClassName
    for name in ("priority", "preemptionPolicy"):
        if not new.HasField(name) and old.HasField(name):
            setattr(new, name, getattr(old, name))


def _one_default(
    new: scheduling_pb2.PriorityClass, classes: Iterable[scheduling_pb2.PriorityClass]
) -> tuple[Fault, ...]:
    if not new.globalDefault:
        return ()
    others = [
        found.metadata.name for found in classes if found.globalDefault and found.metadata.name != new.metadata.name
    ]
    if not others:
        return ()
    return (Fault("globalDefault", f'must be true of one class only, and is of "{others[0]}" already'),)
