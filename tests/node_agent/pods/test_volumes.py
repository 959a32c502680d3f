"""Volumes on disk and their mounts."""

from __future__ import annotations

from pathlib import Path

import pytest

from node_agent.pods.env import Surroundings
from node_agent.pods.model import Assignments, ConfigError, NodeContext
from node_agent.pods.volumes import Volumes
from node_agent.runtime.seam import Mount
from node_agent.runtime.simulated import SimulatedRuntime
from protos.core_pb2 import ConfigMap, Pod
from tests.node_agent.pods.build import UID, make_pod
from tests.node_agent.pods.network import NETWORK

AROUND = Surroundings("node", "192.0.2.1", "10.0.0.2")
KNOWN = Assignments(configmaps={("default", "cm"): ConfigMap(data={"key": "1"})})


class Place:
    def __init__(self, data: Path) -> None:
        self.runtime = SimulatedRuntime("c", "node")
        self.volumes = Volumes(self.runtime, NodeContext("c", "node", str(data), "192.0.2.1", NETWORK))

    async def mounts(self, pod: Pod, known: Assignments = KNOWN) -> tuple[Mount, ...]:
        await self.volumes.prepare(pod, known, AROUND)
        return await self.volumes.mounts(pod, pod.spec.containers[0])


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def with_volume(sub: str = "", *, read_only: bool = False) -> Pod:
    pod = make_pod("a")
    pod.spec.volumes.add(name="v")
    pod.spec.containers[0].volumeMounts.add(name="v", mountPath="/v", subPath=sub, readOnly=read_only)
    return pod


async def test_empty_dir(place: Place, tmp_path: Path) -> None:
    pod = with_volume(read_only=True)
    pod.spec.volumes[0].volumeSource.emptyDir.SetInParent()
    directory = tmp_path / "pods" / UID / "volumes" / "emptyDir" / "v"
    assert await place.mounts(pod) == (Mount("bind", str(directory), "/v", read_only=True),)
    assert directory.stat().st_mode & 0o777 == 0o777
    (directory / "kept").touch()
    await place.mounts(pod)
    assert (directory / "kept").exists()
    await place.volumes.remove(UID)
    assert not (tmp_path / "pods" / UID).exists()


async def test_memory(place: Place) -> None:
    pod = with_volume()
    pod.spec.volumes[0].volumeSource.emptyDir.medium = "Memory"
    name = f"sampan_c_node_{UID}_v"
    assert await place.mounts(pod) == (Mount("volume", name, "/v"),)
    assert await place.volumes.sandbox_mounts(pod) == (Mount("volume", name, "/volumes/v"),)
    assert await place.runtime.volumes() == [name]
    await place.volumes.remove(UID)
    assert await place.runtime.volumes() == []
    pod.spec.containers[0].volumeMounts[0].subPath = "x"
    with pytest.raises(ConfigError, match="subPath does not work on an emptyDir of medium Memory"):
        await place.mounts(pod)


async def test_configmap_is_mounted_read_only_and_kept_up_to_date(place: Place, tmp_path: Path) -> None:
    pod = with_volume()
    pod.spec.volumes[0].volumeSource.configMap.localObjectReference.name = "cm"
    (mount,) = await place.mounts(pod)
    assert mount.read_only
    assert (Path(mount.source) / "key").read_text() == "1"
    newer = Assignments(configmaps={("default", "cm"): ConfigMap(data={"key": "2"})})
    assert await place.volumes.prepare(pod, newer, AROUND)
    assert not await place.volumes.prepare(pod, newer, AROUND)
    assert (Path(mount.source) / "key").read_text() == "2"


async def test_sub_paths(place: Place, tmp_path: Path) -> None:
    pod = with_volume("made/here")
    pod.spec.volumes[0].volumeSource.emptyDir.SetInParent()
    (mount,) = await place.mounts(pod)
    assert mount.source.endswith("/emptyDir/v/made/here") and Path(mount.source).is_dir()
    root = Path(mount.source).parents[1]
    (root / "evil").symlink_to("/etc")
    pod.spec.containers[0].volumeMounts[0].subPath = "evil"
    with pytest.raises(ConfigError, match="leads out of the volume"):
        await place.mounts(pod)
    pod.spec.containers[0].volumeMounts[0].subPath = "../x"
    with pytest.raises(ConfigError, match="must be relative"):
        await place.mounts(pod)


async def test_sub_path_of_a_configmap_is_one_file(place: Place) -> None:
    pod = with_volume("key")
    pod.spec.volumes[0].volumeSource.configMap.localObjectReference.name = "cm"
    (mount,) = await place.mounts(pod)
    assert Path(mount.source).read_text() == "1"
    pod.spec.containers[0].volumeMounts[0].subPath = "nokey"
    with pytest.raises(ConfigError, match='subPath "nokey" is not in the volume'):
        await place.mounts(pod)


@pytest.mark.parametrize(
    ("kind", "exists", "fault"),
    [
        ("", False, None),
        ("DirectoryOrCreate", False, None),
        ("Directory", True, None),
        ("Directory", False, "does not exist"),
        ("File", True, "is not a File"),
        ("FileOrCreate", False, None),
        ("Socket", True, "is not a Socket"),
        ("Odd", True, "hostPath.type: must be one of"),
    ],
)
async def test_host_path(place: Place, tmp_path: Path, kind: str, exists: bool, fault: str | None) -> None:
    path = tmp_path / "host"
    if exists:
        path.mkdir()
    pod = with_volume()
    pod.spec.volumes[0].volumeSource.hostPath.path = str(path)
    pod.spec.volumes[0].volumeSource.hostPath.type = kind
    if fault is not None:
        with pytest.raises(ConfigError, match=fault):
            await place.mounts(pod)
        return
    create = kind in ("", "DirectoryOrCreate")
    assert await place.mounts(pod) == (Mount("bind", str(path), "/v", create=create),)


async def test_unknown_volume(place: Place) -> None:
    pod = make_pod("a")
    pod.spec.containers[0].volumeMounts.add(name="nope", mountPath="/v")
    with pytest.raises(ConfigError, match='no volume "nope" in the pod'):
        await place.mounts(pod)


async def test_strays_are_removed(place: Place, tmp_path: Path) -> None:
    for uid in ("kept", "stray"):
        (tmp_path / "pods" / uid).mkdir(parents=True)
        await place.runtime.create_memory_volume(f"sampan_c_node_{uid}_v", 0)
    await place.runtime.create_memory_volume("somebody-elses", 0)
    await place.volumes.remove_strays({"kept"})
    assert [p.name for p in (tmp_path / "pods").iterdir()] == ["kept"]
    assert await place.runtime.volumes() == ["sampan_c_node_kept_v", "somebody-elses"]
