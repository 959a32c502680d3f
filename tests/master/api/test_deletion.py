"""What a delete does to an object, without a store."""

from __future__ import annotations

import pytest

from common.errors import BadRequest, Forbidden
from common.kinds import CONFIG_MAP, NAMESPACE, POD, REPLICATION_CONTROLLER
from master.api.deletion import Going, Gone, check_request, finished, plan_delete, pod_grace
from protos import core_pb2
from tests.master.api.making import RC, config, pod, read


@pytest.mark.parametrize(
    ("node", "phase", "own", "asked", "grace"),
    [
        ("n1", "Running", 30, None, 30),
        ("n1", "Running", 30, 5, 5),
        ("n1", "Running", 30, 90, 90),
        ("n1", "Running", 30, 0, 0),
        ("n1", "Running", 30, -1, 1),
        ("n1", "Running", 0, None, 0),
        ("n1", "Pending", 30, None, 30),
        ("", "Pending", 30, None, 0),
        ("n1", "Succeeded", 30, None, 0),
        ("n1", "Failed", 30, 10, 0),
    ],
)
def test_a_pods_grace(node: str, phase: str, own: int, asked: int | None, grace: int) -> None:
    given = pod(nodeName=node, terminationGracePeriodSeconds=own)
    given.status.phase = phase
    assert pod_grace(given, asked) == grace
    plan = plan_delete(given, POD, grace_seconds=asked, policy="Background", dependents=(), now=1000.5)
    if grace == 0:
        assert plan == Gone()
        return
    assert isinstance(plan, Going)
    assert plan.obj.metadata.deletionTimestamp.seconds == 1000 + grace
    assert not finished(plan.obj, POD)


def test_namespaces_are_emptied_first() -> None:
    namespace = core_pb2.Namespace(metadata=core_pb2.ObjectMeta(name="shop"))
    namespace.spec.finalizers.append("kubernetes")
    plan = plan_delete(namespace, NAMESPACE, grace_seconds=0, policy="Background", dependents=(), now=5)
    assert isinstance(plan, Going) and plan.obj.status.phase == "Terminating"
    assert not finished(plan.obj, NAMESPACE)
    del plan.obj.spec.finalizers[:]
    assert finished(plan.obj, NAMESPACE)
    again = plan_delete(plan.obj, NAMESPACE, grace_seconds=None, policy="Background", dependents=(), now=6)
    assert again == Gone()


def test_propagation() -> None:
    rc, child = read(RC), pod()
    rc.metadata.uid = "u1"
    child.metadata.ownerReferences.add(kind="ReplicationController", name="web", uid="u1")
    child.metadata.ownerReferences.add(kind="ConfigMap", name="c", uid="u2")

    def plan(policy: str, *dependents: core_pb2.Pod) -> Going | Gone:
        return plan_delete(rc, REPLICATION_CONTROLLER, grace_seconds=None, policy=policy, dependents=dependents, now=1)

    assert plan("Background", child) == plan("Foreground") == plan("Orphan") == Gone()
    foreground = plan("Foreground", child)
    assert isinstance(foreground, Going) and list(foreground.obj.metadata.finalizers) == ["foregroundDeletion"]
    orphan = plan("Orphan", child)
    assert isinstance(orphan, Gone)
    assert [owner.uid for owner in orphan.orphans[0].metadata.ownerReferences] == ["u2"]
    assert len(child.metadata.ownerReferences) == 2


def test_finalizers_hold_an_object() -> None:
    given = config("c")
    given.metadata.finalizers.append("example.com/x")
    plan = plan_delete(given, CONFIG_MAP, grace_seconds=None, policy="Background", dependents=(), now=1)
    assert isinstance(plan, Going) and not finished(plan.obj, CONFIG_MAP)
    del plan.obj.metadata.finalizers[:]
    assert finished(plan.obj, CONFIG_MAP)
    assert not finished(config("c"), CONFIG_MAP)


def test_requests_that_are_refused() -> None:
    assert check_request(POD, "web", "") == "Background"
    with pytest.raises(BadRequest, match="Background, Foreground, Orphan"):
        check_request(POD, "web", "background")
    with pytest.raises(Forbidden):
        check_request(NAMESPACE, "kube-system", "")
