"""Kubernetes' defaults for Jobs, and the selector that the server makes."""

from __future__ import annotations

from master.api.defaults.pod import default_pod_spec
from protos import batch_pb2

UID_LABEL, NAME_LABEL = "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"
OLD_UID_LABEL, OLD_NAME_LABEL = "controller-uid", "job-name"
"""The names of the same labels from before Kubernetes 1.27, which many a `kubectl get pods -l` still uses."""
_GENERATED = frozenset({UID_LABEL, NAME_LABEL, OLD_UID_LABEL, OLD_NAME_LABEL})


def default_job(job: batch_pb2.Job) -> None:
    spec = job.spec
    if not spec.HasField("completions") and not spec.HasField("parallelism"):
        spec.completions = 1
    if not spec.HasField("parallelism"):
        spec.parallelism = 1
    if not spec.HasField("backoffLimit"):
        spec.backoffLimit = 6
    if not spec.HasField("completionMode"):
        spec.completionMode = "NonIndexed"
    if not spec.HasField("suspend"):
        spec.suspend = False
    if not spec.HasField("podReplacementPolicy"):
        spec.podReplacementPolicy = "TerminatingOrFailed"
    if not job.metadata.labels:
        given = {key: text for key, text in spec.template.metadata.labels.items() if key not in _GENERATED}
        job.metadata.labels.update(given)
    default_pod_spec(spec.template.spec)


def generates_selector(job: batch_pb2.Job) -> bool:
    """Whether the server makes selector and labels: unless manualSelector is true."""
    return not job.spec.manualSelector


def add_selector(job: batch_pb2.Job) -> None:
    """Makes a new Job's selector and the labels of its pods from its uid and name; a second time changes nothing."""
    if not generates_selector(job):
        return
    labels, uid = job.spec.template.metadata.labels, job.metadata.uid
    labels[UID_LABEL] = labels[OLD_UID_LABEL] = uid
    labels[NAME_LABEL] = labels[OLD_NAME_LABEL] = job.metadata.name
    if not job.spec.HasField("selector"):
        job.spec.selector.matchLabels[UID_LABEL] = uid
