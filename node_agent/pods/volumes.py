"""A pod's volumes on this node: directories and files under the data directory, memory volumes in the engine."""

from __future__ import annotations

import asyncio
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from common.errors import Conflict
from common.quantity import value
from node_agent.pods.atomic import write_files
from node_agent.pods.env import Surroundings
from node_agent.pods.files import Files, checked_path, files_of, is_written
from node_agent.pods.model import Assignments, ConfigError, NodeContext
from node_agent.runtime.seam import Mount, Refused, Runtime
from protos.core_pb2 import Container, HostPathVolumeSource, Pod, Volume, VolumeMount

# Where the sandbox keeps memory volumes alive; nothing in it looks there.
_SANDBOX_DIRECTORY = "/volumes"
_ANYBODY = 0o777

_CHECKS: dict[str, Callable[[int], bool]] = {
    "Directory": stat.S_ISDIR,
    "DirectoryOrCreate": stat.S_ISDIR,
    "File": stat.S_ISREG,
    "FileOrCreate": stat.S_ISREG,
    "Socket": stat.S_ISSOCK,
    "CharDevice": stat.S_ISCHR,
    "BlockDevice": stat.S_ISBLK,
}


class Volumes:
    """The volumes of all pods of a node."""

    def __init__(self, runtime: Runtime, node: NodeContext) -> None:
        self._runtime, self._node = runtime, node
        self._root = Path(node.data_dir) / "pods"

    async def prepare(self, pod: Pod, known: Assignments, around: Surroundings) -> bool:
        """Makes what the pod's volumes need, or brings written files up to date; True when files changed.

        Raises ConfigError (something is missing; a file already there is kept), Refused, Unavailable.
        """
        contents: dict[Path, Files] = {}
        directories: list[Path] = []
        for volume in pod.spec.volumes:
            source = volume.volumeSource
            if is_written(volume):
                contents[self._directory(pod, volume)] = files_of(pod, volume, known, around)
            elif source.HasField("emptyDir") and source.emptyDir.medium == "Memory":
                limit = source.emptyDir.sizeLimit.value
                await self._runtime.create_memory_volume(self._memory_name(pod, volume), value(limit) if limit else 0)
            elif source.HasField("emptyDir") or not source.ListFields():
                directories.append(self._directory(pod, volume))
        if not contents and not directories:
            return False
        return await asyncio.to_thread(self._write, contents, directories)

    def _write(self, contents: dict[Path, Files], directories: list[Path]) -> bool:
        # Secrets lie below: nobody but us looks in from outside.
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for directory in directories:
            if not directory.is_dir():
                directory.mkdir(parents=True)
                directory.chmod(_ANYBODY)
        changed = [write_files(directory, files) for directory, files in contents.items()]
        return any(changed)

    async def sandbox_mounts(self, pod: Pod) -> tuple[Mount, ...]:
        """The memory volumes: they exist only while something mounts them."""
        return tuple(
            Mount("volume", self._memory_name(pod, volume), f"{_SANDBOX_DIRECTORY}/{volume.name}")
            for volume in pod.spec.volumes
            if _in_memory(volume)
        )

    async def mounts(self, pod: Pod, container: Container) -> tuple[Mount, ...]:
        """The container's mounts. Raises ConfigError, Refused."""
        volumes = {volume.name: volume for volume in pod.spec.volumes}
        found = []
        for mount in container.volumeMounts:
            if mount.name not in volumes:
                raise ConfigError(f'container {container.name}: volumeMounts: no volume "{mount.name}" in the pod')
            found.append(await self._mount(pod, volumes[mount.name], mount, f"container {container.name}"))
        return tuple(found)

    async def _mount(self, pod: Pod, volume: Volume, mount: VolumeMount, where: str) -> Mount:
        where = f'{where}, volume "{volume.name}"'
        sub = checked_path(mount.subPath, f"{where}, subPath") if mount.subPath else ""
        if _in_memory(volume):
            if sub:
                raise ConfigError(f"{where}: subPath does not work on an emptyDir of medium Memory")
            return Mount("volume", self._memory_name(pod, volume), mount.mountPath, mount.readOnly)
        if volume.volumeSource.HasField("hostPath"):
            return await self._host_mount(volume.volumeSource.hostPath, mount, sub, where)
        directory = self._directory(pod, volume)
        written = is_written(volume)
        path = await asyncio.to_thread(_sub_path, directory, sub, where, not written) if sub else directory
        source = await self._runtime.host_path(str(path))
        return Mount("bind", source, mount.mountPath, mount.readOnly or written)

    async def _host_mount(self, host: HostPathVolumeSource, mount: VolumeMount, sub: str, where: str) -> Mount:
        if ":" in host.path or not host.path.startswith("/"):
            raise ConfigError(f'{where}: hostPath.path: must be absolute and without ":", got "{host.path}"')
        path = Path(host.path)
        if await self._runtime.self_container() is None:
            await asyncio.to_thread(_check_host_path, path, host.type, where)
        elif host.type in ("FileOrCreate", "Socket", "CharDevice", "BlockDevice"):
            raise ConfigError(
                f"{where}: hostPath.type {host.type} works only where the agent runs on the host itself, "
                "not in a container"
            )
        create = host.type in ("", "DirectoryOrCreate")
        return Mount("bind", str(path / sub), mount.mountPath, mount.readOnly, create)

    async def remove(self, uid: str) -> None:
        """Everything of one pod, whatever it had. Raises Conflict while a container still uses a volume."""
        prefix = self._memory_prefix(uid)
        for name in await self._runtime.volumes():
            if name.startswith(prefix):
                await self._runtime.remove_volume(name)
        if uid:
            await asyncio.to_thread(shutil.rmtree, self._root / uid, True)

    async def remove_strays(self, known: set[str]) -> None:
        """What pods left behind that nobody here knows: after a crash of the agent, or a wiped assignment."""
        names = await asyncio.to_thread(lambda: [p.name for p in self._root.iterdir()] if self._root.is_dir() else [])
        for uid in names:
            if uid not in known:
                await asyncio.to_thread(shutil.rmtree, self._root / uid, True)
        keep = tuple(self._memory_prefix(uid) for uid in known)
        ours = self._memory_prefix("")
        for name in await self._runtime.volumes():
            if name.startswith(ours) and not name.startswith(keep):
                try:
                    await self._runtime.remove_volume(name)
                except Conflict:
                    # A container nobody assigned still has it: next time.
                    continue

    def _directory(self, pod: Pod, volume: Volume) -> Path:
        kind = next((field.name for field, _ in volume.volumeSource.ListFields()), "emptyDir")
        return self._root / pod.metadata.uid / "volumes" / kind / volume.name

    def _memory_prefix(self, uid: str) -> str:
        return f"sampan_{self._node.cluster}_{self._node.node}_" + (f"{uid}_" if uid else "")

    def _memory_name(self, pod: Pod, volume: Volume) -> str:
        return self._memory_prefix(pod.metadata.uid) + volume.name


def _in_memory(volume: Volume) -> bool:
    return volume.volumeSource.HasField("emptyDir") and volume.volumeSource.emptyDir.medium == "Memory"


def _sub_path(directory: Path, sub: str, where: str, create: bool) -> Path:
    """The real path of a subPath; links (a container may have made them) must not lead out of the volume."""
    root = directory.resolve()
    path = (directory / sub).resolve()
    if not path.is_relative_to(root):
        raise ConfigError(f'{where}: subPath "{sub}" leads out of the volume through a link')
    if not path.exists():
        if not create:
            raise ConfigError(f'{where}: subPath "{sub}" is not in the volume')
        path.mkdir(parents=True)
        path.chmod(_ANYBODY)
    return path


def _check_host_path(path: Path, kind: str, where: str) -> None:
    """Makes what ...OrCreate asks for and checks the type. Raises ConfigError."""
    try:
        if kind == "DirectoryOrCreate":
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
        elif kind == "FileOrCreate" and not path.exists():
            path.touch(mode=0o644)
        if kind and not _CHECKS[kind](path.stat().st_mode):
            raise ConfigError(f"{where}: hostPath type check failed: {path} is not a {kind.removesuffix('OrCreate')}")
    except KeyError:
        raise ConfigError(f'{where}: hostPath.type: must be one of {", ".join(_CHECKS)}, got "{kind}"') from None
    except FileNotFoundError:
        raise ConfigError(f"{where}: hostPath type check failed: {path} does not exist") from None
    except OSError as error:
        raise Refused(f"{where}: hostPath {path}: {error.strerror}") from None
