"""Rules about replication controllers, nodes, namespaces and events."""

from __future__ import annotations

from common import names
from common.selectors import from_map
from master import traffic
from master.api.validation.faults import Faults
from master.api.validation.meta import validate_labels
from master.api.validation.pod import validate_pod_spec
from master.api.validation.resources import validate_capacity
from master.api.validation.scheduling import TAINT_EFFECTS
from protos import core_pb2


def validate_replication_controller(rc: core_pb2.ReplicationController, faults: Faults) -> None:
    spec = rc.spec
    faults.at_least("spec.replicas", spec.replicas, 0)
    faults.at_least("spec.minReadySeconds", spec.minReadySeconds, 0)
    validate_labels("spec.selector", spec.selector, faults)
    if not spec.HasField("template"):
        faults.add("spec.template", "is required (the pod to make)")
        return
    labels = spec.template.metadata.labels
    validate_labels("spec.template.metadata.labels", labels, faults)
    if not spec.selector:
        faults.add("spec.selector", "is required (or labels in spec.template.metadata.labels to take it from)")
    elif not from_map(spec.selector).matches(labels):
        faults.add(
            "spec.template.metadata.labels",
            f"must match the selector {from_map(spec.selector)}, got {from_map(labels) or 'none'}",
        )
    validate_pod_spec("spec.template.spec", spec.template.spec, faults)
    if spec.template.spec.restartPolicy not in {"Always", ""}:
        faults.add(
            "spec.template.spec.restartPolicy",
            f"must be Always in a ReplicationController, got {spec.template.spec.restartPolicy!r}",
        )
    if spec.template.spec.HasField("activeDeadlineSeconds"):
        faults.add("spec.template.spec.activeDeadlineSeconds", "must not be set in a ReplicationController")


def validate_node(node: core_pb2.Node, faults: Faults) -> None:
    fault = traffic.network_fault(node.metadata.annotations)
    if fault is not None:
        faults.add(fault.path, fault.message)
    for index, taint in enumerate(node.spec.taints):
        path = f"spec.taints[{index}]"
        faults.required(f"{path}.key", taint.key, "like dedicated", names.label_key_fault)
        faults.check(f"{path}.value", taint.value, names.label_value_fault)
        faults.one_of(f"{path}.effect", taint.effect, TAINT_EFFECTS)
    faults.unique(lambda index: f"spec.taints[{index}]", (f"{taint.key}:{taint.effect}" for taint in node.spec.taints))
    validate_capacity("status.capacity", node.status.capacity, faults)
    validate_capacity("status.allocatable", node.status.allocatable, faults)


def validate_node_update(new: core_pb2.Node, old: core_pb2.Node, faults: Faults) -> None:
    if old.spec.podCIDR and new.spec.podCIDR != old.spec.podCIDR:
        faults.add("spec.podCIDR", f"must not change, it is {old.spec.podCIDR}, got {new.spec.podCIDR!r}")


def validate_namespace(namespace: core_pb2.Namespace, faults: Faults) -> None:
    for index, finalizer in enumerate(namespace.spec.finalizers):
        faults.check(f"spec.finalizers[{index}]", finalizer, names.label_key_fault)


def validate_event(event: core_pb2.Event, faults: Faults) -> None:
    faults.one_of("type", event.type, ("Normal", "Warning"))
    faults.required("involvedObject.kind", event.involvedObject.kind, "like Pod")
    involved = event.involvedObject.namespace
    if involved and involved != event.metadata.namespace:
        faults.add("involvedObject.namespace", f"must be the event's namespace ({event.metadata.namespace})")
