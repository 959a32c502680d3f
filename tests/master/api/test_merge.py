"""The three-way merge: what apply keeps, adds and takes away."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from master.api.merge import three_way
from protos import core_pb2

RC = core_pb2.ReplicationController.DESCRIPTOR
POD = core_pb2.Pod.DESCRIPTOR
SERVICE = core_pb2.Service.DESCRIPTOR


def test_what_others_set_stays_and_what_was_taken_out_goes() -> None:
    last = {"spec": {"selector": {"a": "1", "b": "2"}, "minReadySeconds": 5}}
    new = {"spec": {"selector": {"a": "9"}}}
    live = {"spec": {"selector": {"a": "1", "b": "2", "c": "3"}, "minReadySeconds": 5, "replicas": 7}}
    assert three_way(RC, last, new, live) == {"spec": {"selector": {"a": "9", "c": "3"}, "replicas": 7}}


def test_containers_are_merged_by_name() -> None:
    last = {"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "gone", "image": "1"}]}}
    new = {"spec": {"containers": [{"name": "new", "image": "1"}, {"name": "a", "image": "2"}]}}
    live = {
        "spec": {
            "containers": [
                {"name": "a", "image": "1", "imagePullPolicy": "Always"},
                {"name": "gone", "image": "1"},
                {"name": "injected", "image": "1"},
            ]
        }
    }
    assert three_way(POD, last, new, live)["spec"]["containers"] == [
        {"name": "new", "image": "1"},
        {"name": "a", "image": "2", "imagePullPolicy": "Always"},
        {"name": "injected", "image": "1"},
    ]


def test_other_lists_are_replaced() -> None:
    def containers(*command: str) -> dict[str, Any]:
        return {"spec": {"containers": [{"name": "a", "command": list(command)}]}}

    assert three_way(POD, containers("x"), containers("y"), containers("x", "z")) == containers("y")


def test_ports_and_node_ports() -> None:
    new = {"spec": {"ports": [{"port": 80, "name": "web"}]}}
    live = {"spec": {"ports": [{"port": 80, "protocol": "TCP", "nodePort": 30001}]}}
    merged = three_way(SERVICE, new, new, live)
    assert merged["spec"]["ports"] == [{"port": 80, "name": "web", "protocol": "TCP", "nodePort": 30001}]
    twins = {"spec": {"ports": [{"port": 53, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}}
    assert three_way(SERVICE, {}, twins, live) == twins


def test_a_volume_is_of_the_sort_written_last() -> None:
    live = {"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}
    new = {"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}}
    assert three_way(POD, {}, new, live) == new


def test_finalizers_are_a_set() -> None:
    last = {"metadata": {"finalizers": ["a.b/1", "a.b/2"]}}
    new = {"metadata": {"finalizers": ["a.b/3", "a.b/1"]}}
    live = {"metadata": {"finalizers": ["a.b/1", "a.b/2", "x.y/z"]}}
    assert three_way(POD, last, new, live)["metadata"]["finalizers"] == ["a.b/3", "a.b/1", "x.y/z"]


names = st.sampled_from(["a", "b", "c", "d"])
words = st.sampled_from(["1", "2", "3"])
maps = st.dictionaries(names, words, max_size=4)
env: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries({"name": names}, optional={"value": words})
port: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"containerPort": st.integers(1, 4)}, optional={"name": words}
)
ports = st.lists(port, max_size=3)
container: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"name": names},
    optional={
        "image": words,
        "command": st.lists(words, max_size=2),
        "ports": ports,
        "env": st.lists(env, max_size=3, unique_by=lambda item: str(item["name"])),
    },
)
metadata: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries({}, optional={"labels": maps, "annotations": maps})
containers = st.lists(container, max_size=3, unique_by=lambda item: str(item["name"]))
spec: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {}, optional={"nodeSelector": maps, "restartPolicy": words, "containers": containers}
)
pods: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries({}, optional={"metadata": metadata, "spec": spec})


@settings(max_examples=150, deadline=None)
@given(pods, pods, pods)
def test_applying_again_changes_nothing(last: Any, new: Any, live: Any) -> None:
    once = three_way(POD, last, new, live)
    assert three_way(POD, new, new, once) == once


@settings(max_examples=150, deadline=None)
@given(pods, pods, pods)
def test_what_is_written_holds(last: Any, new: Any, live: Any) -> None:
    merged = three_way(POD, last, new, live)
    labels = new.get("metadata", {}).get("labels", {})
    assert labels.items() <= merged.get("metadata", {}).get("labels", {}).items()
    for wanted in new.get("spec", {}).get("containers", []):
        (there,) = [item for item in merged["spec"]["containers"] if item["name"] == wanted["name"]]
        for scalar in ("image", "command"):
            assert scalar not in wanted or there[scalar] == wanted[scalar]


@settings(max_examples=150, deadline=None)
@given(pods, pods, maps)
def test_what_was_taken_out_goes_and_others_stay(last: Any, new: Any, others: dict[str, str]) -> None:
    # Live: what was applied, and labels that others added since.
    foreign = {f"x-{key}": value for key, value in others.items()}
    live = three_way(POD, {}, last, {"metadata": {"labels": foreign}})
    merged = three_way(POD, last, new, live).get("metadata", {}).get("labels", {})
    if "metadata" in last and "metadata" not in new:
        # The whole section was taken out; a stored object always has one, so this is a merge of bare documents.
        return
    wanted = new.get("metadata", {}).get("labels", {})
    assert merged == {**foreign, **wanted}
