"""An earlier template of a workload: what `rollout history` lists and `rollout undo` goes back to; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from protos.core_pb2 import PodTemplateSpec

CHANGE_CAUSE = "kubernetes.io/change-cause"


@dataclass(frozen=True)
class Revision:
    """`number` is 0 where none is known, `cause` empty where none was given; `template` is as the user wrote it."""

    number: int
    cause: str
    template: PodTemplateSpec

    def put_back(self, obj: Any) -> None:
        """Gives the workload this template and change cause."""
        obj.spec.template.CopyFrom(self.template)
        if self.cause:
            obj.metadata.annotations[CHANGE_CAUSE] = self.cause
        else:
            obj.metadata.annotations.pop(CHANGE_CAUSE, None)


def pick(revisions: Sequence[Revision], number: int) -> Revision | None:
    """The one of this number, of those in their order; 0: the last but one."""
    numbered = [one for one in revisions if one.number]
    if number:
        return next((one for one in numbered if one.number == number), None)
    return numbered[-2] if len(numbered) > 1 else None
