"""Which pods of a node a drain may take, which it leaves, and what keeps it from beginning; pure.

Rules and words: kubectl drain.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protos.core_pb2 import Pod
    from protos.meta_pb2 import OwnerReference

DAEMON_FATAL = "cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore)"
DAEMON_WARNING = "ignoring DaemonSet-managed Pods"
STORAGE_FATAL = "cannot delete Pods with local storage (use --delete-emptydir-data to override)"
STORAGE_WARNING = "deleting Pods with local storage"
ALONE_FATAL = "cannot delete Pods that declare no controller (use --force to override)"
ALONE_WARNING = "deleting Pods that declare no controller"
ORPHAN_FATAL = "cannot delete DaemonSet-managed Pods whose DaemonSet is gone (use --force to override)"
ORPHAN_WARNING = "deleting DaemonSet-managed Pods whose DaemonSet is gone"
_FINISHED = ("Succeeded", "Failed")


@dataclass(frozen=True)
class Allowed:
    """What the user has agreed to on the command line."""

    force: bool = False
    ignore_daemonsets: bool = False
    delete_emptydir_data: bool = False


@dataclass
class Selection:
    """`going` will be evicted; `fatal` and `warnings` map a sentence to the pods (NAMESPACE/NAME) it is about."""

    going: list[Pod] = field(default_factory=list)
    fatal: dict[str, list[str]] = field(default_factory=dict)
    warnings: dict[str, list[str]] = field(default_factory=dict)

    def problem(self) -> str:
        """Why the node cannot be drained so; empty when it can."""
        return "; ".join(_sentences(self.fatal))

    def remarks(self) -> list[str]:
        """One sentence for each warning."""
        return _sentences(self.warnings)


def choose(pods: Iterable[Pod], allowed: Allowed, daemon_sets: Iterable[str]) -> Selection:
    """Sorts a node's pods; `daemon_sets` are the uids of those that exist."""
    uids = frozenset(daemon_sets)
    chosen = Selection()
    for pod in pods:
        if _judge(pod, allowed, uids, chosen):
            chosen.going.append(pod)
    return chosen


def _judge(pod: Pod, allowed: Allowed, daemon_sets: frozenset[str], into: Selection) -> bool:
    """Whether the pod goes; what is to be said about it is put into the selection."""
    name = f"{pod.metadata.namespace}/{pod.metadata.name}"
    finished = pod.status.phase in _FINISHED
    owner = _controller(pod)
    if owner is not None and owner.kind == "DaemonSet" and not finished:
        if owner.uid in daemon_sets:
            # Its controller would make it anew at once, whatever the node's taint says.
            known = into.warnings if allowed.ignore_daemonsets else into.fatal
            known.setdefault(DAEMON_WARNING if allowed.ignore_daemonsets else DAEMON_FATAL, []).append(name)
            return False
        if not _agreed(allowed.force, ORPHAN_FATAL, ORPHAN_WARNING, name, into):
            return False
    if finished:
        return True
    local = any(volume.volumeSource.HasField("emptyDir") for volume in pod.spec.volumes)
    goes = not local or _agreed(allowed.delete_emptydir_data, STORAGE_FATAL, STORAGE_WARNING, name, into)
    if owner is None:
        goes = _agreed(allowed.force, ALONE_FATAL, ALONE_WARNING, name, into) and goes
    return goes


def _agreed(yes: bool, fatal: str, warning: str, name: str, into: Selection) -> bool:
    (into.warnings if yes else into.fatal).setdefault(warning if yes else fatal, []).append(name)
    return yes


def _controller(pod: Pod) -> OwnerReference | None:
    return next((reference for reference in pod.metadata.ownerReferences if reference.controller), None)


def _sentences(said: dict[str, list[str]]) -> list[str]:
    return [f"{text}: {', '.join(sorted(names))}" for text, names in said.items()]
