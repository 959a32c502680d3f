"""Rules that all workloads share: the selector, the pod template behind it, and numbers that may be percentages."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from common.errors import BadRequest
from common.selectors import from_message
from master.api.validation.faults import Faults
from master.api.validation.meta import validate_labels
from master.api.validation.pod import validate_pod_spec
from master.api.validation.selector import validate_selector
from master.controllers.amounts import percent_of, text_of
from protos import core_pb2, meta_pb2


def validate_template(
    kind: str,
    selector: meta_pb2.LabelSelector,
    template: core_pb2.PodTemplateSpec,
    faults: Faults,
    *,
    restarts: Collection[str] = ("Always",),
) -> None:
    """A pod template at spec.template whose labels the selector at spec.selector must match."""
    labels = template.metadata.labels
    validate_selector("spec.selector", selector, faults)
    validate_labels("spec.template.metadata.labels", labels, faults)
    if not selector.ListFields():
        faults.add("spec.selector", "is required (matchLabels with labels of spec.template.metadata.labels)")
    else:
        _matches(selector, labels, faults)
    validate_pod_spec("spec.template.spec", template.spec, faults)
    if template.spec.restartPolicy not in restarts:
        faults.add(
            "spec.template.spec.restartPolicy",
            f"must be {' or '.join(restarts)} in a {kind}, got {template.spec.restartPolicy!r}",
        )


def _matches(selector: meta_pb2.LabelSelector, labels: Any, faults: Faults) -> None:
    try:
        wanted = from_message(selector)
    except BadRequest:
        return
    if not wanted.matches(labels):
        given = ", ".join(f"{key}={labels[key]}" for key in sorted(labels)) or "none"
        faults.add("spec.template.metadata.labels", f"must match the selector {wanted}, got {given}")


def unchanged(path: str, new: Any, old: Any, faults: Faults) -> None:
    """A field that is fixed once the object is there."""
    if new != old:
        faults.add(path, "must not change: delete the object and create it anew")


def validate_amount(path: str, value: meta_pb2.IntOrString, faults: Faults, *, most: int = 100) -> None:
    """A number that is not negative, or a percentage up to `most`."""
    percent = percent_of(value)
    if value.type == 0:
        faults.at_least(path, value.intVal, 0)
    elif percent is None:
        faults.add(path, f"must be a number or a percentage (like 1 or 25%), got {text_of(value)!r}")
    elif percent > most:
        faults.add(path, f"must be at most {most}%, got {percent}%")
