"""What is in a configMap, secret, downwardAPI or projected volume: paths to contents; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from node_agent.pods.env import Surroundings
from node_agent.pods.fields import field_text, resource_text
from node_agent.pods.model import Assignments, ConfigError
from protos.core_pb2 import DownwardAPIVolumeFile, KeyToPath, Pod, Volume

DEFAULT_MODE = 0o644


@dataclass(frozen=True)
class File:
    """Content and permission bits of one file."""

    content: bytes
    mode: int


Files = dict[str, File]
"""By path relative to the volume."""


def is_written(volume: Volume) -> bool:
    """True for volumes whose files the agent writes (and keeps up to date)."""
    source = volume.volumeSource
    return any(source.HasField(name) for name in ("configMap", "secret", "downwardAPI", "projected"))


def files_of(pod: Pod, volume: Volume, known: Assignments, around: Surroundings) -> Files:
    """All files of a written volume. Raises ConfigError naming what is missing."""
    source, where = volume.volumeSource, f'volume "{volume.name}"'
    reader = _Reader(pod, known, around, where)
    if source.HasField("configMap"):
        one = source.configMap
        mode = _mode(one.HasField("defaultMode"), one.defaultMode)
        return reader.configmap(one.localObjectReference.name, one.items, one.optional, mode)
    if source.HasField("secret"):
        secret = source.secret
        mode = _mode(secret.HasField("defaultMode"), secret.defaultMode)
        return reader.secret(secret.secretName, secret.items, secret.optional, mode)
    if source.HasField("downwardAPI"):
        downward = source.downwardAPI
        return reader.downward(downward.items, _mode(downward.HasField("defaultMode"), downward.defaultMode))
    files: Files = {}
    mode = _mode(source.projected.HasField("defaultMode"), source.projected.defaultMode)
    for part in source.projected.sources:
        if part.HasField("configMap"):
            ref = part.configMap
            files |= reader.configmap(ref.localObjectReference.name, ref.items, ref.optional, mode)
        elif part.HasField("secret"):
            secret_ref = part.secret
            files |= reader.secret(secret_ref.localObjectReference.name, secret_ref.items, secret_ref.optional, mode)
        elif part.HasField("downwardAPI"):
            files |= reader.downward(part.downwardAPI.items, mode)
    return files


def _mode(given: bool, mode: int) -> int:
    return mode if given else DEFAULT_MODE


@dataclass(frozen=True)
class _Reader:
    pod: Pod
    known: Assignments
    around: Surroundings
    where: str

    def configmap(self, name: str, items: Iterable[KeyToPath], optional: bool, mode: int) -> Files:
        found = self.known.configmaps.get((self.pod.metadata.namespace, name))
        if found is None:
            return self._missing("configmap", name, optional)
        content = {key: text.encode() for key, text in found.data.items()} | dict(found.binaryData)
        return self._chosen(content, items, optional, mode, f"configmap {self.pod.metadata.namespace}/{name}")

    def secret(self, name: str, items: Iterable[KeyToPath], optional: bool, mode: int) -> Files:
        found = self.known.secrets.get((self.pod.metadata.namespace, name))
        if found is None:
            return self._missing("secret", name, optional)
        return self._chosen(dict(found.data), items, optional, mode, f"secret {self.pod.metadata.namespace}/{name}")

    def downward(self, items: Iterable[DownwardAPIVolumeFile], default_mode: int) -> Files:
        files: Files = {}
        for item in items:
            if item.HasField("resourceFieldRef"):
                text = self._resource(item)
            else:
                text = field_text(
                    self.pod,
                    item.fieldRef,
                    node=self.around.node,
                    node_ip=self.around.node_ip,
                    pod_ip=self.around.pod_ip,
                )
            path = checked_path(item.path, self.where)
            files[path] = File(text.encode(), item.mode if item.HasField("mode") else default_mode)
        return files

    def _resource(self, item: DownwardAPIVolumeFile) -> str:
        for container in (*self.pod.spec.containers, *self.pod.spec.initContainers):
            if container.name == item.resourceFieldRef.containerName:
                return resource_text(container, item.resourceFieldRef, self.around.allocatable)
        raise ConfigError(
            f'{self.where}: resourceFieldRef.containerName: no container "{item.resourceFieldRef.containerName}"'
        )

    def _missing(self, kind: str, name: str, optional: bool) -> Files:
        if optional:
            return {}
        raise ConfigError(f'{self.where}: {kind} "{name}" not found in namespace {self.pod.metadata.namespace}')

    def _chosen(
        self, content: Mapping[str, bytes], items: Iterable[KeyToPath], optional: bool, mode: int, origin: str
    ) -> Files:
        chosen = list(items)
        if not chosen:
            return {checked_path(key, self.where): File(value, mode) for key, value in content.items()}
        files: Files = {}
        for item in chosen:
            if item.key not in content:
                if optional:
                    continue
                raise ConfigError(f'{self.where}: couldn\'t find key "{item.key}" in {origin}')
            files[checked_path(item.path, self.where)] = File(
                content[item.key], item.mode if item.HasField("mode") else mode
            )
        return files


def checked_path(path: str, where: str) -> str:
    """The path if it stays inside the volume. Raises ConfigError."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or parts[0].startswith(".."):
        raise ConfigError(f'{where}: path must be relative, without ".." and not start with "..", got "{path}"')
    return str(PurePosixPath(path))
