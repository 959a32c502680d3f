"""One image per ReplicaSet, whatever becomes of its tag: the digest the first pod got is given to all later ones; pure.

The node reports what a container's image is: `docker-pullable://REPO@sha256:…` for one of a registry, else only the
engine's own `docker://sha256:…`, which no other node can pull: there a difference is told, and no more can be done.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from master.controllers.plan import Action, Change, Note
from master.controllers.pods import controller_of, is_active, is_ready, seconds
from master.store.store import key_of
from protos import apps_pb2, core_pb2

PINS = "sampan.dev/image-digests"
"""On a ReplicaSet and its pods: JSON, image -> REPO@sha256:…; the agent takes these in place of the tags."""
MIXED = "sampan.dev/mixed-images"
"""On a ReplicaSet: which images without a digest were seen to differ, so that it is told once."""
ALONE_SECONDS = 30.0
"""For so long the first pod alone may find out what the tags mean; then its node has a trouble of its own."""
_PULLABLE = "docker-pullable://"
_LOCAL = "docker://"


@dataclass(frozen=True)
class Pins:
    """`known` digests by image; `alone`: make one pod first, or none while it finds out; in `again` seconds look."""

    known: Mapping[str, str]
    alone: bool
    actions: tuple[Action, ...] = ()
    again: float | None = None


NONE = Pins({}, False)


def pins(rs: apps_pb2.ReplicaSet, pods: Iterable[core_pb2.Pod], now: float) -> Pins:
    """What the set's pods (its own, active ones count) say of its images. Only sets of a Deployment are pinned."""
    owner = controller_of(rs)
    if owner is None or owner.kind != "Deployment":
        return NONE
    spec = rs.spec.template.spec
    wanted = {one.image for one in (*spec.initContainers, *spec.containers) if "@" not in one.image}
    known = {name: pin for name, pin in read(rs.metadata.annotations).items() if name in wanted}
    mine = sorted(
        (pod for pod in pods if is_active(pod) and (one := controller_of(pod)) and one.uid == rs.metadata.uid),
        key=lambda pod: (seconds(pod.metadata.creationTimestamp), pod.metadata.name),
    )
    found, local = dict(known), dict[str, set[str]]()
    for pod in mine:
        for name, image in _images(pod).items():
            if name not in wanted:
                continue
            if image.startswith(_PULLABLE):
                found.setdefault(name, image.removeprefix(_PULLABLE))
            elif image.startswith(_LOCAL):
                local.setdefault(name, set()).add(image.removeprefix(_LOCAL))
    actions: list[Action] = []
    if found != known:
        actions.append(_write(rs, PINS, json.dumps(found, sort_keys=True)))
    actions += _mixed(rs, {name: ids for name, ids in local.items() if name not in found})
    # A container whose image only its node has will have no digest: nothing to wait for.
    open_ = [name for name in wanted if name not in found and name not in local]
    ages = [now - seconds(pod.metadata.creationTimestamp) for pod in mine]
    alone = bool(open_) and not any(is_ready(pod) for pod in mine) and all(age < ALONE_SECONDS for age in ages)
    return Pins(found, alone, tuple(actions), ALONE_SECONDS - max(ages) if alone and ages else None)


def read(annotations: Mapping[str, str]) -> dict[str, str]:
    """The digests an object carries; nothing where they can't be read."""
    try:
        held: Any = json.loads(annotations.get(PINS, "{}"))
    except ValueError:
        return {}
    if not isinstance(held, dict):
        return {}
    return {name: pin for name, pin in held.items() if isinstance(name, str) and isinstance(pin, str)}


def mark(pod: core_pb2.Pod, known: Mapping[str, str]) -> None:
    """Gives a new pod the digests."""
    if known:
        pod.metadata.annotations[PINS] = json.dumps(dict(known), sort_keys=True)


def _images(pod: core_pb2.Pod) -> dict[str, str]:
    """What the node says of the images the pod asks for."""
    asked = {one.name: one.image for one in (*pod.spec.initContainers, *pod.spec.containers)}
    statuses: Sequence[core_pb2.ContainerStatus] = (*pod.status.initContainerStatuses, *pod.status.containerStatuses)
    return {asked[status.name]: status.imageID for status in statuses if status.imageID and status.name in asked}


def _mixed(rs: apps_pb2.ReplicaSet, local: Mapping[str, set[str]]) -> list[Action]:
    different = {name: sorted(ids) for name, ids in local.items() if len(ids) > 1}
    text = json.dumps(different, sort_keys=True)
    if not different or rs.metadata.annotations.get(MIXED) == text:
        return []
    name, ids = next(iter(different.items()))
    message = (
        f"Image {name} is not the same on all nodes ({', '.join(ids)}) and has no "
        "digest of a registry: push it to one, or load the same image onto every node"
    )
    return [_write(rs, MIXED, text), Note(rs, "Warning", "MixedImages", message)]


def _write(rs: apps_pb2.ReplicaSet, name: str, text: str) -> Change:
    def change(newest: apps_pb2.ReplicaSet) -> None:
        newest.metadata.annotations[name] = text

    return Change(key_of(rs), rs.metadata.uid, "pin", change)
