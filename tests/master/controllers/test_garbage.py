"""What goes when something else went."""

from __future__ import annotations

from typing import Any

from master.controllers.garbage import (
    FOREGROUND,
    reconcile_finished,
    reconcile_lost,
    reconcile_namespace,
    reconcile_owner,
    reconcile_unheld,
)
from master.controllers.plan import NOTHING, Change, Delete, Plan, Release
from protos import core_pb2, meta_pb2
from tests.master.controllers.builders import NOW, pod, rc, reference


def deleted(plan: Plan) -> list[str]:
    return sorted(action.key[2] for action in plan.actions if isinstance(action, Delete))


def gone(reference: meta_pb2.OwnerReference, namespace: str) -> Any | None:
    return None


def namespace(*, terminating: bool = True) -> core_pb2.Namespace:
    made = core_pb2.Namespace()
    made.metadata.name, made.metadata.uid = "old", "uid-old"
    made.spec.finalizers.append("kubernetes")
    if terminating:
        made.metadata.deletionTimestamp.FromSeconds(1)
    return made


def test_a_terminating_namespace_is_emptied_then_let_go() -> None:
    going = pod("going", namespace="old", node="n", terminating=True)
    plan = reconcile_namespace(namespace(), [pod("a", namespace="old"), going])
    assert deleted(plan) == ["a"]
    assert [action.grace for action in plan.actions if isinstance(action, Delete)] == [None]
    assert reconcile_namespace(namespace(), [going]) == Plan()
    (release,) = reconcile_namespace(namespace(), []).actions
    assert isinstance(release, Release) and release.finalizer == "kubernetes"
    assert reconcile_namespace(namespace(terminating=False), [pod("a")]) == NOTHING


def test_dependents_go_with_their_owner() -> None:
    web = rc("web", 1)
    pods = [pod("a", owner=web), pod("b", owner=web, terminating=True)]
    assert deleted(reconcile_owner(web.metadata.uid, None, pods, gone)) == ["a"]
    assert reconcile_owner(web.metadata.uid, web, pods, gone) == NOTHING


def test_a_second_owner_keeps_the_dependent() -> None:
    web, other = rc("web", 1), rc("other", 1)
    shared = pod("shared", owner=web)
    shared.metadata.ownerReferences.append(reference(other))
    plan = reconcile_owner(web.metadata.uid, None, [shared], lambda ref, ns: other)
    (change,) = plan.actions
    assert isinstance(change, Change)
    change.change(shared)
    assert [owner.uid for owner in shared.metadata.ownerReferences] == [other.metadata.uid]


def test_foreground_the_owner_goes_after_those_that_block_it() -> None:
    web = rc("web", 1)
    web.metadata.deletionTimestamp.FromSeconds(1)
    web.metadata.finalizers.append(FOREGROUND)
    blocking, loose = pod("blocking", owner=web, node="n"), pod("loose", owner=web, node="n")
    loose.metadata.ownerReferences[0].blockOwnerDeletion = False
    first = reconcile_owner(web.metadata.uid, web, [blocking, loose], gone)
    assert deleted(first) == ["blocking", "loose"]
    assert not any(isinstance(action, Release) for action in first.actions)
    blocking.metadata.deletionTimestamp.FromSeconds(1)
    assert reconcile_owner(web.metadata.uid, web, [blocking], gone) == Plan()
    last = reconcile_owner(web.metadata.uid, web, [loose], gone)
    assert any(isinstance(action, Release) and action.finalizer == FOREGROUND for action in last.actions)


def test_pods_of_a_node_that_is_no_more_are_removed_but_young_ones_wait() -> None:
    plan = reconcile_lost(False, [pod("old", node="x"), pod("young", node="x", created=NOW - 5)], NOW)
    assert deleted(plan) == ["old"]
    assert plan.again == 15
    assert [action.grace for action in plan.actions if isinstance(action, Delete)] == [0]
    assert reconcile_lost(True, [pod("old", node="x")], NOW) == NOTHING


def test_a_terminating_pod_that_no_node_got_is_removed() -> None:
    assert deleted(reconcile_unheld(pod("a", terminating=True))) == ["a"]
    assert reconcile_unheld(pod("a", terminating=True, node="n")) == NOTHING
    assert reconcile_unheld(pod("a")) == NOTHING
    assert reconcile_unheld(None) == NOTHING


def test_the_oldest_finished_pods_go_beyond_the_limit() -> None:
    pods = [pod(f"p{i}", phase="Failed" if i % 2 else "Succeeded", created=NOW - i) for i in range(5)]
    pods.append(pod("running", phase="Running", node="n"))
    assert deleted(reconcile_finished(pods, limit=3)) == ["p3", "p4"]
    assert reconcile_finished(pods, limit=5) == NOTHING
