"""Rules about metadata: names, namespaces, labels, annotations, owners, finalizers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from common import names
from common.kinds import NAMESPACE, SERVICE, Kind
from master.api.validation.faults import Faults
from protos import core_pb2

MAX_ANNOTATION_BYTES = 256 * 1024
FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"

Rule = Callable[[str], str | None]


def name_rule(kind: Kind) -> Rule:
    """Namespaces and services become parts of host names, so their names are shorter than others'."""
    if kind is NAMESPACE:
        return names.label_fault
    return names.service_name_fault if kind is SERVICE else names.subdomain_fault


def validate_meta(meta: core_pb2.ObjectMeta, kind: Kind, faults: Faults) -> None:
    rule = name_rule(kind)
    if meta.generateName:
        # Whatever is appended ends in a letter or digit, so a trailing dash is fine.
        faults.check("metadata.generateName", meta.generateName + "x", rule)
    if meta.name:
        faults.check("metadata.name", meta.name, rule)
    elif not meta.generateName:
        faults.add("metadata.name", "is required (or metadata.generateName)")
    if kind.namespaced:
        faults.required("metadata.namespace", meta.namespace, "like default", names.label_fault)
    elif meta.namespace:
        faults.add("metadata.namespace", f"must be empty: a {kind.kind} belongs to no namespace")
    validate_labels("metadata.labels", meta.labels, faults)
    _annotations(meta.annotations, faults)
    _owners(meta, faults)
    for index, finalizer in enumerate(meta.finalizers):
        path = f"metadata.finalizers[{index}]"
        if finalizer not in {FOREGROUND, ORPHAN, "kubernetes"} and "/" not in finalizer:
            faults.add(path, f"must be a name with a domain (like example.com/cleanup), got {finalizer!r}")
        else:
            faults.check(path, finalizer, names.label_key_fault)


def validate_labels(path: str, labels: Mapping[str, str], faults: Faults) -> None:
    """Labels, or a map selector: keys and values."""
    for key in sorted(labels):
        fault = names.label_key_fault(key)
        if fault:
            faults.add(path, f"key {fault}")
        fault = names.label_value_fault(labels[key])
        if fault:
            faults.add(f"{path}[{key}]", fault)


def _annotations(annotations: Mapping[str, str], faults: Faults) -> None:
    for key in sorted(annotations):
        fault = names.label_key_fault(key)
        if fault:
            faults.add("metadata.annotations", f"key {fault}")
    size = sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items())
    if size > MAX_ANNOTATION_BYTES:
        faults.add("metadata.annotations", f"must be at most {MAX_ANNOTATION_BYTES} bytes in all, are {size}")


def _owners(meta: core_pb2.ObjectMeta, faults: Faults) -> None:
    controllers = []
    for index, owner in enumerate(meta.ownerReferences):
        path = f"metadata.ownerReferences[{index}]"
        faults.required(f"{path}.apiVersion", owner.apiVersion, "like v1")
        faults.required(f"{path}.kind", owner.kind, "like ReplicationController")
        faults.required(f"{path}.name", owner.name, "the owner's name")
        faults.required(f"{path}.uid", owner.uid, "the owner's uid")
        if owner.controller:
            controllers.append(path)
    if len(controllers) > 1:
        faults.add("metadata.ownerReferences", f"must have one controller at most: {' and '.join(controllers)}")
