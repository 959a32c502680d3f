"""Defaults and faults of DaemonSets, Jobs and PodDisruptionBudgets, each under its field's path."""

from __future__ import annotations

from typing import Any

import pytest

from common import manifest, yamldoc
from master.api.defaults import apply_defaults
from master.api.defaults.job import add_selector
from master.api.validation import validate
from master.store.store import clone

DS = """
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: logs, namespace: default}
spec:
  selector: {matchLabels: {app: logs}}
  template:
    metadata: {labels: {app: logs}}
    spec: {containers: [{name: main, image: "logs:1"}]}
"""
JOB = """
apiVersion: batch/v1
kind: Job
metadata: {name: pi, namespace: default}
spec:
  template:
    spec: {restartPolicy: Never, containers: [{name: pi, image: perl}]}
"""
PDB = """
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: zk, namespace: default}
spec: {selector: {matchLabels: {app: zk}}}
"""


def made(text: str, **spec: Any) -> Any:
    """The object with its defaults; keyword arguments are fields of its spec, as in a manifest."""
    (document,) = yamldoc.load(text)
    document.value["spec"].update(spec)
    message: Any = manifest.from_manifest(document.value).message
    apply_defaults(message)
    if document.value["kind"] == "Job":
        message.metadata.uid = "u"
        add_selector(message)
    return message


def faults(obj: Any, old: Any = None) -> list[str]:
    return [str(fault) for fault in validate(obj, old)]


def test_defaults() -> None:
    ds = made(DS)
    assert (ds.spec.updateStrategy.type, ds.spec.revisionHistoryLimit) == ("RollingUpdate", 10)
    rolling = manifest.to_manifest(ds)["spec"]["updateStrategy"]["rollingUpdate"]
    assert rolling == {"maxSurge": 0, "maxUnavailable": 1}
    job = made(JOB)
    assert (job.spec.completions, job.spec.parallelism, job.spec.backoffLimit) == (1, 1, 6)
    assert (job.spec.completionMode, job.spec.suspend) == ("NonIndexed", False)
    queue = made(JOB, parallelism=3)
    assert not queue.spec.HasField("completions") and queue.spec.parallelism == 3
    assert made(JOB, completions=3).spec.parallelism == 1
    for obj in (ds, job, queue, made(PDB, minAvailable="50%")):
        assert faults(obj) == []
        again = clone(obj)
        apply_defaults(again)
        assert again == obj


@pytest.mark.parametrize(
    ("text", "spec", "told"),
    [
        (DS, {"selector": {}}, "spec.selector: is required"),
        (
            DS,
            {"selector": {"matchLabels": {"app": "x"}}},
            "spec.template.metadata.labels: must match the selector app=x",
        ),
        (
            DS,
            {"selector": {"matchExpressions": [{"key": "a", "operator": "In"}]}},
            "spec.selector.matchExpressions[0].values: is required where operator is In",
        ),
        (DS, {"updateStrategy": {"type": "Now"}}, "spec.updateStrategy.type: must be one of RollingUpdate, OnDelete"),
        (
            DS,
            {"updateStrategy": {"rollingUpdate": {"maxSurge": 1}}},
            "spec.updateStrategy.rollingUpdate.maxSurge: must be 0 where maxUnavailable is not",
        ),
        (
            DS,
            {"updateStrategy": {"rollingUpdate": {"maxUnavailable": "0%"}}},
            "spec.updateStrategy.rollingUpdate.maxUnavailable: must not be 0 where maxSurge is 0",
        ),
        (
            DS,
            {"updateStrategy": {"rollingUpdate": {"maxUnavailable": "half"}}},
            "spec.updateStrategy.rollingUpdate.maxUnavailable: must be a number or a percentage (like 1 or 25%)",
        ),
        (DS, {"minReadySeconds": -1}, "spec.minReadySeconds: must be 0 or more, got -1"),
        (JOB, {"completions": -1}, "spec.completions: must be 0 or more, got -1"),
        (JOB, {"backoffLimit": -2}, "spec.backoffLimit: must be 0 or more, got -2"),
        (JOB, {"completionMode": "Often"}, "spec.completionMode: must be one of NonIndexed, Indexed"),
        (JOB, {"completionMode": "Indexed", "parallelism": 2}, "spec.completions: is required where completionMode is"),
        (JOB, {"selector": {"matchLabels": {"a": "b"}}}, "spec.selector: must be left out"),
        (
            JOB,
            {"template": {"spec": {"containers": [{"name": "pi", "image": "perl"}]}}},
            "spec.template.spec.restartPolicy: must be OnFailure or Never in a Job, got 'Always'",
        ),
        (PDB, {"minAvailable": 1, "maxUnavailable": 1}, "spec: must have minAvailable or maxUnavailable, has both"),
        (PDB, {"minAvailable": "101%"}, "spec.minAvailable: must be at most 100%, got 101%"),
        (PDB, {"maxUnavailable": -1}, "spec.maxUnavailable: must be 0 or more, got -1"),
        (
            PDB,
            {"unhealthyPodEvictionPolicy": "Never"},
            "spec.unhealthyPodEvictionPolicy: must be one of IfHealthyBudget",
        ),
    ],
)
def test_faults(text: str, spec: dict[str, Any], told: str) -> None:
    assert any(fault.startswith(told) for fault in faults(made(text, **spec))), faults(made(text, **spec))


def test_what_of_a_job_may_change() -> None:
    old = made(JOB, completions=3, parallelism=2)
    new = clone(old)
    new.spec.parallelism, new.spec.suspend, new.spec.backoffLimit = 5, True, 1
    assert faults(new, old) == []
    new.spec.completions = 4
    new.spec.template.spec.containers[0].image = "other"
    assert [fault.partition(":")[0] for fault in faults(new, old)] == ["spec.completions", "spec.template"]


def test_a_suspended_job_that_never_started_may_be_placed_elsewhere() -> None:
    old = made(JOB, suspend=True)
    new = clone(old)
    new.spec.template.spec.nodeSelector["disk"] = "ssd"
    new.spec.template.spec.tolerations.add(key="a", operator="Exists")
    assert faults(new, old) == []
    old.status.startTime.FromSeconds(5)
    assert faults(new, old)[0].startswith("spec.template: must not change")


def test_an_indexed_job_grows_and_shrinks_as_a_whole() -> None:
    old = made(JOB, completions=3, parallelism=3, completionMode="Indexed")
    new = clone(old)
    new.spec.completions = new.spec.parallelism = 5
    assert faults(new, old) == []
    new.spec.completions = 6
    assert faults(new, old)[0].startswith("spec.completions: must not change")


def test_the_selector_of_a_daemon_set_is_fixed() -> None:
    old = made(DS)
    new = clone(old)
    new.spec.selector.matchLabels["more"] = "1"
    new.spec.template.metadata.labels["more"] = "1"
    assert faults(new, old) == ["spec.selector: must not change: delete the object and create it anew"]
