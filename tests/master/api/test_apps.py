"""ReplicaSets and Deployments: Kubernetes' defaults, its rules, and what may not change."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from common import manifest
from master.api.defaults import apply_defaults
from master.api.validation import validate
from master.store.store import clone
from protos import apps_pb2

WEB = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web"},
    "spec": {
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "app", "image": "web:1"}]},
        },
    },
}


def deployment() -> apps_pb2.Deployment:
    found = manifest.from_manifest(WEB).message
    assert isinstance(found, apps_pb2.Deployment)
    apply_defaults(found)
    return found


def test_defaults() -> None:
    spec = deployment().spec
    assert (spec.replicas, spec.revisionHistoryLimit, spec.progressDeadlineSeconds) == (1, 10, 600)
    assert spec.strategy.type == "RollingUpdate"
    assert spec.strategy.rollingUpdate.maxSurge.strVal == spec.strategy.rollingUpdate.maxUnavailable.strVal == "25%"
    assert spec.template.spec.restartPolicy == "Always"
    again = deployment()
    apply_defaults(again)
    assert again == deployment() and validate(again) == ()
    recreate = deployment()
    recreate.spec.strategy.Clear()
    recreate.spec.strategy.type = "Recreate"
    apply_defaults(recreate)
    assert not recreate.spec.strategy.HasField("rollingUpdate") and validate(recreate) == ()
    rs = apps_pb2.ReplicaSet(metadata=recreate.metadata)
    rs.spec.selector.CopyFrom(recreate.spec.selector)
    rs.spec.template.CopyFrom(recreate.spec.template)
    apply_defaults(rs)
    assert rs.spec.replicas == 1 and validate(rs) == ()


def _strategy(found: apps_pb2.Deployment, surge: str | int, unavailable: str | int) -> None:
    rolling = found.spec.strategy.rollingUpdate
    for field, value in ((rolling.maxSurge, surge), (rolling.maxUnavailable, unavailable)):
        field.Clear()
        if isinstance(value, int):
            field.intVal = value
        else:
            field.type, field.strVal = 1, value


def _recreate(found: apps_pb2.Deployment) -> None:
    found.spec.strategy.type = "Recreate"


def _expression(found: apps_pb2.Deployment) -> None:
    found.spec.selector.matchExpressions.add(key="tier", operator="In", values=["front"])


CHANGES: list[tuple[Callable[[apps_pb2.Deployment], object], str]] = [
    (lambda d: setattr(d.spec, "replicas", -1), "spec.replicas: must be 0 or more, got -1"),
    (lambda d: d.spec.selector.Clear(), "spec.selector: is required"),
    (lambda d: d.spec.template.metadata.labels.update(app="other"), "spec.template.metadata.labels: must match"),
    (_expression, "spec.template.metadata.labels: must match the selector app=web,tier=front"),
    (lambda d: setattr(d.spec.template.spec, "restartPolicy", "Never"), "must be Always in a Deployment"),
    (lambda d: setattr(d.spec.template.spec, "activeDeadlineSeconds", 5), "must not be set in a Deployment"),
    (lambda d: d.spec.ClearField("template"), "spec.template: is required"),
    (lambda d: _strategy(d, 0, 0), "maxUnavailable: must not be 0 where maxSurge is 0"),
    (lambda d: _strategy(d, "0%", 0), "maxUnavailable: must not be 0 where maxSurge is 0"),
    (lambda d: _strategy(d, 1, "101%"), "maxUnavailable: must be at most 100%, got 101%"),
    (lambda d: _strategy(d, "many", 1), "maxSurge: must be a number or a percentage (like 1 or 25%), got 'many'"),
    (lambda d: _strategy(d, -1, 1), "maxSurge: must be 0 or more, got -1"),
    (_recreate, "spec.strategy.rollingUpdate: must be left out where type is Recreate"),
    (lambda d: setattr(d.spec.strategy, "type", "BlueGreen"), "must be one of RollingUpdate, Recreate"),
    (lambda d: setattr(d.spec, "minReadySeconds", 600), "must be greater than minReadySeconds (600), got 600"),
    (lambda d: setattr(d.spec, "revisionHistoryLimit", -1), "spec.revisionHistoryLimit: must be 0 or more"),
]


@pytest.mark.parametrize(("change", "fault"), CHANGES)
def test_rules(change: Callable[[apps_pb2.Deployment], object], fault: str) -> None:
    found = deployment()
    change(found)
    said = [str(one) for one in validate(found)]
    assert any(fault in one for one in said), said


def test_surge_may_be_any_percentage() -> None:
    found = deployment()
    _strategy(found, "300%", 0)
    assert validate(found) == ()


def test_the_selector_never_changes() -> None:
    old = deployment()
    new = clone(old)
    new.spec.selector.matchLabels["tier"] = "front"
    new.spec.template.metadata.labels["tier"] = "front"
    assert [fault.path for fault in validate(new, old)] == ["spec.selector"]
