"""Priorities of pods come from classes, there is one default class, and a Job gets the selector of its uid."""

from __future__ import annotations

import pytest

from common.errors import Invalid
from master.api.apply import UNCHANGED, apply
from master.api.resources import Resources
from master.store.store import clone
from protos import scheduling_pb2
from tests.master.api.making import pod, read

JOB = """
apiVersion: batch/v1
kind: Job
metadata: {name: pi, namespace: default}
spec:
  template:
    metadata: {labels: {app: pi}}
    spec: {restartPolicy: Never, containers: [{name: pi, image: perl}]}
"""


def a_class(name: str, value: int, **fields: object) -> scheduling_pb2.PriorityClass:
    made = scheduling_pb2.PriorityClass(value=value, **fields)  # type: ignore[arg-type]
    made.metadata.name = name
    return made


async def test_pods_get_the_priority_of_their_class(resources: Resources) -> None:
    await resources.create(a_class("high", 1000, preemptionPolicy="Never"))
    made = await resources.create(pod("a", priorityClassName="high"))
    assert (made.spec.priority, made.spec.preemptionPolicy) == (1000, "Never")
    plain = await resources.create(pod("b"))
    assert (plain.spec.priority, plain.spec.preemptionPolicy) == (0, "PreemptLowerPriority")
    system = await resources.create(pod("c", priorityClassName="system-node-critical"))
    assert system.spec.priority == 2_000_001_000
    with pytest.raises(Invalid, match=r'spec.priorityClassName: there is no PriorityClass "low" \(there are high, sys'):
        await resources.create(pod("d", priorityClassName="low"))
    with pytest.raises(Invalid, match=r"spec.priority: must be left out: .* is 1000, got 7"):
        await resources.create(pod("e", priorityClassName="high", priority=7))


async def test_the_default_class_is_one(resources: Resources) -> None:
    await resources.create(a_class("usual", 5, globalDefault=True))
    made = await resources.create(pod("a"))
    assert (made.spec.priorityClassName, made.spec.priority) == ("usual", 5)
    with pytest.raises(Invalid, match='globalDefault: must be true of one class only, and is of "usual" already'):
        await resources.create(a_class("other", 6, globalDefault=True))

    def drop(newest: scheduling_pb2.PriorityClass) -> None:
        newest.globalDefault = False

    await resources.mutate("PriorityClass", "", "usual", drop)
    await resources.create(a_class("other", 6, globalDefault=True))
    # What a pod was given stays, though the default is another now.
    assert (await apply(resources, pod("a"))).obj.spec.priority == 5


async def test_names_values_and_changes_of_classes(resources: Resources) -> None:
    with pytest.raises(Invalid, match="must not start with system-"):
        await resources.create(a_class("system-mine", 5))
    with pytest.raises(Invalid, match="value: must be at most 1000000000"):
        await resources.create(a_class("much", 1_000_000_001))
    with pytest.raises(Invalid, match="preemptionPolicy: must be one of"):
        await resources.create(a_class("odd", 1, preemptionPolicy="Maybe"))
    made = clone(await resources.create(a_class("high", 5)))
    assert made.preemptionPolicy == "PreemptLowerPriority"
    made.value = 6
    with pytest.raises(Invalid, match="value: must not change"):
        await resources.update(made)


async def test_a_job_gets_its_selector_and_keeps_it(resources: Resources) -> None:
    first = (await apply(resources, read(JOB))).obj
    uid, labels = first.metadata.uid, first.spec.template.metadata.labels
    assert dict(first.spec.selector.matchLabels) == {"batch.kubernetes.io/controller-uid": uid}
    assert labels["controller-uid"] == uid and labels["job-name"] == "pi" and labels["app"] == "pi"
    assert (await apply(resources, read(JOB))).outcome == UNCHANGED
    copy = clone(first)
    copy.metadata.name = "copy"
    with pytest.raises(Invalid, match=r"spec.selector: must be left out"):
        await resources.create(copy)


async def test_a_generated_name_is_in_the_labels(resources: Resources) -> None:
    nameless = read(JOB)
    nameless.metadata.name, nameless.metadata.generateName = "", "pi-"
    made = await resources.create(nameless)
    assert made.metadata.name.startswith("pi-")
    assert made.spec.template.metadata.labels["batch.kubernetes.io/job-name"] == made.metadata.name
