"""Manifest files: everything is read and checked before anything is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli import manifests
from common.errors import BadRequest

CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: NAME}\n"
NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata: {name: NAME}\n"


def config(name: str) -> str:
    return CONFIG.replace("NAME", name)


def test_files_folders_documents_and_lists(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(config("one") + "---\n" + config("two") + "---\n")
    (tmp_path / "a.json").write_text('{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "three"}}')
    (tmp_path / "notes.txt").write_text("not a manifest")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "c.yml").write_text(
        "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: four}}\n"
        "- {apiVersion: v1, kind: Secret, metadata: {name: five}}\n"
    )
    assert [item.name for item in manifests.load([str(tmp_path)])] == ["three", "one", "two"]
    found = manifests.load([str(tmp_path)], recursive=True)
    assert [item.name for item in found] == ["three", "one", "two", "four", "five"]
    assert found[2].source == f"{tmp_path}/b.yaml:5"


def test_namespaces_come_first(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(config("a") + "---\n" + NAMESPACE.replace("NAME", "later") + "---\n" + config("b"))
    assert [item.name for item in manifests.load([str(file)])] == ["later", "a", "b"]


def test_all_faults_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("kind: [\n")
    (tmp_path / "b.yaml").write_text(config("x") + "datas: {}\nimmutable: sometimes\n")
    (tmp_path / "c.yaml").write_text("apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: x}\n")
    with pytest.raises(manifests.BadManifests) as caught:
        manifests.load([str(tmp_path)])
    text = str(caught.value)
    assert "nothing was sent" in text
    assert "a.yaml:2:1" in text
    assert "b.yaml:1" in text and 'datas: unknown field, did you mean "data"?' in text and "immutable: " in text
    assert "StatefulSet" in text and "not supported yet" in text


def test_one_fault_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("a: 1\n\tb: 2\n")
    with pytest.raises(manifests.BadManifests, match=r"x\.yaml:2:1: .*nothing was sent$"):
        manifests.load([str(file)])


@pytest.mark.parametrize("name", ["missing.yaml", "https://example.com/x.yaml", "."])
def test_places_without_manifests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadRequest):
        manifests.load([name])


def test_a_given_namespace_must_be_the_objects_own(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: prod}\n")
    items = manifests.load([str(file)])
    manifests.check_namespaces(items, "prod")
    with pytest.raises(BadRequest, match='is in namespace "prod", but -n says "test"'):
        manifests.check_namespaces(items, "test")
    assert items[0].namespace("test") == "prod"
