"""The tables of DaemonSets, Jobs, budgets and priority classes, as kubectl prints them."""

from __future__ import annotations

from typing import Any

import pytest

from cli.columns.registry import columns
from cli.describe.registry import draw
from common import kinds
from common.manifest import from_manifest
from tests.cli.making import NOW, ago

TEMPLATE: dict[str, Any] = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}


def made(kind: kinds.Kind, **fields: Any) -> Any:
    meta: dict[str, Any] = {"name": "x", "creationTimestamp": ago(600)}
    if kind.namespaced:
        meta["namespace"] = "default"
    return from_manifest({"apiVersion": kind.api_version, "kind": kind.kind, "metadata": meta, **fields}).message


def job(spec: dict[str, Any] | None = None, **status: Any) -> Any:
    return made(
        kinds.JOB, spec={"template": TEMPLATE, "completions": 5, "parallelism": 2, **(spec or {})}, status=status
    )


def held(kind: str) -> list[dict[str, str]]:
    return [{"type": kind, "status": "True"}]


CASES = [
    (
        made(
            kinds.DAEMON_SET,
            spec={"template": {**TEMPLATE, "spec": {**TEMPLATE["spec"], "nodeSelector": {"disk": "ssd"}}}},
            status={"desiredNumberScheduled": 5, "currentNumberScheduled": 4, "numberReady": 3,
                    "updatedNumberScheduled": 2, "numberAvailable": 1, "numberMisscheduled": 0},
        ),
        {"DESIRED": "5", "CURRENT": "4", "READY": "3", "UP-TO-DATE": "2", "AVAILABLE": "1", "NODE SELECTOR": "disk=ssd",
         "AGE": "10m", "CONTAINERS": "c", "IMAGES": "i:1"},
    ),
    (
        job(succeeded=2, startTime=ago(300)),
        {"STATUS": "Running", "COMPLETIONS": "2/5", "DURATION": "5m", "AGE": "10m"},
    ),
    (
        job(succeeded=5, startTime=ago(300), completionTime=ago(210), conditions=held("Complete")),
        {"STATUS": "Complete", "COMPLETIONS": "5/5", "DURATION": "90s"},
    ),
    (job(conditions=held("Failed")), {"STATUS": "Failed", "DURATION": ""}),
    (job(conditions=held("Suspended")), {"STATUS": "Suspended"}),
    (
        made(kinds.JOB, spec={"template": TEMPLATE, "parallelism": 3}, status={"succeeded": 1}),
        {"COMPLETIONS": "1/1 of 3"},
    ),
    (
        made(kinds.POD_DISRUPTION_BUDGET, spec={"maxUnavailable": "25%"}, status={"disruptionsAllowed": 3}),
        {"MIN AVAILABLE": "N/A", "MAX UNAVAILABLE": "25%", "ALLOWED DISRUPTIONS": "3"},
    ),
    (
        made(kinds.PRIORITY_CLASS, value=7, globalDefault=True, preemptionPolicy="Never"),
        {"VALUE": "7", "GLOBAL-DEFAULT": "true", "PREEMPTIONPOLICY": "Never"},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("obj", "expected"), CASES)
def test_cells(obj: Any, expected: dict[str, str]) -> None:
    cells = {column.heading: column.cell(obj, NOW) for column in columns(kinds.of(obj).kind, wide=True)}
    assert {heading: cells[heading] for heading in expected} == expected


@pytest.mark.parametrize(("obj", "expected"), CASES)
def test_each_has_a_page(obj: Any, expected: dict[str, str]) -> None:
    page = draw(kinds.of(obj).kind, obj, [], [], NOW)
    assert page.startswith("Name:") and "Events:" in page
    assert "None" not in page
