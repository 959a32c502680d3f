"""The templates that a DaemonSet had, one ControllerRevision each: made, numbered, dropped when too many; pure.

Form and rules are Kubernetes' daemon controller's, so that `kubectl rollout undo` reads them too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from common.manifest import to_manifest
from common.selectors import LabelSelector
from master.controllers.claiming import Claimer
from master.controllers.daemon_update import HASH_LABEL
from master.controllers.plan import Action, Change, Create, Delete
from master.controllers.pods import is_terminating, seconds
from master.store.store import key_of
from protos import apps_pb2, core_pb2

KIND = "ControllerRevision"
CHANGE_CAUSE = "kubernetes.io/change-cause"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def reconcile(
    ds: apps_pb2.DaemonSet,
    selector: LabelSelector | None,
    revisions: Iterable[apps_pb2.ControllerRevision],
    pods: Iterable[core_pb2.Pod],
    digest: str,
) -> tuple[Action, ...]:
    """Keeps the present template, of this hash, as the newest, and of older ones `revisionHistoryLimit`.

    `revisions`: at least all of the namespace that the selector matches or the set owns. What pods still have stays.
    """
    if is_terminating(ds):
        return ()
    claimer = Claimer(ds, selector)
    mine, adopt, release = claimer.claim(revisions)
    held = [one for one in (*mine, *adopt) if not is_terminating(one)]
    current = next((one for one in held if one.metadata.labels.get(HASH_LABEL) == digest), None)
    old = [one for one in held if one is not current]
    number = 1 + max((one.revision for one in old), default=0)
    actions = claimer.actions(adopt, release)
    if current is None:
        actions.append(Create(_made(ds, claimer, digest, number)))
    elif current.revision < number or current.metadata.annotations.get(CHANGE_CAUSE) != _cause(ds):
        actions.append(_renewed(ds, current, number))
    used = {pod.metadata.labels.get(HASH_LABEL, "") for pod in pods}
    unused = [one for one in old if one.metadata.labels.get(HASH_LABEL) not in used]
    unused.sort(key=lambda one: (one.revision, seconds(one.metadata.creationTimestamp)))
    surplus = unused[: max(0, len(old) - ds.spec.revisionHistoryLimit)]
    return (*actions, *(Delete(key_of(one), one.metadata.uid) for one in surplus))


def data_of(template: core_pb2.PodTemplateSpec) -> bytes:
    """The patch that makes a set's template this one, as JSON."""
    patch = {"spec": {"template": {**to_manifest(template), "$patch": "replace"}}}
    return json.dumps(patch, ensure_ascii=False, separators=(",", ":")).encode()


def _cause(ds: apps_pb2.DaemonSet) -> str | None:
    return ds.metadata.annotations.get(CHANGE_CAUSE)


def _made(ds: apps_pb2.DaemonSet, claimer: Claimer, digest: str, number: int) -> apps_pb2.ControllerRevision:
    made = apps_pb2.ControllerRevision(revision=number)
    meta = made.metadata
    meta.name, meta.namespace = f"{ds.metadata.name}-{digest}", ds.metadata.namespace
    meta.labels.update(ds.spec.template.metadata.labels)
    meta.labels[HASH_LABEL] = digest
    meta.annotations.update({name: text for name, text in ds.metadata.annotations.items() if name != LAST_APPLIED})
    meta.ownerReferences.append(claimer.reference())
    made.data.raw = data_of(ds.spec.template)
    return made


def _renewed(ds: apps_pb2.DaemonSet, current: apps_pb2.ControllerRevision, number: int) -> Change:
    """The template is (again) the newest, for the reason that the set gives."""
    cause = _cause(ds)

    def change(newest: apps_pb2.ControllerRevision) -> None:
        newest.revision = max(newest.revision, number)
        if cause is None:
            newest.metadata.annotations.pop(CHANGE_CAUSE, None)
        else:
            newest.metadata.annotations[CHANGE_CAUSE] = cause

    return Change(key_of(current), current.metadata.uid, "revision", change)
