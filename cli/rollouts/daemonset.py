"""The revisions of a DaemonSet, from its ControllerRevisions; pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from cli.rollouts.revision import CHANGE_CAUSE, Revision

if TYPE_CHECKING:
    from protos.apps_pb2 import ControllerRevision, DaemonSet


def revisions(obj: DaemonSet, kept: Iterable[ControllerRevision]) -> list[Revision]:
    """The set's own, lowest revision first."""
    uid = obj.metadata.uid
    mine = [one for one in kept if any(ref.controller and ref.uid == uid for ref in one.metadata.ownerReferences)]
    return [_revision(one) for one in sorted(mine, key=lambda one: one.revision)]


def _revision(kept: ControllerRevision) -> Revision:
    from common.manifest import read_into
    from common.scalars import write_object
    from protos.core_pb2 import PodTemplateSpec

    doc = dict(write_object(kept.data).get("spec", {}).get("template", {}))
    doc.pop("$patch", None)
    template = PodTemplateSpec()
    read_into(template, doc, "data.spec.template")
    return Revision(kept.revision, kept.metadata.annotations.get(CHANGE_CAUSE, ""), template)
