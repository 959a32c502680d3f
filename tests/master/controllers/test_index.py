"""The index names every candidate, whatever came before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from master.controllers.index import TRACKING, Index
from master.store.store import key_of
from protos import policy_pb2
from tests.master.controllers.builders import pod, rc, service

LABELS = st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy"), max_size=3)


@given(
    st.lists(st.tuples(st.integers(0, 5), LABELS, st.sampled_from(["", "n1", "n2"]), st.booleans()), max_size=20),
    st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy"), min_size=1),
)
def test_nothing_is_missed(steps: list[tuple[int, dict[str, str], str, bool]], selector: dict[str, str]) -> None:
    index, pods = Index(), {}
    index.put(service("svc", selector, {"": 80}))
    owner = rc("owner", 1)
    for number, labels, node, keep in steps:
        made = pod(f"p{number}", labels=labels, node=node, owner=owner if node else None)
        if keep:
            pods[key_of(made)] = made
            index.put(made)
        else:
            pods.pop(key_of(made), None)
            index.remove(key_of(made))
    found = index.selected("default", selector)
    assert found == sorted(found)
    for key, made in pods.items():
        matches = all(made.metadata.labels.get(name) == value for name, value in selector.items())
        assert key in found or not matches
        assert not matches or index.selectors_of("Service", "default", made.metadata.labels)
    assert set(found) <= set(pods)
    for node in ("n1", "n2"):
        assert index.pods_on.get(node) == {key for key, made in pods.items() if made.spec.nodeName == node}
    assert index.dependents.get(owner.metadata.uid) == {key for key, made in pods.items() if made.spec.nodeName}


def test_budgets_are_found_by_their_pods_and_an_empty_selector_by_all() -> None:
    def budget(name: str, labels: dict[str, str] | None) -> policy_pb2.PodDisruptionBudget:
        pdb = policy_pb2.PodDisruptionBudget()
        pdb.metadata.name, pdb.metadata.namespace = name, "default"
        if labels is not None:
            pdb.spec.selector.SetInParent()
            pdb.spec.selector.matchLabels.update(labels)
        return pdb

    index = Index([budget("web", {"app": "web"}), budget("all", {}), budget("none", None)])

    def found(**labels: str) -> list[str]:
        return [key[2] for key in index.selectors_of("PodDisruptionBudget", "default", labels)]

    assert found(app="web") == ["all", "web"] and found(app="db") == found() == ["all"]


def test_pods_that_a_job_has_not_counted_are_known() -> None:
    made = pod("p")
    made.metadata.finalizers.append(TRACKING)
    index = Index([made, pod("q")])
    assert index.tracked.get("") == {key_of(made)}
    made.metadata.finalizers.remove(TRACKING)
    index.put(made)
    assert not index.tracked.get("")
