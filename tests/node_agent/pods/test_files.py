"""What is in written volumes, and how it gets there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_agent.pods.atomic import write_files
from node_agent.pods.env import Surroundings
from node_agent.pods.files import File, Files, checked_path, files_of
from node_agent.pods.model import Assignments, ConfigError
from protos.core_pb2 import ConfigMap, Secret, Volume
from tests.node_agent.pods.build import make_pod

AROUND = Surroundings("node-1", "192.0.2.1", "10.0.0.2", {"cpu": "4"})
KNOWN = Assignments(
    configmaps={("default", "cm"): ConfigMap(data={"a": "1", "b": "2"}, binaryData={"raw": b"\xff"})},
    secrets={("default", "sec"): Secret(data={"pw": b"hush"})},
)


def files(volume: Volume) -> Files:
    pod = make_pod("a")
    pod.metadata.labels["app"] = 'we"b'
    pod.spec.containers[0].resources.requests["cpu"].value = "250m"
    return files_of(pod, volume, KNOWN, AROUND)


def test_whole_configmap() -> None:
    volume = Volume(name="v")
    volume.volumeSource.configMap.localObjectReference.name = "cm"
    assert files(volume) == {"a": File(b"1", 0o644), "b": File(b"2", 0o644), "raw": File(b"\xff", 0o644)}


def test_items_and_modes() -> None:
    volume = Volume(name="v")
    source = volume.volumeSource.secret
    source.secretName, source.defaultMode = "sec", 0o400
    source.items.add(key="pw", path="deep/password")
    assert files(volume) == {"deep/password": File(b"hush", 0o400)}
    source.items.add(key="gone", path="x")
    with pytest.raises(ConfigError, match='volume "v": couldn\'t find key "gone" in secret default/sec'):
        files(volume)
    source.optional = True
    source.items[0].mode = 0o440
    assert files(volume) == {"deep/password": File(b"hush", 0o440)}


def test_missing_object() -> None:
    volume = Volume(name="v")
    volume.volumeSource.configMap.localObjectReference.name = "gone"
    with pytest.raises(ConfigError, match='volume "v": configmap "gone" not found in namespace default'):
        files(volume)
    volume.volumeSource.configMap.optional = True
    assert files(volume) == {}


def test_projected() -> None:
    volume = Volume(name="v")
    sources = volume.volumeSource.projected.sources
    sources.add().configMap.localObjectReference.name = "cm"
    sources.add().secret.localObjectReference.name = "sec"
    downward = sources.add().downwardAPI.items
    downward.add(path="labels").fieldRef.fieldPath = "metadata.labels"
    cpu = downward.add(path="cpu", mode=0o600)
    cpu.resourceFieldRef.containerName, cpu.resourceFieldRef.resource = "a", "requests.cpu"
    cpu.resourceFieldRef.divisor.value = "1m"
    found = files(volume)
    assert set(found) == {"a", "b", "raw", "pw", "labels", "cpu"}
    assert found["labels"].content == b'app="we\\"b"'
    assert found["cpu"] == File(b"250", 0o600)


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../../x", "", "..data", "..x/y"])
def test_paths_stay_inside(path: str) -> None:
    with pytest.raises(ConfigError):
        checked_path(path, "here")


def test_layout_is_that_of_kubernetes(tmp_path: Path) -> None:
    assert write_files(tmp_path, {"a": File(b"1", 0o644), "d/x": File(b"2", 0o400)})
    assert (tmp_path / "a").read_bytes() == b"1"
    assert os.readlink(tmp_path / "a") == "..data/a"
    assert os.readlink(tmp_path / "d") == "..data/d"
    assert (tmp_path / "d" / "x").stat().st_mode & 0o777 == 0o400
    assert not write_files(tmp_path, {"a": File(b"1", 0o644), "d/x": File(b"2", 0o400)})


def test_update_swaps_everything_at_once(tmp_path: Path) -> None:
    write_files(tmp_path, {"a": File(b"1", 0o644), "b": File(b"1", 0o644)})
    old = os.readlink(tmp_path / "..data")
    held = (tmp_path / "a").open("rb")
    assert write_files(tmp_path, {"a": File(b"2", 0o644), "c": File(b"2", 0o644)})
    assert os.readlink(tmp_path / "..data") != old
    assert held.read() == b"1"
    held.close()
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith("..")) == ["a", "c"]
    assert (tmp_path / "a").read_bytes() == b"2"
    assert len([p for p in tmp_path.iterdir() if p.name.startswith("..")]) == 2


NAMES = st.sampled_from(["a", "b", "c/d", "c/e"])
CONTENTS = st.dictionaries(NAMES, st.builds(File, st.binary(max_size=4), st.sampled_from([0o644, 0o400])))


@given(st.lists(CONTENTS, min_size=1, max_size=4))
def test_last_write_is_what_is_read(tmp_path_factory: pytest.TempPathFactory, writes: list[Files]) -> None:
    directory = tmp_path_factory.mktemp("volume")
    for one in writes:
        write_files(directory, one)
        found = {
            str(p.relative_to(directory)): p.read_bytes()
            for name in ("a", "b", "c/d", "c/e")
            if (p := directory / name).is_file()
        }
        assert found == {path: file.content for path, file in one.items()}
