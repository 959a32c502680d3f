"""Rules about a pod's volumes and what they take their content from."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable

from common import names
from master.api.validation.faults import Faults
from master.api.validation.resources import quantity
from protos import core_pb2

HOST_PATH_TYPES = (
    "DirectoryOrCreate",
    "Directory",
    "FileOrCreate",
    "File",
    "Socket",
    "CharDevice",
    "BlockDevice",
)
POD_FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "metadata.labels",
    "metadata.annotations",
)
ENV_FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
RESOURCE_FIELDS = tuple(
    f"{side}.{name}" for side in ("limits", "requests") for name in ("cpu", "memory", "ephemeral-storage")
)


def validate_volume(path: str, volume: core_pb2.Volume, containers: set[str], faults: Faults) -> None:
    """`containers` are the names a resourceFieldRef may point to."""
    faults.required(f"{path}.name", volume.name, "like data", names.label_fault)
    source = volume.volumeSource
    allowed = [field.name for field in source.DESCRIPTOR.fields]
    given = [field.name for field, _ in source.ListFields()]
    faults.exactly_one(path, given, ("emptyDir", "hostPath", "configMap", "secret", "downwardAPI", "projected"))
    assert set(given) <= set(allowed)
    if source.HasField("emptyDir"):
        faults.one_of(f"{path}.emptyDir.medium", source.emptyDir.medium, ("Memory",), empty=True)
        if source.emptyDir.HasField("sizeLimit"):
            quantity(f"{path}.emptyDir.sizeLimit", source.emptyDir.sizeLimit.value, faults)
    if source.HasField("hostPath"):
        _host_path(f"{path}.hostPath", source.hostPath, faults)
    if source.HasField("secret"):
        here = f"{path}.secret"
        faults.required(f"{here}.secretName", source.secret.secretName, "the Secret's name", names.subdomain_fault)
        _files(here, source.secret, source.secret.items, faults)
    if source.HasField("configMap"):
        here = f"{path}.configMap"
        reference = source.configMap.localObjectReference
        faults.required(f"{here}.name", reference.name, "the ConfigMap's name", names.subdomain_fault)
        _files(here, source.configMap, source.configMap.items, faults)
    if source.HasField("downwardAPI"):
        here = f"{path}.downwardAPI"
        _mode(f"{here}.defaultMode", source.downwardAPI, "defaultMode", faults)
        _downward(here, source.downwardAPI.items, containers, faults)
    if source.HasField("projected"):
        _projected(f"{path}.projected", source.projected, containers, faults)


def _host_path(path: str, source: core_pb2.HostPathVolumeSource, faults: Faults) -> None:
    faults.required(f"{path}.path", source.path, "an absolute path on the node")
    if source.path and not source.path.startswith("/"):
        faults.add(f"{path}.path", f"must be absolute (start with /), got {source.path!r}")
    if ".." in source.path.split("/"):
        faults.add(f"{path}.path", f"must not contain '..', got {source.path!r}")
    faults.one_of(f"{path}.type", source.type, HOST_PATH_TYPES, empty=True)


def _files(
    path: str,
    source: core_pb2.SecretVolumeSource | core_pb2.ConfigMapVolumeSource,
    items: Iterable[core_pb2.KeyToPath],
    faults: Faults,
) -> None:
    _mode(f"{path}.defaultMode", source, "defaultMode", faults)
    _items(path, items, faults)


def _items(path: str, items: Iterable[core_pb2.KeyToPath], faults: Faults) -> None:
    for index, item in enumerate(items):
        here = f"{path}.items[{index}]"
        faults.required(f"{here}.key", item.key, "the key to take", names.config_key_fault)
        relative_path(f"{here}.path", item.path, faults)
        _mode(f"{here}.mode", item, "mode", faults)


def _mode(path: str, source: object, name: str, faults: Faults) -> None:
    value: int = getattr(source, name)
    if not 0 <= value <= 0o777:
        faults.add(path, f"must be permission bits from 0 to 0777 (octal; 511 in JSON), got {value}")


def relative_path(path: str, value: str, faults: Faults) -> None:
    """A file inside a volume: relative, without '..'."""
    faults.required(path, value, "a path inside the volume")
    if value.startswith("/"):
        faults.add(path, f"must be relative (not start with /), got {value!r}")
    if ".." in value.split("/") or (value.startswith("..") and posixpath.sep not in value):
        faults.add(path, f"must not contain '..', got {value!r}")


def _downward(path: str, items: Iterable[core_pb2.DownwardAPIVolumeFile], containers: set[str], faults: Faults) -> None:
    for index, item in enumerate(items):
        here = f"{path}.items[{index}]"
        relative_path(f"{here}.path", item.path, faults)
        _mode(f"{here}.mode", item, "mode", faults)
        given = [name for name in ("fieldRef", "resourceFieldRef") if item.HasField(name)]
        faults.exactly_one(here, given, ("fieldRef", "resourceFieldRef"))
        if item.HasField("fieldRef"):
            field_reference(f"{here}.fieldRef", item.fieldRef, POD_FIELDS, faults)
        if item.HasField("resourceFieldRef"):
            reference = item.resourceFieldRef
            where = f"{here}.resourceFieldRef"
            if reference.containerName not in containers:
                listed = ", ".join(sorted(containers))
                faults.add(
                    f"{where}.containerName",
                    f"must name a container of this pod ({listed}), got {reference.containerName!r}",
                )
            resource_reference(where, reference, faults)


def field_reference(
    path: str, reference: core_pb2.ObjectFieldSelector, allowed: tuple[str, ...], faults: Faults
) -> None:
    """A field of the pod; one label or annotation is named like metadata.labels['app']."""
    faults.one_of(f"{path}.apiVersion", reference.apiVersion, ("v1",), empty=True)
    where, field = f"{path}.fieldPath", reference.fieldPath
    base, bracket, rest = field.partition("[")
    if bracket and base in {"metadata.labels", "metadata.annotations"}:
        if not (rest.endswith("']") and rest.startswith("'")):
            faults.add(where, f"must be written like {base}['key'], got {field!r}")
        else:
            faults.check(where, rest[1:-2], names.label_key_fault)
    else:
        faults.one_of(where, field, allowed)


def resource_reference(path: str, reference: core_pb2.ResourceFieldSelector, faults: Faults) -> None:
    faults.one_of(f"{path}.resource", reference.resource, RESOURCE_FIELDS)
    if reference.HasField("divisor"):
        quantity(f"{path}.divisor", reference.divisor.value, faults)


def _projected(path: str, source: core_pb2.ProjectedVolumeSource, containers: set[str], faults: Faults) -> None:
    _mode(f"{path}.defaultMode", source, "defaultMode", faults)
    for index, projection in enumerate(source.sources):
        here = f"{path}.sources[{index}]"
        given = [field.name for field, _ in projection.ListFields()]
        faults.exactly_one(here, given, ("secret", "configMap", "downwardAPI"))
        named: list[tuple[str, core_pb2.LocalObjectReference, Iterable[core_pb2.KeyToPath]]] = []
        if projection.HasField("secret"):
            named.append(("secret", projection.secret.localObjectReference, projection.secret.items))
        if projection.HasField("configMap"):
            named.append(("configMap", projection.configMap.localObjectReference, projection.configMap.items))
        for name, reference, items in named:
            faults.required(f"{here}.{name}.name", reference.name, "its name", names.subdomain_fault)
            _items(f"{here}.{name}", items, faults)
        if projection.HasField("downwardAPI"):
            _downward(f"{here}.downwardAPI", projection.downwardAPI.items, containers, faults)
