"""Which ConfigMaps and Secrets a pod needs on its node; pure."""

from __future__ import annotations

from collections.abc import Iterator

from protos import core_pb2

Reference = tuple[str, str, str]
"""Kind, namespace, name: the store's key."""


def references(pod: core_pb2.Pod) -> frozenset[Reference]:
    """Keys of every ConfigMap and Secret that the pod's environment, volumes and image pulls name."""
    space = pod.metadata.namespace
    return frozenset((kind, space, name) for kind, name in _named(pod.spec) if name)


def _named(spec: core_pb2.PodSpec) -> Iterator[tuple[str, str]]:
    for secret in spec.imagePullSecrets:
        yield "Secret", secret.name
    for container in [*spec.initContainers, *spec.containers]:
        for source in container.envFrom:
            if source.HasField("configMapRef"):
                yield "ConfigMap", source.configMapRef.localObjectReference.name
            if source.HasField("secretRef"):
                yield "Secret", source.secretRef.localObjectReference.name
        for variable in container.env:
            if variable.valueFrom.HasField("configMapKeyRef"):
                yield "ConfigMap", variable.valueFrom.configMapKeyRef.localObjectReference.name
            if variable.valueFrom.HasField("secretKeyRef"):
                yield "Secret", variable.valueFrom.secretKeyRef.localObjectReference.name
    for volume in spec.volumes:
        yield from _volume(volume.volumeSource)


def _volume(source: core_pb2.VolumeSource) -> Iterator[tuple[str, str]]:
    if source.HasField("secret"):
        yield "Secret", source.secret.secretName
    if source.HasField("configMap"):
        yield "ConfigMap", source.configMap.localObjectReference.name
    for part in source.projected.sources:
        if part.HasField("secret"):
            yield "Secret", part.secret.localObjectReference.name
        if part.HasField("configMap"):
            yield "ConfigMap", part.configMap.localObjectReference.name
