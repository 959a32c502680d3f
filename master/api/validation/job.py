"""Rules about Jobs, and what of one may change."""

from __future__ import annotations

from common import names
from master.api.defaults.job import UID_LABEL, generates_selector
from master.api.validation.faults import Faults
from master.api.validation.template import unchanged, validate_template
from protos import batch_pb2, core_pb2

MOST_INDEXED = 100_000
"""Pods of an Indexed Job at once, and indexes of one: Kubernetes' limits, with the list of indexes in mind."""


def validate_job(job: batch_pb2.Job, faults: Faults) -> None:
    spec = job.spec
    if generates_selector(job):
        # What the server makes is made from the uid: a selector that was written down is another Job's.
        made = {UID_LABEL: job.metadata.uid}
        if spec.selector.matchExpressions or dict(spec.selector.matchLabels) != made:
            faults.add("spec.selector", "must be left out (the server makes it), unless spec.manualSelector is true")
    restarts = ("OnFailure", "Never")
    validate_template("Job", spec.selector, spec.template, faults, restarts=restarts)
    for name in ("parallelism", "completions", "backoffLimit", "ttlSecondsAfterFinished", "activeDeadlineSeconds"):
        faults.at_least(f"spec.{name}", getattr(spec, name), 0)
    faults.one_of("spec.completionMode", spec.completionMode, ("NonIndexed", "Indexed"))
    if spec.completionMode == "Indexed":
        _indexed(job, faults)


def _indexed(job: batch_pb2.Job, faults: Faults) -> None:
    spec = job.spec
    if not spec.HasField("completions"):
        faults.add("spec.completions", "is required where completionMode is Indexed")
        return
    for name in ("parallelism", "completions"):
        if getattr(spec, name) > MOST_INDEXED:
            faults.add(f"spec.{name}", f"must be at most {MOST_INDEXED} where completionMode is Indexed")
    longest = f"{job.metadata.name}-{max(0, spec.completions - 1)}"
    if job.metadata.name and names.label_fault(longest):
        faults.add(
            "metadata.name", f"must be a label of a host name with -INDEX behind it (at most 63 letters): {longest!r}"
        )


def validate_job_update(new: batch_pb2.Job, old: batch_pb2.Job, faults: Faults) -> None:
    """Fixed are selector, mode and template, and completions but of an Indexed Job together with parallelism."""
    unchanged("spec.selector", new.spec.selector, old.spec.selector, faults)
    unchanged("spec.completionMode", new.spec.completionMode, old.spec.completionMode, faults)
    kept = (new.spec.HasField("completions"), new.spec.completions) == (
        old.spec.HasField("completions"),
        old.spec.completions,
    )
    elastic = new.spec.completionMode == "Indexed" and new.spec.completions == new.spec.parallelism
    if not kept and not elastic:
        faults.add("spec.completions", "must not change (of an Indexed Job only together with, and to, parallelism)")
    if _comparable(new, old) != old.spec.template:
        faults.add(
            "spec.template",
            "must not change, but of a suspended Job that never started its placement (nodeSelector, affinity, "
            "tolerations, labels and annotations)",
        )


def _comparable(new: batch_pb2.Job, old: batch_pb2.Job) -> core_pb2.PodTemplateSpec:
    """The new template, with the old one's where a difference is allowed."""
    template = core_pb2.PodTemplateSpec()
    template.CopyFrom(new.spec.template)
    if not old.spec.suspend or old.status.HasField("startTime") or old.status.active:
        return template
    was = old.spec.template
    template.metadata.CopyFrom(was.metadata)
    template.spec.nodeSelector.clear()
    template.spec.nodeSelector.update(was.spec.nodeSelector)
    del template.spec.tolerations[:]
    template.spec.tolerations.extend(was.spec.tolerations)
    template.spec.ClearField("affinity")
    if was.spec.HasField("affinity"):
        template.spec.affinity.CopyFrom(was.spec.affinity)
    return template
