"""How far a rollout is, in kubectl's words; and the way from revisions to a template."""

from __future__ import annotations

from typing import Any

import pytest

from cli.rollouts import controller, deployment, others
from cli.rollouts.registry import ROLLOUTS, newest_pods, pods_selector
from cli.rollouts.revision import pick
from cli.rollouts.verdict import DONE, FAILED, ROLLED_BACK
from common import kinds
from tests.cli.making import make

TEMPLATE = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a", "image": "web:1"}]}}


def web(condition: dict[str, str] | None = None, **status: Any) -> Any:
    return make(
        "Deployment",
        metadata={"name": "web", "generation": 2, "uid": "u"},
        spec={"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": TEMPLATE},
        status={"observedGeneration": 2, "conditions": [condition] if condition else [], **status},
    )


FULL: dict[str, Any] = {"updatedReplicas": 3, "replicas": 3, "availableReplicas": 3}


@pytest.mark.parametrize(
    ("obj", "code", "text"),
    [
        (web(observedGeneration=1), None, "Waiting for deployment spec update to be observed..."),
        (web(updatedReplicas=1), None, "1 out of 3 new replicas have been updated..."),
        (web(updatedReplicas=3, replicas=4), None, "1 old replicas are pending termination..."),
        (web(updatedReplicas=3, replicas=3, availableReplicas=2), None, "2 of 3 updated replicas are available..."),
        (web(**FULL), DONE, 'deployment "web" successfully rolled out'),
        (
            web({"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}, updatedReplicas=1),
            FAILED,
            'deployment "web" exceeded its progress deadline',
        ),
        (
            web(
                {"type": "RolledBack", "status": "True", "reason": "X", "message": "revision 2 was rolled back"}, **FULL
            ),
            ROLLED_BACK,
            'deployment "web": revision 2 was rolled back',
        ),
    ],
)
def test_deployments(obj: Any, code: int | None, text: str) -> None:
    found = deployment.verdict(obj)
    assert found.code == code and found.text.endswith(text)


def test_daemon_sets() -> None:
    def found(**status: int) -> Any:
        return others.daemon_set(
            make("DaemonSet", metadata={"name": "logs"}, status={"desiredNumberScheduled": 2, **status})
        )

    assert found(updatedNumberScheduled=1).text.endswith("1 out of 2 new pods have been updated...")
    assert found(updatedNumberScheduled=2, numberAvailable=1).text.endswith("1 of 2 updated pods are available...")
    assert found(updatedNumberScheduled=2, numberAvailable=2).code == DONE


def test_controllers_of_replicas() -> None:
    rc = make("ReplicationController", metadata={"name": "web"}, spec={"replicas": 2})
    assert controller.verdict(rc).code is None
    rc.status.replicas = rc.status.availableReplicas = 2
    assert controller.verdict(rc).code == DONE
    rc.status.conditions.add(type="OutdatedPods", status="True", message="1 of 2 pods are of an older template")
    assert "1 of 2 pods" in controller.verdict(rc).text
    rs = make("ReplicaSet", metadata={"name": "web"}, spec={"replicas": 1}, status={"replicas": 1})
    assert "0 of 1 replicas are available" in others.replicas(rs).text


def test_pods_and_jobs() -> None:
    assert others.pod(make("Pod", status={"phase": "Failed"})).code == FAILED
    assert others.pod(make("Pod", status={"phase": "Succeeded"})).code == DONE
    assert others.pod(make("Pod", status={"conditions": [{"type": "Ready", "status": "True"}]})).code == DONE
    assert others.pod(make("Pod")).code is None
    failed = [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "too often"}]
    assert others.job(make("Job", status={"conditions": failed})).code == FAILED
    assert others.job(make("Job", status={"conditions": [{"type": "Complete", "status": "True"}]})).code == DONE
    assert others.job(make("Job")).code is None


def test_every_rollout_is_of_a_kind() -> None:
    assert set(ROLLOUTS) <= {kind.kind for kind in kinds.KINDS}


def replica_set(name: str, revision: int, image: str, owner: str = "u", cause: str = "") -> Any:
    labels = {"app": "web", "pod-template-hash": name}
    annotations = {"deployment.kubernetes.io/revision": str(revision)} | (
        {"kubernetes.io/change-cause": cause} if cause else {}
    )
    return make(
        "ReplicaSet",
        metadata={
            "name": name,
            "uid": f"u-{name}",
            "annotations": annotations,
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": owner, "controller": True}
            ],
        },
        spec={
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": image}]}},
        },
    )


def test_revisions() -> None:
    obj: Any = web()
    first: Any = replica_set("a", 1, "web:0", cause="the first")
    second, foreign = replica_set("b", 2, "web:1"), replica_set("c", 9, "web:1", owner="x")
    mine: list[Any] = deployment.owned(obj, [second, foreign, first])
    assert mine == [first, second]
    assert deployment.newest_set(obj, mine) == second
    found = deployment.revisions(obj, [second, foreign, first])
    assert [(one.number, one.cause) for one in found] == [(1, "the first"), (2, "")]
    assert pick(found, 0) == found[0] and pick(found, 2) == found[1]
    assert pick(found, 7) is None and pick(found[1:], 0) is None
    found[0].put_back(obj)
    assert obj.spec.template.spec.containers[0].image == "web:0"
    assert "pod-template-hash" not in obj.spec.template.metadata.labels
    assert obj.metadata.annotations["kubernetes.io/change-cause"] == "the first"
    found[1].put_back(obj)
    assert "kubernetes.io/change-cause" not in obj.metadata.annotations


def test_the_pods_a_rollout_waits_for() -> None:
    obj, new, old = web(), replica_set("b", 2, "web:1"), replica_set("a", 1, "web:0")

    def pod(name: str, owner: str) -> Any:
        references = [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "uid": owner, "controller": True}]
        return make("Pod", metadata={"name": name, "ownerReferences": references})

    fresh, stale = pod("fresh", "u-b"), pod("stale", "u-a")
    assert newest_pods(obj, [fresh, stale], [old, new]) == [fresh]
    assert newest_pods(old, [fresh, stale], []) == [stale]
    assert pods_selector(obj) == "app=web" and pods_selector(make("Pod")) == ""
