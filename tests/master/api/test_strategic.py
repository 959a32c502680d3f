"""Strategic merge patches: keyed lists, directives, and what makes no sense."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import Invalid
from master.api.strategic import strategic
from protos import core_pb2

POD = core_pb2.Pod.DESCRIPTOR
SERVICE = core_pb2.Service.DESCRIPTOR
LIVE = {
    "metadata": {"name": "web", "labels": {"a": "1", "b": "2"}, "finalizers": ["x/one", "x/two"]},
    "spec": {
        "containers": [
            {"name": "app", "image": "app:1", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
            {"name": "log", "image": "log:1", "args": ["-v"]},
        ]
    },
}


def patched(patch: dict[str, Any]) -> dict[str, Any]:
    return strategic(POD, LIVE, patch)


def test_containers_and_variables_are_merged_by_name() -> None:
    patch = {"spec": {"containers": [{"name": "app", "image": "app:2", "env": [{"name": "B", "value": "9"}]}]}}
    app, log = patched(patch)["spec"]["containers"]
    assert app == {
        "name": "app",
        "image": "app:2",
        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "9"}],
    }
    assert log == LIVE["spec"]["containers"][1]  # type: ignore[index]


def test_lists_without_a_key_are_replaced() -> None:
    log = patched({"spec": {"containers": [{"name": "log", "args": ["-q"]}]}})["spec"]["containers"][1]
    assert log["args"] == ["-q"]


def test_null_removes_and_maps_merge() -> None:
    assert patched({"metadata": {"labels": {"a": None, "c": "3"}}})["metadata"]["labels"] == {"b": "2", "c": "3"}


def test_an_item_is_deleted_by_directive() -> None:
    patch = {"spec": {"containers": [{"name": "log", "$patch": "delete"}]}}
    assert [one["name"] for one in patched(patch)["spec"]["containers"]] == ["app"]


def test_a_list_is_replaced_by_directive() -> None:
    patch = {"spec": {"containers": [{"$patch": "replace"}, {"name": "only", "image": "x"}]}}
    assert patched(patch)["spec"]["containers"] == [{"name": "only", "image": "x"}]


def test_a_map_is_replaced_by_directive() -> None:
    patch = {"metadata": {"labels": {"$patch": "replace", "z": "1"}}}
    assert patched(patch)["metadata"]["labels"] == {"z": "1"}


def test_keys_are_retained_by_directive() -> None:
    patch = {"metadata": {"$retainKeys": ["name", "labels"], "labels": {"n": "1"}}}
    assert patched(patch)["metadata"] == {"name": "web", "labels": {"a": "1", "b": "2", "n": "1"}}


def test_primitives_are_added_and_deleted() -> None:
    added = patched({"metadata": {"finalizers": ["x/three"]}})["metadata"]["finalizers"]
    assert sorted(added) == ["x/one", "x/three", "x/two"]
    gone = patched({"metadata": {"$deleteFromPrimitiveList/finalizers": ["x/one"]}})["metadata"]["finalizers"]
    assert gone == ["x/two"]


def test_the_order_is_as_asked() -> None:
    patch = {
        "spec": {
            "$setElementOrder/containers": [{"name": "new"}, {"name": "log"}, {"name": "app"}],
            "containers": [{"name": "new", "image": "n"}],
        }
    }
    assert [one["name"] for one in patched(patch)["spec"]["containers"]] == ["new", "log", "app"]


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        ({"spec": {"$patch": "swap"}}, "spec.$patch: must be replace, merge or delete"),
        ({"spec": {"containers": [{"image": "x"}]}}, "spec.containers[0].name: is required"),
        ({"spec": {"containers": ["x"]}}, "spec.containers: its items must be mappings"),
        ({"metadata": {"$retainKeys": "name"}}, "metadata.$retainKeys: must be a list"),
    ],
)
def test_what_makes_no_sense_is_named(patch: dict[str, Any], words: str) -> None:
    with pytest.raises(Invalid) as caught:
        patched(patch)
    assert words in str(caught.value)


NAMES = st.sampled_from(["a", "b", "c", "d"])
CONTAINERS = st.lists(
    st.builds(lambda name, image: {"name": name, "image": image}, NAMES, st.sampled_from(["1", "2", "3"])),
    max_size=4,
    unique_by=lambda one: one["name"],
)


@settings(deadline=None, max_examples=200)
@given(CONTAINERS, CONTAINERS)
def test_a_patch_wins_where_it_speaks_and_nothing_else_changes(live: list[Any], patch: list[Any]) -> None:
    once = strategic(POD, {"spec": {"containers": live}}, {"spec": {"containers": patch}})
    found = {one["name"]: one["image"] for one in once["spec"]["containers"]}
    assert found == {one["name"]: one["image"] for one in live} | {one["name"]: one["image"] for one in patch}
    assert strategic(POD, once, {"spec": {"containers": patch}}) == once
