"""A hash of the ConfigMaps and Secrets a template names, so that a change of their data can roll its pods; pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

from master.store.store import Key
from protos import core_pb2

ASK = "sampan.dev/restart-on-config-change"
"""On a workload, "true": roll the pods when the data changes."""
HASH = "sampan.dev/config-hash"
"""On its template: what the pods were made with."""

Reading = Callable[[Key], Any | None]


def asked(workload: Any) -> bool:
    return bool(workload.metadata.annotations.get(ASK) == "true")


def references(workload: Any) -> Iterator[Key]:
    """Keys of what a workload that asks for it names; nothing for other objects."""
    if (
        workload.metadata.annotations.get(ASK) == "true"
        and "template" in getattr(getattr(workload, "spec", None), "DESCRIPTOR", workload.DESCRIPTOR).fields_by_name
    ):
        for key, _ in template_references(workload.spec.template.spec, workload.metadata.namespace):
            yield key


def template_references(spec: core_pb2.PodSpec, namespace: str) -> Iterator[tuple[Key, bool]]:
    """ConfigMaps and Secrets of a pod's spec, each with whether it may be missing; some more than once."""
    for container in (*spec.initContainers, *spec.containers):
        for variable in container.env:
            source = variable.valueFrom
            if source.HasField("configMapKeyRef"):
                yield _config(source.configMapKeyRef, namespace)
            if source.HasField("secretKeyRef"):
                yield _secret(source.secretKeyRef, namespace)
        for everything in container.envFrom:
            if everything.HasField("configMapRef"):
                yield _config(everything.configMapRef, namespace)
            if everything.HasField("secretRef"):
                yield _secret(everything.secretRef, namespace)
    for volume in spec.volumes:
        held = volume.volumeSource
        if held.HasField("configMap"):
            yield _config(held.configMap, namespace)
        if held.HasField("secret"):
            yield ("Secret", namespace, held.secret.secretName), held.secret.optional
        for projection in held.projected.sources:
            if projection.HasField("configMap"):
                yield _config(projection.configMap, namespace)
            if projection.HasField("secret"):
                yield _secret(projection.secret, namespace)


def _config(reference: Any, namespace: str) -> tuple[Key, bool]:
    return ("ConfigMap", namespace, reference.localObjectReference.name), reference.optional


def _secret(reference: Any, namespace: str) -> tuple[Key, bool]:
    return ("Secret", namespace, reference.localObjectReference.name), reference.optional


def config_hash(spec: core_pb2.PodSpec, namespace: str, read: Reading) -> str | None:
    """16 hex digits over the data; None when one that must be there is missing, "" when the spec names none."""
    found = sorted(set(template_references(spec, namespace)))
    if not found:
        return ""
    digest = hashlib.sha256()
    for key, optional in found:
        obj = read(key)
        if obj is None and not optional:
            return None
        digest.update(repr((key, _data(obj))).encode())
    return digest.hexdigest()[:16]


def _data(obj: Any | None) -> list[tuple[str, Any]]:
    if obj is None:
        return []
    binary = getattr(obj, "binaryData", {})
    return sorted([*obj.data.items(), *binary.items()], key=lambda item: item[0])
